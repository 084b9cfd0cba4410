package servers

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Gorilla is github.com/gorilla/websocket as its chat example has it: one goroutine that owns the map
// of clients, for each client a read pump, a write pump and a buffered channel of 256, a write
// deadline for every message, buffers of 1,024 bytes; a client whose channel is full is cut off.
//
//	https://github.com/gorilla/websocket/tree/v1.5.3/examples/chat
//
// Unlike the example it sends a PreparedMessage, as the package recommends for a message to many:
//
//	https://pkg.go.dev/github.com/gorilla/websocket@v1.5.3#PreparedMessage
//
// So the write pump does not join what is queued into one message, as the example does; it would not
// be the same messages either. A broadcaster with a goroutine per client is what makes it cost more
// than a write: each message wakes each of them.
func Gorilla() (Server, error) {
	h := &gorillaHub{
		clients:    make(map[*gorillaClient]bool),
		broadcast:  make(chan *websocket.PreparedMessage),
		register:   make(chan *gorillaClient),
		unregister: make(chan *gorillaClient),
	}
	go h.run()
	address, err := serve(h.serveClient, h.servePublisher)
	return Server{Address: address, Lost: func() (messages, clients uint64) { return 0, h.slow.Load() }}, err
}

// The times and sizes of the example, but for pings.
const (
	gorillaWriteWait  = 10 * time.Second
	gorillaPongWait   = Forever
	gorillaPingPeriod = gorillaPongWait * 9 / 10
	gorillaMaxMessage = 64 << 10
)

var gorillaUpgrader = websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}

type gorillaHub struct {
	clients    map[*gorillaClient]bool // of run alone
	broadcast  chan *websocket.PreparedMessage
	register   chan *gorillaClient
	unregister chan *gorillaClient
	slow       atomic.Uint64 // clients cut off
}

func (h *gorillaHub) run() {
	for {
		select {
		case c := <-h.register:
			h.clients[c] = true
			c.send <- gorillaPrepared([]byte(greeting))
		case c := <-h.unregister:
			if h.clients[c] {
				delete(h.clients, c)
				close(c.send)
			}
		case m := <-h.broadcast:
			for c := range h.clients {
				select {
				case c.send <- m:
				default:
					h.slow.Add(1)
					close(c.send)
					delete(h.clients, c)
				}
			}
		}
	}
}

func gorillaPrepared(text []byte) *websocket.PreparedMessage {
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	if err != nil {
		panic(err) // only an unknown type of message is an error
	}
	return m
}

type gorillaClient struct {
	hub  *gorillaHub
	conn *websocket.Conn
	send chan *websocket.PreparedMessage // closed by the hub
}

func (h *gorillaHub) serveClient(w http.ResponseWriter, r *http.Request) {
	conn, err := gorillaUpgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has been answered
	}
	c := &gorillaClient{hub: h, conn: conn, send: make(chan *websocket.PreparedMessage, queued)}
	h.register <- c
	go c.writePump() // ends when the hub closes send, or a write fails
	go c.readPump()  // ends with the connection
}

// servePublisher is the read pump of the publisher, who gets nothing.
func (h *gorillaHub) servePublisher(w http.ResponseWriter, r *http.Request) {
	conn, err := gorillaUpgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetReadLimit(gorillaMaxMessage)
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			return
		}
		h.broadcast <- gorillaPrepared(message)
	}
}

func (c *gorillaClient) readPump() {
	defer func() {
		c.hub.unregister <- c
		_ = c.conn.Close()
	}()
	c.conn.SetReadLimit(gorillaMaxMessage)
	_ = c.conn.SetReadDeadline(time.Now().Add(gorillaPongWait))
	c.conn.SetPongHandler(func(string) error {
		return c.conn.SetReadDeadline(time.Now().Add(gorillaPongWait))
	})
	for {
		if _, _, err := c.conn.ReadMessage(); err != nil {
			return
		}
	}
}

func (c *gorillaClient) writePump() {
	ticker := time.NewTicker(gorillaPingPeriod)
	defer func() {
		ticker.Stop()
		_ = c.conn.Close()
	}()
	for {
		select {
		case m, ok := <-c.send:
			_ = c.conn.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
			if !ok {
				_ = c.conn.WriteMessage(websocket.CloseMessage, []byte{})
				return
			}
			if err := c.conn.WritePreparedMessage(m); err != nil {
				return
			}
		case <-ticker.C:
			_ = c.conn.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
			if err := c.conn.WriteMessage(websocket.PingMessage, nil); err != nil {
				return
			}
		}
	}
}
