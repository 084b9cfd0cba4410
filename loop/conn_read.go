package loop

import (
	"errors"
	"io"
	"sync"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/verify"
)

// beginRead takes the reading side. It reports false if the socket is closed. While
// the connection is being adopted it waits, for the engine closes a socket that has hung up when its
// callback returns, read or not.
func (c *conn) beginRead() bool {
	for {
		f := c.flags.Load()
		switch {
		case f&flagOpen == 0 || f&flagGone != 0:
			return false
		case f&flagReading != 0:
			c.server.adopting.wait(c)
		case c.flags.CompareAndSwap(f, f|flagReading):
			return true
		}
	}
}

// adoptions is where pollers wait for a connection that is being adopted, or that becomes a spoke after
// Config.Authenticate has answered; and where that answer waits for a poller. It takes microseconds.
type adoptions struct {
	mu    sync.Mutex // a leaf
	ended sync.Cond
}

func (a *adoptions) wait(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c.has(flagReading) {
		a.ended.Wait()
	}
}

// over wakes those that wait, once endRead has been called.
func (a *adoptions) over() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended.Broadcast()
}

// endRead gives the reading side back. If the socket was closed meanwhile, finish is left to us:
// so a spoke's last event has reached the listeners before its disconnection does.
func (c *conn) endRead() {
	was := c.flags.And(^uint32(flagReading))
	if was&flagGone != 0 {
		c.finish()
	}
	if was&(flagAsking|flagShaking) != 0 { // the answer, or the handshake, may be waiting for us
		c.server.adopting.over()
	}
}

const endedWithoutClose = "the connection ended without a close frame"

// setGone notes that the connection has ended, if nothing else has ended it before.
func (c *conn) setGone(reason string) {
	c.setCause(fanout.Cause{Side: fanout.PeerSide, Code: codec.CloseAbnormal, Reason: reason, Kind: fanout.KindGone})
}

// onClosed is called by the engine once the socket is closed, in a goroutine of the engine's.
func (c *conn) onClosed(err error) {
	reason := endedWithoutClose
	if err != nil && !errors.Is(err, io.EOF) {
		reason = err.Error()
	}
	if !c.has(flagReading) { // or what is still being read may have a close frame in it; see finish
		c.setGone(reason)
	}
	was := c.flags.Or(flagGone)
	if was&flagShaking != 0 {
		c.secure().interrupt()
		c.server.shakers.leave(c.secure())
	}
	if was&flagReading == 0 {
		c.finish()
	}
}

// onBytes takes what has arrived. b is overwritten, and not retained.
func (c *conn) onBytes(b []byte) {
	if verify.On {
		c.checkRead()
		c.enterSide(flagInRead)
		defer c.leaveSide(flagInRead)
	}
	c.noteRead()
	c.take(b)
}

// noteRead notes when something of the peer's has been worked on, and forgets what that has taken before.
func (c *conn) noteRead() {
	now := c.server.now()
	c.rested(now - stamp(c.lastRead.Load()))
	c.lastRead.Store(uint32(now))
}

func (c *conn) take(b []byte) {
	switch f := c.flags.Load(); {
	case f&flagFirst != 0: // before TLS, for the proxy has no part in that
		c.onProxyHeader(b)
	case f&flagTLS != 0:
		c.secure().onCiphertext(b)
	default:
		c.onPlain(b)
	}
}

// onPlain takes what the peer has sent, without TLS or out of it.
func (c *conn) onPlain(b []byte) {
	switch {
	case c.has(flagDeaf):
	case c.has(flagUpgraded):
		c.feed(b)
	case c.has(flagAsking):
		c.keep(b)
	default:
		c.onHead(b)
	}
}

// readers are those MessageReaders that are not in the middle of a message. A connection has one
// only while it is.
var readers = sync.Pool{New: func() any { return new(codec.MessageReader) }}

// errStop ends Feed when nothing more of the peer is wanted.
var errStop = errors.New("loop: closing")

// feed cuts b into messages.
func (c *conn) feed(b []byte) {
	r := c.reader
	if r == nil {
		r = readers.Get().(*codec.MessageReader)
		r.Inflate = c.has(flagCompressed)
	}
	err := r.Feed(b, c.server.config.MaxMessageBytes, c.onMessage)
	if err == nil && r.Idle() {
		c.reader = nil
		r.Release()
		readers.Put(r)
		return
	}
	c.reader = r
	var bad *codec.ProtocolError
	if errors.As(err, &bad) {
		c.fail(bad.Code, bad.Problem)
	}
}

func (c *conn) onMessage(op codec.Opcode, payload []byte) error {
	switch {
	case op == codec.Close:
		return c.onClose(payload)
	case c.has(flagCloseSent): // after our close frame nothing but the peer's counts
	case op == codec.Ping:
		c.spoke.Control(codec.NewControlFrame(codec.Pong, payload))
	case op == codec.Pong: // a sign of life, noted already
	default:
		c.server.received.Add(1)
		if c.server.config.Hub.Echoes() {
			c.spoke.Echo(op, payload)
		} else {
			c.spoke.Receive(payload)
		}
	}
	return nil
}

// onClose takes the peer's close frame. Ours answers it (RFC 6455 section 5.5.1), or was before it.
func (c *conn) onClose(payload []byte) error {
	code, reason, err := codec.ParseClose(payload)
	if err != nil {
		return err
	}
	c.setCause(fanout.CauseOf(fanout.PeerSide, code, reason))
	c.flags.Or(flagCloseReceived | flagDeaf)
	if !c.has(flagCloseSent) {
		c.spoke.Fail(code, reason) // with both, as most servers do
	} else if c.inFlight.Load() == 0 {
		c.closeSent()
	}
	return errStop
}
