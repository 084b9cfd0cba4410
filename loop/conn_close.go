package loop

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Close implements fanout.Sink: it writes the close frame, and sees to it that the connection ends, when the
// peer has answered or after Config.CloseTimeout.
func (c *conn) Close(cause fanout.Cause) {
	c.setCause(cause)
	c.setDue(c.server.config.CloseTimeout)
	kept, err := c.send(codec.AppendCloseFrame(nil, cause.Code, cause.Reason))
	c.set(flagCloseSent)
	if err != nil {
		return // closed already
	}
	if kept > 0 {
		makeRoom(c.sock, kept)
	}
	if c.inFlight.Load() == 0 {
		c.closeSent()
	}
}

// closeSent goes on once our last byte has left. Between both close frames and a peer that makes no
// sense there is this difference: the latter may still be sending, and closing a socket with unread
// bytes would reset the connection before our close frame has been read. So it only gets a FIN.
func (c *conn) closeSent() {
	switch {
	case c.has(flagCloseReceived):
		c.sayGoodbye()
		c.hangUp()
	case c.has(flagDeaf):
		c.sayGoodbye()
		shutdown(c.sock, unix.SHUT_WR)
	}
}

// fail ends the connection for what the peer did.
func (c *conn) fail(code codec.CloseCode, problem string) {
	c.set(flagDeaf)
	c.setCause(fanout.CauseOf(fanout.LocalSide, code, problem))
	c.spoke.Fail(code, problem)
}

// hangUp ends the connection; the poller writes what the engine keeps, as far as the kernel takes it,
// reads what is there, closes the socket, and onClosed follows. As long as something is kept the writing
// side stays open for that: Close has made room, and the poller may only have been too busy to use it.
func (c *conn) hangUp() {
	how := unix.SHUT_RDWR
	if c.inFlight.Load() > 0 {
		how = unix.SHUT_RD
	}
	shutdown(c.sock, how)
}

// setDue cuts the connection off after d.
func (c *conn) setDue(d time.Duration) { c.due.Store(uint32(c.server.now().after(d))) }
