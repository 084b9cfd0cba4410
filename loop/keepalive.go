package loop

import (
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// stamp is a moment in hundredths of a second since the server began. It wraps after 497 days;
// since compares right across that. Four bytes instead of eight, three times per connection.
type stamp uint32

const stampUnit = 10 * time.Millisecond

func (s *Server) now() stamp { return stamp(time.Since(s.began) / stampUnit) }

func (t stamp) after(d time.Duration) stamp { return t + stamp((d+stampUnit-1)/stampUnit) }

// since returns how long before t the earlier stamp was; negative if it was later.
func (t stamp) since(earlier stamp) time.Duration {
	return time.Duration(int32(t-earlier)) * stampUnit
}

// sweepInterval is how often all connections are looked at: often enough for the shortest deadline.
func (c *Config) sweepInterval() time.Duration {
	shortest := min(c.HandshakeTimeout, c.Ping, c.PongTimeout, c.CloseTimeout)
	return min(max(shortest/10, stampUnit), time.Second)
}

// Thousands that came together are late together. A poller closes what the kernel has for it in one go, 10 us each,
// before the others have their turn: so no more than that are cut off at once.
const (
	cutAtOnce = 16
	cutPause  = time.Millisecond
)

// sweep is the goroutine that keeps every deadline. It ends when stopc is closed, and closes sweptc.
func (s *Server) sweep() {
	defer close(s.sweptc)
	ticker := time.NewTicker(s.config.sweepInterval())
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			cut := 0
			s.conns.each(func(c *conn) {
				if !c.check(s.now()) {
					return
				}
				if cut++; cut%cutAtOnce == 0 {
					time.Sleep(cutPause)
				}
			})
			s.checkListeners()
		case <-s.stopc:
			return
		}
	}
}

var pingFrame = codec.NewControlFrame(codec.Ping, nil)

// check looks at the deadlines of one connection, and reports whether it was cut off.
func (c *conn) check(now stamp) (cut bool) {
	cfg := &c.server.config
	if !c.has(flagOpen) {
		return false
	}
	if c.has(flagCloseSent) || !c.has(flagUpgraded) {
		if now.since(stamp(c.due.Load())) >= 0 {
			if c.set(flagCloseSent) {
				c.server.refusals.add(RefusedTimeout)
			}
			c.hangUp()
			return true
		}
		return false
	}
	if c.spoke.Expired() && c.set(flagExpired) {
		c.spoke.Close(codec.CloseUnauthenticated, "the token has expired")
	}
	lastRead := stamp(c.lastRead.Load())
	pinged := c.has(flagPinged)
	if pinged && lastRead.since(c.pingedAt) >= 0 {
		pinged = false
		c.flags.And(^uint32(flagPinged))
	}
	switch {
	case pinged && now.since(c.pingedAt) >= cfg.PongTimeout:
		c.setCause(fanout.Cause{Side: fanout.LocalSide, Code: codec.ClosePolicy, Reason: "no answer to a ping", Kind: fanout.KindPingTimeout})
		c.spoke.Fail(codec.ClosePolicy, "no answer to a ping")
	case !pinged && now.since(lastRead) >= c.pingAfter():
		c.pingedAt = now
		c.set(flagPinged)
		c.spoke.Control(pingFrame)
	}
	return false
}

// pingAfter spreads the pings of spokes that connected at the same time, over an eighth of the
// interval, earlier rather than later.
func (c *conn) pingAfter() time.Duration {
	ping := c.server.config.Ping
	spread := uint32(uint64(c.began) * 2654435761 >> 16 & 0xff)
	return ping - ping/8*time.Duration(spread)/256
}
