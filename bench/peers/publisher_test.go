package peers

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/alkdev/hub/internal/fleet"
)

// publisher is a WebSocket connection on which events are sent. What comes back is discarded.
type publisher struct {
	conn net.Conn
	out  []byte
}

// dialPatience is how long the handshake and each write may take.
const dialPatience = 10 * time.Second

// dial connects the publisher. It is the last to come: the floor takes no clients afterwards.
func (p *peer) dial(address string) (*publisher, error) {
	conn, err := net.Dial("tcp4", address)
	if err != nil {
		return nil, err
	}
	// The key is the example of RFC 6455 section 1.3, which is what the floor answers.
	request := "GET " + p.publisher + " HTTP/1.1\r\nHost: " + address + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if err := upgrade(conn, request); err != nil {
		_ = conn.Close()
		return nil, err
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with close
	if _, err := conn.Write(p.hello); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &publisher{conn: conn}, nil
}

// upgrade sends the request and reads until the end of the answer's head, and what comes with it.
func upgrade(conn net.Conn, request string) error {
	if err := conn.SetReadDeadline(time.Now().Add(dialPatience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	var head []byte
	for buf := make([]byte, 4096); !bytes.Contains(head, []byte("\r\n\r\n")); {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("the publisher's handshake: %w", err)
		}
		head = append(head, buf[:n]...)
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("the publisher's handshake was answered with %q", head)
	}
	return conn.SetReadDeadline(time.Time{})
}

// publish waits for room and sends, with one write(2), as many events as the window then allows.
func (p *publisher) publish(w *fleet.Window, m message) error {
	if err := w.Room(); err != nil {
		return err
	}
	p.out = p.out[:0]
	for !w.Full() {
		at := len(p.out)
		p.out = append(p.out, m.sent...)
		fleet.PutNumber(p.out[at+m.numberAt:], w.Stamp())
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(dialPatience)); err != nil {
		return err
	}
	_, err := p.conn.Write(p.out)
	return err
}

func (p *publisher) close() { _ = p.conn.Close() }
