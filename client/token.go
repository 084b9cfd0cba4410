package client

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/alkdev/hub/codec"
)

// authID is the id of the __auth that the client sends, and of the answer.
const authID = "client token"

// minRenewal is the least time between two tokens, and retryRenewal that after one that was not had or
// not taken.
const (
	minRenewal   = 100 * time.Millisecond
	retryRenewal = time.Second
)

// header returns what goes with a handshake.
func (c *Client) header(ctx context.Context) (http.Header, error) {
	if c.opts.Token == nil {
		return c.opts.Header, nil
	}
	token, err := c.opts.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: token: %w", err)
	}
	h := c.opts.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Authorization", "Bearer "+token)
	return h, nil
}

// expiresIn is told when the token in use expires, 0 for never.
func (c *Client) expiresIn(ms int64) {
	if c.opts.Token == nil {
		return
	}
	select {
	case <-c.expiryc: // of the token before
	default:
	}
	c.expiryc <- durationOf(ms, time.Millisecond)
}

// notRenewed has renewLoop try again with another token.
func (c *Client) notRenewed() { c.expiresIn(retryRenewal.Milliseconds()) }

// renewLoop sends a fresh token when two thirds of the time are over that the one in use has left. One
// that cannot be had, or that the hub does not take, is followed by another, as long as the connection
// lives.
func (cn *conn) renewLoop() {
	c := cn.c
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case left := <-c.expiryc:
			timer.Stop()
			if left > 0 {
				timer.Reset(max(min(left, longestTimer)*2/3, minRenewal))
			}
		case <-timer.C:
			if !cn.renew() {
				timer.Reset(retryRenewal)
			}
		case <-cn.ctx.Done():
			return
		}
	}
}

// longestTimer keeps what is computed from a time far away in range.
const longestTimer = 365 * 24 * time.Hour

// renew has a fresh token sent. It reports whether there is one.
func (cn *conn) renew() bool {
	c := cn.c
	ctx, cancel := context.WithTimeout(cn.ctx, c.opts.Timeout)
	defer cancel()
	token, err := c.opts.Token(ctx)
	if err != nil {
		if cn.ctx.Err() == nil {
			c.opts.Logger.Warn("client: no fresh token, trying again", "err", err)
		}
		return false
	}
	e, err := codec.NewEnvelope(codec.TypeAuth, authID, codec.Auth{Token: token})
	if err != nil {
		c.opts.Logger.Warn("client: the token is not UTF-8")
		return false
	}
	message, err := codec.AppendEnvelope(nil, e)
	if err != nil {
		panic("client: __auth: " + err.Error())
	}
	c.mu.Lock()
	c.auth = message
	c.mu.Unlock()
	c.wake()
	return true
}
