package loadgen

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/bytedance/sonic"
	"github.com/gobwas/ws"

	"github.com/alkdev/hub/codec"
)

// spokePublisher is one more spoke, which publishes and gets nothing of its own back.
type spokePublisher struct {
	// Set by newSpokePublisher, read-only afterwards.
	conn    net.Conn
	ledger  *ledger
	reading sync.WaitGroup // read

	// The publishing goroutine only.
	batch []byte

	// mu keeps frames in one piece; refused and readErr are set by read.
	mu sync.Mutex
	// +checklocks:mu
	refused string
	// +checklocks:mu
	readErr error
}

func newSpokePublisher(ctx context.Context, r *run) (*spokePublisher, error) {
	// A topic that nobody publishes to: the publisher shall not be one more that takes every event.
	conn, br, err := r.handshake(ctx, (&spoke{topic: -1}).address(r.config.URL, 1), r.source(0), false)
	if err != nil {
		return nil, err
	}
	p := &spokePublisher{conn: conn, ledger: r.ledger}
	p.reading.Go(func() { p.read(br) })
	return p, nil
}

func (p *spokePublisher) add(event []byte) {
	p.batch = append(p.batch, ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame(event)))...)
}

func (p *spokePublisher) flush() error {
	defer func() { p.batch = p.batch[:0] }()
	if err := p.write(p.batch); err != nil {
		return fmt.Errorf("the publishing spoke: %w", err)
	}
	return nil
}

func (p *spokePublisher) write(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readErr != nil {
		return p.readErr // which says more than a broken pipe
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(publishTimeout))
	_, err := p.conn.Write(b)
	return err
}

// read takes the hub's answers until the connection ends.
func (p *spokePublisher) read(br *bufio.Reader) {
	var from io.Reader = p.conn
	if br != nil {
		from = br
		defer ws.PutReader(br)
	}
	var frames framer
	var header headerReader
	buf := make([]byte, tlsReadBytes)
	for {
		n, err := from.Read(buf)
		if ferr := frames.feed(&header, buf[:n], p.onFrame); ferr != nil {
			err = ferr
		}
		if err != nil {
			p.mu.Lock()
			p.readErr = err
			p.mu.Unlock()
			return
		}
	}
}

func (p *spokePublisher) onFrame(op ws.OpCode, payload []byte) error {
	switch op {
	case ws.OpPing:
		return p.write(ws.MustCompileFrame(ws.MaskFrame(ws.NewPongFrame(payload))))
	case ws.OpClose:
		code, reason, _ := codec.ParseClose(payload)
		return fmt.Errorf("the hub has closed it with %d %s", code, reason)
	case ws.OpText, ws.OpBinary:
		return p.onMessage(payload)
	}
	return nil
}

// onMessage looks for refusals. The id of a refused event is its topic. The error is that this spoke sends
// more than it may: which events the hub has left out then, nobody can know.
func (p *spokePublisher) onMessage(message []byte) error {
	e, err := codec.ParseEnvelope(message)
	var refusal codec.Error
	if err != nil || e.Type != codec.TypeError || sonic.ConfigStd.Unmarshal(e.Payload, &refusal) != nil {
		return nil
	}
	if refusal.Code == codec.CodeRateLimited {
		return fmt.Errorf("the hub takes no more from one spoke; start it with --spoke-rate 0, or publish slower: %s", refusal.Message)
	}
	p.mu.Lock()
	p.refused = refusal.Message
	p.mu.Unlock()
	if topic, err := strconv.Atoi(e.ID); err == nil {
		p.ledger.refuse(topic)
	}
	return nil
}

func (p *spokePublisher) refusal() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

func (p *spokePublisher) close() {
	_ = p.write(ws.MustCompileFrame(ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))))
	_ = p.conn.SetDeadline(time.Now().Add(controlTimeout)) // for the hub's answer
	p.reading.Wait()
	_ = p.conn.Close()
}
