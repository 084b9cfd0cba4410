package servers

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Coder is github.com/coder/websocket as its chat example has it: for each subscriber a goroutine that
// writes what comes through a buffered channel, each message with a timeout of five seconds, and
// CloseRead; a subscriber whose channel is full is closed.
//
//	https://github.com/coder/websocket/tree/v1.8.15/internal/examples/chat
//
// Unlike the example it reads messages from a publisher's connection, not from POST requests at a
// limited rate, and the channels hold 256 messages as gorilla's do: with the example's 16 every
// subscriber is closed when a window of 64 arrives at once.
func Coder() (Server, error) {
	s := &coderServer{subscribers: newRoster[*coderSubscriber]()}
	address, err := serve(s.subscribe, s.publish)
	return Server{Address: address, Lost: func() (messages, clients uint64) { return 0, s.slow.Load() }}, err
}

const coderWriteTimeout = 5 * time.Second

type coderServer struct {
	subscribers *roster[*coderSubscriber]
	slow        atomic.Uint64 // subscribers closed
}

type coderSubscriber struct {
	msgs chan []byte
	conn *websocket.Conn
}

func (s *coderServer) subscribe(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has been answered
	}
	defer func() { _ = c.CloseNow() }()
	sub := &coderSubscriber{msgs: make(chan []byte, queued), conn: c}
	sub.msgs <- []byte(greeting)
	s.subscribers.add(sub)
	defer s.subscribers.remove(sub)
	ctx := c.CloseRead(context.Background())
	for {
		select {
		case m := <-sub.msgs:
			if err := coderWrite(ctx, c, m); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func coderWrite(ctx context.Context, c *websocket.Conn, m []byte) error {
	ctx, cancel := context.WithTimeout(ctx, coderWriteTimeout)
	defer cancel()
	return c.Write(ctx, websocket.MessageText, m)
}

func (s *coderServer) publish(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		_, m, err := c.Read(context.Background())
		if err != nil {
			return
		}
		s.subscribers.each(func(sub *coderSubscriber) {
			select {
			case sub.msgs <- m:
			default:
				s.slow.Add(1)
				go func() { // ends with the closing handshake, or its timeout
					_ = sub.conn.Close(websocket.StatusPolicyViolation, "connection too slow to keep up with messages")
				}()
			}
		})
	}
}
