package fanout

import (
	"fmt"
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/internal/verify"
)

// What a shard does with one spoke, beside delivering to it: control frames, endings, outboxes.

// perform makes something other than a delivery happen.
func (sh *shard) perform(p *post) {
	sh.checkOwned()
	s := p.one
	switch p.op {
	case opControl:
		sh.control(s, p.control)
		if p.control.Opcode() == codec.Pong {
			if f := sh.pongTaken(s); f != nil {
				sh.control(s, f)
			}
		}
	case opClose:
		if s.state != open {
			return
		}
		s.state = closing
		if s.outbox == nil {
			sh.shut(s, *p.cause, Closed)
			return
		}
		c := &closingOrder{*p.cause, sh.hub.now() + int64(sh.hub.config.CloseTimeout)}
		s.outbox.closing = c
		sh.wakeBy(c.due)
	case opFail:
		sh.shut(s, *p.cause, Closed)
	case opLeave:
		sh.lose(s)
	case opDo:
		p.do()
	}
}

func (sh *shard) control(s *Spoke, f *codec.Frame) {
	if s.state == shut {
		return
	}
	o := sh.outboxOf(s)
	if f.Opcode() == codec.Ping {
		o.ping = f
	} else {
		o.pong = f
	}
	sh.flush(s)
}

// slowCause is the cause of a spoke that is too slow.
func (h *Hub) slowCause(reason string) Cause {
	return Cause{LocalSide, h.config.SlowCloseCode, "slow: " + reason, KindSlow}
}

// disconnectSlow ends a spoke that is over a limit.
func (sh *shard) disconnectSlow(s *Spoke, why LossReason) {
	age := time.Duration(0)
	if it := s.outbox.oldest(); it != nil {
		age = time.Duration(sh.hub.now() - it.at)
	}
	sh.losses.disconnects[why]++
	reason := fmt.Sprintf("queued=%d age=%s", s.outbox.queuedBytes, age.Round(time.Millisecond))
	sh.shut(s, sh.hub.slowCause(reason), why)
}

// shut ends a spoke: what is queued is given up for the reason why, and the close frame goes out
// behind what is in flight.
func (sh *shard) shut(s *Spoke, cause Cause, why LossReason) {
	if s.state == shut {
		return
	}
	s.state = shut
	if s.outbox != nil {
		if rest := sh.giveUp(s, why); len(rest) > 0 {
			_, _ = s.sink.Write(rest) // an error here ends the connection all the same
		}
	}
	s.sink.Close(cause)
}

// lose ends a spoke whose connection is gone.
func (sh *shard) lose(s *Spoke) {
	s.state = shut
	if s.outbox != nil {
		sh.giveUp(s, Closed)
	}
}

// giveUp empties the queue of s, and returns what must be written all the same.
func (sh *shard) giveUp(s *Spoke, why LossReason) (rest []byte) {
	delivered := s.tally.delivered
	rest = s.outbox.giveUp(why)
	sh.counters.deliveries += s.tally.delivered - delivered
	sh.counters.deliveredBytes += uint64(len(rest))
	sh.checkTally(s)
	sh.freeOutbox(s)
	return rest
}

// end closes every spoke: those that have taken everything, and those that will not.
func (sh *shard) end() {
	cause := CauseOf(LocalSide, codec.CloseGoingAway, "the hub is closed")
	for _, s := range sh.spokes() {
		sh.perform(&post{op: opClose, one: s, cause: &cause})
		if o := s.outbox; o != nil {
			sh.shut(s, o.closing.cause, Closed)
		}
	}
	for len(sh.waiting) > 0 { // detached just now
		sh.lose(sh.waiting[0])
	}
	sh.mu.Lock()
	sh.publishLocked()
	sh.ended = true
	sh.wakeLocked()
}

// outboxOf returns the outbox of s, a new one if it has none.
func (sh *shard) outboxOf(s *Spoke) *outbox {
	if s.outbox != nil {
		return s.outbox
	}
	var o *outbox
	if n := len(sh.spare); n > 0 {
		o, sh.spare = sh.spare[n-1], sh.spare[:n-1]
	} else {
		o = &outbox{rules: &sh.rules}
	}
	o.count = &s.tally
	if s.deflates {
		o.deflater = sh.hub.config.Deflater
	}
	o.index = len(sh.waiting)
	sh.waiting = append(sh.waiting, s)
	s.outbox = o
	return o
}

// freeOutbox takes the empty outbox from s.
func (sh *shard) freeOutbox(s *Spoke) {
	sh.landed(s)
	o := s.outbox
	s.outbox = nil
	last := len(sh.waiting) - 1
	moved := sh.waiting[last]
	sh.waiting[o.index], sh.waiting[last] = moved, nil
	if moved != s {
		moved.outbox.index = o.index
	}
	sh.waiting = sh.waiting[:last]
	if len(sh.spare) < maxSpareOutboxes {
		o.reset()
		sh.spare = append(sh.spare, o)
	}
}

// checkOwned holds that the caller is the shard's goroutine: what it owns needs no lock.
func (sh *shard) checkOwned() {
	if verify.On && sh.goroutine != verify.Goroutine() {
		verify.Check(false, "goroutine %d is in shard %d, which is goroutine %d's", verify.Goroutine(), sh.number, sh.goroutine)
	}
}

// CheckWrite is for sinks, which call it in Write with what they know to be in flight. With HUB_VERIFY=1 it
// panics unless the caller is the goroutine of the spoke's shard, and if something is in flight though
// the spoke has not been shut: only the rest of a frame and the close frame may follow that.
func (s *Spoke) CheckWrite(inFlight int64) {
	if !verify.On {
		return
	}
	s.shard.checkOwned()
	verify.Check(inFlight == 0 || s.state == shut, "a write to spoke %s, of which %d bytes are in flight", s.ID(), inFlight)
}

// checkTally holds the books of s against its queue.
func (sh *shard) checkTally(s *Spoke) {
	if !verify.On {
		return
	}
	t, events := &s.tally, 0
	if s.outbox != nil {
		events = s.outbox.events
		if s.outbox.queuedBytes < 0 || s.outbox.queuedBytes > sh.limits.SpokeBytes {
			verify.Check(false, "spoke %s has %d bytes queued, the limit is %d", s.ID(), s.outbox.queuedBytes, sh.limits.SpokeBytes)
		}
	}
	lost := t.losses()
	if t.offered != t.delivered+uint64(events)+lost.dropped+lost.conflated {
		verify.Check(false, "spoke %s: offered %d, delivered %d, queued %d, dropped %d, conflated %d",
			s.ID(), t.offered, t.delivered, events, lost.dropped, lost.conflated)
	}
}

// maxSpareOutboxes bounds the outboxes that a shard keeps for the next spokes that need one: as many
// as get something of their own in one pass, mostly.
const maxSpareOutboxes = 1024
