package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"github.com/alkdev/hub/codec"
)

// run makes one connection after the other until the client ends. It is the reading goroutine.
func (c *Client) run() {
	defer close(c.donec)
	defer c.end()
	for c.ctx.Err() == nil {
		err := c.attempt()
		if c.ctx.Err() != nil {
			return
		}
		c.lastErr = err
		if c.permanent(err) {
			c.stop(codec.CloseNoStatus, "", err)
			return
		}
		wait := c.retryIn(err)
		c.opts.Logger.Warn("client: no hub, trying again", "err", err, "in", wait, "failures", c.backoff.failures)
		c.notify(Status{State: Waiting, Err: err, RetryIn: wait, Failures: c.backoff.failures})
		c.sleep(wait)
	}
}

// end tells of the end, after which run only closes donec.
func (c *Client) end() {
	// Changes nothing, unless a callback has ended the goroutine (runtime.Goexit).
	c.stop(codec.CloseNoStatus, "", errors.New("client: a callback ended the reading goroutine"))
	c.notify(Status{State: Closed, Err: c.Err()})
}

// attempt makes a connection and returns why it ended or was not made.
func (c *Client) attempt() error {
	c.drain = noDrain
	ws, err := c.connect()
	if err != nil {
		return err
	}
	began := time.Now()
	err = newConn(c, ws).serve()
	if time.Since(began) >= c.opts.BackoffMax {
		c.backoff.reset()
	}
	return err
}

// connect performs the handshake.
func (c *Client) connect() (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.opts.Timeout)
	defer cancel()
	header, err := c.header(ctx)
	if err != nil {
		return nil, err
	}
	ws, resp, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: header})
	if err == nil {
		return ws, nil
	}
	if c.opts.HTTPClient == nil {
		c.http.CloseIdleConnections() // ends a dial that net/http goes on with
	}
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, newRefusedError(resp)
	}
	if request := (*url.Error)(nil); errors.As(err, &request) {
		err = request.Err // without the URL, whose query may be secret
	}
	return nil, fmt.Errorf("client: connect: %w", err)
}

// noDrain is the value of Client.drain for a connection without a __drain.
const noDrain time.Duration = -1

// retryIn returns how long to wait after err.
func (c *Client) retryIn(err error) time.Duration {
	if c.drain != noDrain {
		return c.drain
	}
	wait := c.backoff.next()
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		wait += refused.RetryAfter // all who were refused got the same: come back after it, and not together
	}
	return wait
}

// sleep returns after d, or when the client ends.
func (c *Client) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	}
}

// backoff gives the waits between attempts: random up to a ceiling that doubles, so that the many
// clients of a hub that went away do not come back as one.
type backoff struct {
	min, max time.Duration
	random   func(n int64) int64 // in [0, n)
	ceiling  time.Duration       // of the latest wait, 0 before the first
	failures int
}

func newBackoff(min, max time.Duration) backoff {
	return backoff{min: min, max: max, random: rand.Int64N}
}

// next returns the wait after one more failure, above 0 and up to the ceiling.
func (b *backoff) next() time.Duration {
	switch {
	case b.ceiling == 0:
		b.ceiling = b.min
	case b.ceiling > b.max/2:
		b.ceiling = b.max
	default:
		b.ceiling *= 2
	}
	b.failures++
	return time.Duration(b.random(int64(b.ceiling)) + 1)
}

func (b *backoff) reset() { b.ceiling, b.failures = 0, 0 }
