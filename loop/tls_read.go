package loop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/internal/verify"
)

// errNothing is what a tls.Conn gets when it has read all that has arrived. It says that it is temporary,
// for any other error a tls.Conn keeps.
var errNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "loop: nothing has arrived" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// plainBuffers are where records are opened. One is needed for as long as a poller reads.
var plainBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// read opens b and takes what is in it.
func (c *secureConn) read(b []byte) {
	if c.flooded {
		return // there is a gap in front of it
	}
	c.lent = lend(c.tls, b)
	c.open()
}

// open takes what is in the records that have arrived, in portions as they would be read without TLS, and for a
// turn's time: a record is opened as a whole, and 16 KiB of compressed messages can be milliseconds' worth of
// work. What there is no time for waits, with flagPaused, until it is called again.
func (c *secureConn) open() {
	buf := plainBuffers.Get().(*[16 << 10]byte)
	defer plainBuffers.Put(buf)
	began := time.Now()
	before := began
	for reads, size := 0, 0; !c.has(flagDeaf); {
		part := buf[:c.affordable(len(buf))]
		n, err := c.tls.Read(part)
		if n > 0 {
			c.onPlain(part[:n])
		}
		switch {
		case err == error(errNothing):
			c.opened()
			return
		case err != nil:
			c.readFailed(err)
			c.forget()
			return
		}
		if reads, size = reads+1, size+n; size < smallRead && reads < 16 {
			continue
		}
		now := time.Now()
		if size >= smallRead {
			c.price(len(part), now.Sub(before))
		}
		if now.Sub(began) >= turnTime {
			c.pause()
			return
		}
		before, reads, size = now, 0, 0
	}
	c.forget()
}

// resume opens what has waited.
func (c *secureConn) resume() {
	if verify.On {
		c.checkRead()
		c.enterSide(flagInRead)
		defer c.leaveSide(flagInRead)
	}
	c.noteRead()
	c.open()
}

// pause leaves the rest for another time. It is little: a portion as it has arrived, and a record.
func (c *secureConn) pause() {
	if c.set(flagPaused) { // and if not, it is ours already
		c.lent.in = bytes.Clone(c.lent.in)
	}
}

// opened goes on when everything that has arrived has been taken.
func (c *secureConn) opened() {
	c.lent.takeBack()
	c.forget()
	if c.flooded {
		c.failFlooded()
	}
}

// forget gives up what has not been taken.
func (c *secureConn) forget() {
	c.lent = nil
	if c.has(flagPaused) {
		c.flags.And(^uint32(flagPaused))
	}
}

// readFailed ends the connection: the peer has closed its side of TLS, or what it sends is not what was
// agreed upon.
func (c *secureConn) readFailed(err error) {
	switch {
	case c.has(flagDeaf): // it is being closed, by what came before
	case errors.Is(err, io.EOF): // close_notify, which counts as the end of the connection
		c.set(flagDeaf)
		c.hangUp()
	case c.has(flagUpgraded):
		c.server.tlsFailures.Add(1)
		c.fail(codec.CloseProtocolError, "tls: "+c.problem(err))
	default:
		c.giveUpTLS(c.problem(err))
	}
}

// problem returns the text of an error of tls.Conn. Once its answers do not fit any more that is the reason,
// whatever it then says: it does not change its keys when it cannot say so, and can open nothing that follows.
func (c *secureConn) problem(err error) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.overflown {
		err = errBacklog
	}
	return tlsProblem(err)
}

// tlsProblem returns the text of an error of crypto/tls, short enough for a close frame.
func tlsProblem(err error) string {
	text := err.Error()
	return text[:min(len(text), 100)]
}
