package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// conn is one connection, from the handshake to the end.
//
// The goroutine of Client.run reads it. Three more live as long as it does, and serve waits for them:
// writeLoop, pingLoop and limitClose; with Options.Token also renewLoop.
type conn struct {
	// Set by newConn, read-only afterwards.
	c        *Client
	ws       *websocket.Conn
	ctx      context.Context // cancelling it breaks the connection off
	cancel   context.CancelCauseFunc
	writtenc chan struct{} // closed by writeLoop at its end

	// Any goroutine: moves on with everything read and every callback done. It tells a hub that is
	// silent from a pong that waits behind events.
	progress atomic.Uint64

	writeErr error // why writeLoop ended; valid once writtenc is closed
}

func newConn(c *Client, ws *websocket.Conn) *conn {
	ws.SetReadLimit(c.opts.ReadLimitBytes)
	cn := &conn{c: c, ws: ws, writtenc: make(chan struct{})}
	cn.ctx, cn.cancel = context.WithCancelCause(context.WithoutCancel(c.ctx))
	return cn
}

// serve reads until the connection ends and returns how it did.
func (cn *conn) serve() error {
	readErr, cause := cn.run()
	return newCloseError(readErr, cause, cn.writeErr)
}

func (cn *conn) run() (readErr, cause error) {
	c := cn.c
	c.mu.Lock()
	c.conn = cn
	c.subs.reset()
	c.auth = nil
	c.mu.Unlock()
	var loops sync.WaitGroup
	loops.Go(cn.writeLoop)
	loops.Go(cn.pingLoop)
	if c.opts.Token != nil {
		loops.Go(cn.renewLoop)
	}
	loops.Go(cn.limitClose)
	defer func() { // deferred, because a callback may end this goroutine
		cn.cancel(nil)
		cn.ws.CloseNow()
		loops.Wait()
		c.mu.Lock()
		c.conn = nil
		c.mu.Unlock()
	}()
	if !c.ready {
		c.ready = true
		close(c.readyc)
	}
	c.notify(Status{State: Connected})
	readErr = cn.read()
	cause = context.Cause(cn.ctx)
	if errors.Is(readErr, websocket.ErrMessageTooBig) {
		// Code 1009 is out. Closing now would reset the connection under it: read on to the hub's answer.
		cn.ws.Close(websocket.StatusMessageTooBig, "")
	}
	return readErr, cause
}

func (cn *conn) read() error {
	var message bytes.Buffer
	for {
		_, r, err := cn.ws.Reader(cn.ctx)
		if err != nil {
			return err
		}
		message.Reset()
		if _, err := message.ReadFrom(progressReader{r, &cn.progress}); err != nil {
			return err
		}
		cn.c.receive(message.Bytes())
		cn.progress.Add(1)
	}
}

// progressReader counts the reads that brought something.
type progressReader struct {
	r        io.Reader
	progress *atomic.Uint64
}

func (p progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.progress.Add(1)
	}
	return n, err
}

// writeLoop writes what there is. When a write fails it only ends: the reading goroutine shall still
// get what the hub sent before, its close frame above all, and then finds the connection broken.
func (cn *conn) writeLoop() {
	defer close(cn.writtenc)
	cn.writeErr = cn.write()
}

func (cn *conn) write() error {
	c := cn.c
	for {
		c.mu.Lock() // once for all three: what was subscribed to before an event goes before it
		auth := c.auth
		c.auth = nil
		subscriptions := c.subs.changes()
		event := c.queue.head()
		closing := c.err != nil
		c.mu.Unlock()
		if auth != nil {
			if err := cn.send(auth); err != nil {
				return err
			}
		}
		for _, message := range subscriptions {
			if err := cn.send(message); err != nil {
				return err
			}
		}
		switch {
		case event != nil:
			if err := cn.send(event); err != nil {
				return err
			}
			c.mu.Lock()
			c.queue.pop()
			c.mu.Unlock()
		case closing:
			return cn.sayGoodbye()
		default:
			select {
			case <-c.wakec:
			case <-c.ctx.Done():
			case <-cn.ctx.Done():
				return nil
			}
		}
	}
}

func (cn *conn) send(message []byte) error {
	ctx, cancel := context.WithTimeout(cn.ctx, cn.c.opts.Timeout)
	defer cancel()
	return cn.ws.Write(ctx, websocket.MessageText, message)
}

// goodbyeTimeout is less than the five seconds that the library gives each half of the close handshake,
// because it reports their expiry like a success.
const goodbyeTimeout = 4 * time.Second

// sayGoodbye performs the close handshake.
func (cn *conn) sayGoodbye() error {
	limit := time.AfterFunc(goodbyeTimeout, func() { cn.cancel(errCloseTimeout) })
	defer limit.Stop()
	c := cn.c
	c.mu.Lock()
	code, reason := c.closeCode, c.closeReason
	c.mu.Unlock()
	err := cn.ws.Close(websocket.StatusCode(code), reason)
	switch {
	case context.Cause(cn.ctx) == errCloseTimeout:
		return errCloseTimeout
	case websocket.CloseStatus(err) != -1, errors.Is(err, net.ErrClosed):
		return nil // the hub closed with a code of its own, or was faster
	}
	return err
}

// pingLoop breaks the connection off when the hub does not answer.
func (cn *conn) pingLoop() {
	tick := time.NewTicker(cn.c.opts.Ping)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-cn.ctx.Done():
			return
		}
		before := cn.progress.Load()
		ctx, cancel := context.WithTimeout(cn.ctx, cn.c.opts.Timeout)
		err := cn.ws.Ping(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			continue // answered, or broken: the reading goroutine finds out
		}
		if !cn.c.inCallback.Load() && cn.progress.Load() == before {
			cn.cancel(fmt.Errorf("the hub was silent for %v after a ping", cn.c.opts.Timeout))
			return
		}
	}
}

var errCloseTimeout = errors.New("the hub did not answer the close frame in time")

// limitClose breaks the connection off when closing takes longer than Options.Timeout.
func (cn *conn) limitClose() {
	select {
	case <-cn.c.ctx.Done():
	case <-cn.ctx.Done():
		return
	}
	t := time.NewTimer(cn.c.opts.Timeout)
	defer t.Stop()
	select {
	case <-t.C:
		cn.cancel(errCloseTimeout)
	case <-cn.ctx.Done():
	}
}
