package loop

import "github.com/alkdev/hub/internal/verify"

// Write implements fanout.Sink. It has one caller at a time: the shard, and before the upgrade
// whoever reads.
func (c *conn) Write(b []byte) (kept int, err error) {
	if verify.On {
		c.checkWrite()
		c.enterSide(flagInWrite)
		defer c.leaveSide(flagInWrite)
	}
	if c.inFlight.Load() == 0 {
		n, err := write(c.sock, b)
		if n == len(b) || err != nil {
			return 0, err
		}
		b = b[n:]
	}
	// The extra byte stands for this call: whoever brings the count to 0 is the last, either we,
	// and nothing was kept, or onWritten, after we have said that something was.
	c.inFlight.Add(int64(len(b)) + 1)
	_, err = c.sock.Write(b)
	return int(c.inFlight.Add(-1)), err
}

// onWritten is called by the engine when bytes that it kept have left, with the socket's mutex held.
func (c *conn) onWritten(n int) {
	if c.inFlight.Add(-int64(n)) != 0 {
		return
	}
	if c.has(flagSpoke) {
		c.spoke.Written()
	}
	if c.has(flagCloseSent) {
		go c.closeSent() // not here: the mutex is held
	}
}

// reply writes an HTTP answer in place of an upgrade, and ends the connection.
func (c *conn) reply(b []byte) {
	c.set(flagDeaf)
	c.setDue(c.server.config.CloseTimeout)
	_, err := c.send(b)
	c.set(flagCloseSent)
	if err == nil && c.inFlight.Load() == 0 {
		c.closeSent()
	}
}
