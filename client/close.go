package client

import (
	"fmt"
	"strings"

	"github.com/alkdev/hub/codec"
)

// maxReasonBytes is what a close frame has room for (RFC 6455 section 5.5).
const maxReasonBytes = 123

// Close ends the client. If it is connected it sends what is queued, then a close frame with code and
// reason, and waits for the hub's; events that arrive in between are not delivered any more. All of
// that together gets Options.Timeout, and the exchange of close frames at most four seconds. A code
// that may not be sent is left out, a reason that is too long is cut.
//
// When it returns, the connection is closed and nothing of the client runs any more. If a callback
// runs while Close is called, which may be the one that calls it, that callback is not waited for.
//
// The error says that queued events were not sent, or that there was no close handshake. Later calls
// change nothing and wait as well.
func (c *Client) Close(code codec.CloseCode, reason string) error {
	if !code.Sendable() {
		code = codec.CloseNoStatus
	}
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxReasonBytes)], "")
	mayBeCallback := c.inCallback.Load()
	conn := c.stop(code, reason, ErrClosed)
	var err error
	if conn != nil {
		<-conn.writtenc
		err = conn.writeErr
	}
	if !mayBeCallback {
		<-c.donec
	}
	c.mu.Lock()
	unsent := len(c.queue.events)
	c.mu.Unlock()
	switch {
	case unsent > 0 && err != nil:
		return fmt.Errorf("client: close: %d queued events were not sent: %w", unsent, err)
	case unsent > 0:
		return fmt.Errorf("client: close: %d queued events were not sent", unsent)
	case err != nil:
		return fmt.Errorf("client: close: %w", err)
	}
	return nil
}

// stop makes cause, if it is the first, the reason to end: there will be no further connection. It
// returns the present one, which begins its close handshake.
func (c *Client) stop(code codec.CloseCode, reason string, cause error) *conn {
	c.mu.Lock()
	if c.err == nil {
		c.err, c.closeCode, c.closeReason = cause, code, reason
	}
	conn := c.conn
	c.mu.Unlock()
	c.cancel() // behind err, which it makes visible
	return conn
}
