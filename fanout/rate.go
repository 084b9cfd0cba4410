package fanout

import (
	"fmt"
	"math"
	"time"

	"github.com/alkdev/hub/codec"
)

// What one spoke may send. It has a bucket that holds Config.SpokeBurst messages and fills at
// Config.SpokeRatePerSec. All of it that is kept is the moment at which it will be full again (the generic
// cell rate algorithm): eight bytes, and nothing to be done for a spoke that is silent.
//
// What finds the bucket empty is refused, before it is even parsed. A run of refusals is over after
// runPause without one. The spoke is told of its first, and, with the next message that is taken once it is
// over, how many there were. A run of Hub.runLimit ends the spoke.

// DefaultSpokeRatePerSec is the default of Config.SpokeRatePerSec: some hundred times what a browser has to
// say, and a few percent of what one poller reads.
const DefaultSpokeRatePerSec = 10_000

// MaxSpokeRatePerSec is where intervals get too short to be counted in nanoseconds.
const MaxSpokeRatePerSec = 1_000_000

const runPause = int64(time.Second)

// rate is what every spoke of a hub may send.
type rate struct {
	perSec, burst int
	interval      int64 // nanoseconds from one message to the next; 0 sets no limit
	ahead         int64 // how far ahead Spoke.fullAt may be for one more to be taken
}

func newRate(perSec, burst int) (rate, error) {
	switch {
	case perSec < 0:
		return rate{}, nil
	case perSec > MaxSpokeRatePerSec:
		return rate{}, fmt.Errorf("fanout: %d messages a second from a spoke, at most %d can be counted", perSec, MaxSpokeRatePerSec)
	case burst < 0 || burst > math.MaxInt32:
		return rate{}, fmt.Errorf("fanout: %d messages at once from a spoke", burst)
	}
	if perSec == 0 {
		perSec = DefaultSpokeRatePerSec
	}
	if burst == 0 {
		burst = 2 * perSec
	}
	interval := int64(time.Second) / int64(perSec)
	return rate{perSec, burst, interval, int64(burst-1) * interval}, nil
}

// runLimit is how many messages a run of refusals may have: as many as may be sent at once, or in a second.
func (r rate) runLimit() int { return max(r.perSec, r.burst) }

// givenUp, as Spoke.fullAt, says that the spoke is being closed for what it has sent. Thousands more may be
// in what the connection has read at once: none is answered, or even looked at.
const givenUp = math.MaxInt64

// admit counts a message against the rate, and reports whether it is to be taken.
func (s *Spoke) admit() bool {
	h := s.shard.hub
	if h.rate.interval == 0 {
		return s.fullAt != givenUp
	}
	now := h.now()
	ahead := s.fullAt - now
	if ahead > h.rate.ahead {
		s.overRate(now)
		return false
	}
	s.fullAt = max(s.fullAt, now) + h.rate.interval
	if a := s.aside.Load(); a != nil && a.refused > 0 && now-a.refusedAt >= runPause {
		s.endRun(a)
	}
	return true
}

// overRate refuses a message.
func (s *Spoke) overRate(now int64) {
	if s.fullAt == givenUp {
		return
	}
	h, a := s.shard.hub, s.asideOf()
	h.rateLimited.Add(1)
	if a.refused > 0 && now-a.refusedAt >= runPause {
		s.endRun(a)
	}
	a.refused++
	a.refusedAt = now
	if a.refused == 1 {
		ms := (s.fullAt - now + int64(time.Millisecond) - 1) / int64(time.Millisecond)
		s.tell(codec.Control(codec.TypeError, "", codec.Error{
			Code:         codec.CodeRateLimited,
			Message:      fmt.Sprintf("%s: what is beyond is not taken; after %d ms without any, %d may be sent at once again", h.rate, ms, h.rate.burst),
			Refused:      1,
			RetryAfterMs: ms,
		}))
	}
	if a.refused >= h.rate.runLimit() {
		s.giveUp(fmt.Sprintf("rate limited: %d messages refused, %s", a.refused, h.rate))
	}
}

// endRun tells how many messages were refused.
func (s *Spoke) endRun(a *aside) {
	s.tell(codec.Control(codec.TypeError, "", codec.Error{
		Code:    codec.CodeRateLimited,
		Message: fmt.Sprintf("%s: %d were refused before this one", s.shard.hub.rate, a.refused),
		Refused: a.refused,
	}))
	a.refused = 0
}

func (r rate) String() string {
	return fmt.Sprintf("a spoke may send %d messages a second, %d at once", r.perSec, r.burst)
}

// giveUp closes a spoke for what it has sent.
func (s *Spoke) giveUp(reason string) {
	s.fullAt = givenUp
	s.Close(codec.ClosePolicy, reason)
}
