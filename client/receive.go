package client

import (
	"runtime/debug"
	"time"

	"github.com/alkdev/hub/codec"
)

// receive handles one message from the hub; it does not retain it. Like all of this file it runs on the
// reading goroutine.
func (c *Client) receive(message []byte) {
	e, err := codec.ParseEnvelope(message)
	if err != nil {
		c.opts.Logger.Warn("client: the hub sent what is not an event", "err", err)
		return
	}
	if e.Reserved() {
		c.receiveReserved(e)
		return
	}
	c.mu.Lock()
	c.matched = c.listeners.appendFor(c.matched[:0], e)
	c.mu.Unlock()
	for _, l := range c.matched {
		if !l.removed.Load() {
			c.call(l.pattern.String(), func() { l.fn(e) })
		}
	}
	clear(c.matched) // does not keep removed listeners alive
}

func (c *Client) receiveReserved(e codec.Envelope) {
	switch e.Type {
	case codec.TypeWelcome:
		if welcome, ok := decode[codec.Welcome](c, e); ok {
			c.mu.Lock()
			c.welcome = welcome
			c.mu.Unlock()
			c.expiresIn(welcome.ExpiresInMs)
			observe(c, "OnWelcome", c.opts.OnWelcome, welcome)
		}
	case codec.TypeDrain:
		if drain, ok := decode[codec.Drain](c, e); ok {
			c.drain = durationOf(drain.ReconnectAfterMs, time.Millisecond)
			observe(c, "OnDrain", c.opts.OnDrain, drain)
		}
	case codec.TypeGap:
		if gap, ok := decode[codec.Gap](c, e); ok {
			observe(c, "OnGap", c.opts.OnGap, gap)
		}
	case codec.TypeError:
		fault, ok := decode[codec.Error](c, e)
		if ok && e.ID == authID {
			c.notRenewed()
		}
		if ok && c.opts.OnError != nil {
			c.call("OnError", func() { c.opts.OnError(c, e.ID, fault) })
		}
	case codec.TypeAuthed:
		if authed, ok := decode[codec.Authed](c, e); ok {
			c.expiresIn(authed.ExpiresInMs)
		}
		observe(c, "OnReserved", c.opts.OnReserved, e)
	default:
		observe(c, "OnReserved", c.opts.OnReserved, e)
	}
}

// decode reads the payload of a reserved event. It reports whether that went well.
func decode[T any](c *Client, e codec.Envelope) (payload T, ok bool) {
	if err := e.Decode(&payload); err != nil {
		c.opts.Logger.Warn("client: the payload of an event of the hub's own is not what it should be", "type", e.Type, "err", err)
		return payload, false
	}
	return payload, true
}

func (c *Client) notify(s Status) { observe(c, "OnStatus", c.opts.OnStatus, s) }

// observe calls one of the callbacks in Options, if it is set.
func observe[T any](c *Client, name string, fn func(*Client, T), value T) {
	if fn != nil {
		c.call(name, func() { fn(c, value) })
	}
}

// call runs a callback and contains its panic. No lock is held.
func (c *Client) call(name string, callback func()) {
	c.inCallback.Store(true)
	defer c.inCallback.Store(false)
	defer func() {
		if p := recover(); p != nil {
			c.opts.Logger.Error("client: panic in a callback", "callback", name, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	callback()
}
