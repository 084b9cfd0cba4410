package cluster

import (
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// What comes in is taken by one goroutine, so that spokes see it in the order of its arrival.

// origin is what is known of the events of one hub.
type origin struct {
	seq uint64 // of the last
	// whole: the last came by the subscription to everything, so from then on no number may be missing as long
	// as that lasts.
	whole bool
}

// batch is what goes to the hub at once.
type batch struct {
	events []codec.Envelope
	bytes  int
}

// A batch is not larger than this, for a hub's total may be as little as 64 KiB.
const maxBatchBytes = 16 << 10

// deliver gives the hub what has come in, until Close.
func (m *Member) deliver() {
	var messages []inMessage
	for {
		ending := m.ending() // then once more, and not until nothing comes any more
		messages = m.in.take(messages)
		for i := range messages {
			m.take(&messages[i])
		}
		m.flush()
		switch {
		case ending:
			return
		case len(messages) > 0:
			continue
		}
		select {
		case <-m.in.wakec:
		case <-m.stopc:
		}
	}
}

// ending reports whether Close has been called.
func (m *Member) ending() bool {
	select {
	case <-m.stopc:
		return true
	default:
		return false
	}
}

// take does what one message asks for.
func (m *Member) take(in *inMessage) {
	if in.kind == inEvent {
		m.event(in)
		return
	}
	m.flush() // what came before it goes before it
	switch in.kind {
	case inNote:
		m.takeNote(in)
	case inShed:
		m.missing(in.shed)
	case inTick:
		m.lookAtPeers(in.at)
	case inUp:
		m.forgetOrder()
		m.gap(in.at, 0)
		m.sendBeat(false)
	case inDown:
		m.forgetOrder()
	case inAsking:
		m.whole = in.whole
		m.forgetOrder()
	}
}

// event puts one event into the batch, unless it is there already.
func (m *Member) event(in *inMessage) {
	e, stamp, err := m.config.Format.Event(in.subject, in.data)
	switch {
	case err != nil, e.Reserved():
		if !strings.HasPrefix(in.subject, m.config.Format.Control("")) { // that is what other hubs tell each other
			m.counts.foreign.Add(1)
		}
		return
	case stamp.Hub == m.config.ID: // an engine that sends back what came from here
		return
	case stamp.Hub != "" && !m.next(stamp, in.source):
		m.counts.repeated.Add(1)
		return
	}
	m.counts.arrived.Add(1)
	size := len(in.data) + 512
	if m.batch.bytes+size > maxBatchBytes {
		m.flush() // a large one goes alone: together they may not fit
	}
	m.batch.events = append(m.batch.events, e)
	m.batch.bytes += size
}

// next reports whether an event is a new one. If one before it is missing it says so to the spokes.
func (m *Member) next(s Stamp, source string) bool {
	o := m.origin[s.Hub]
	if o == nil {
		if len(m.origin) >= maxPeers {
			clear(m.origin)
		}
		o = &origin{}
		m.origin[s.Hub] = o
	}
	if s.Seq <= o.seq {
		return false
	}
	whole := m.whole && source == m.everything
	if whole && o.whole && s.Seq != o.seq+1 {
		m.flush()
		m.gap(time.Now(), s.Seq-o.seq-1)
	}
	o.seq, o.whole = s.Seq, whole
	return true
}

// forgetOrder makes that numbers may be missing once.
func (m *Member) forgetOrder() {
	for _, o := range m.origin {
		o.whole = false
	}
}

// flush gives the batch to the hub. While that has no room it waits, and what comes meanwhile queues.
func (m *Member) flush() {
	for len(m.batch.events) > 0 {
		_, err := m.hub.DispatchHere(m.batch.events)
		var one *fanout.BatchError
		switch {
		case errors.Is(err, fanout.ErrOverloaded):
			m.hub.Flush()
			continue
		case errors.As(err, &one) && !errors.Is(err, fanout.ErrClosed):
			m.leaveOut(one)
			continue
		case err != nil && !errors.Is(err, fanout.ErrClosed):
			m.config.Logger.Error("events from other hubs were not taken", slog.Any("error", err))
			m.counts.shed.Add(uint64(len(m.batch.events)))
			m.gap(time.Now(), uint64(len(m.batch.events)))
		}
		clear(m.batch.events)
		m.batch.events, m.batch.bytes = m.batch.events[:0], 0
	}
}

// leaveOut gives the hub what comes before an event that it does not take, and lets that one go.
func (m *Member) leaveOut(bad *fanout.BatchError) {
	rest := m.batch.events[bad.Index:]
	m.batch.events = m.batch.events[:bad.Index:bad.Index]
	m.flush()
	m.counts.shed.Add(1)
	m.gap(time.Now(), 1, codec.TopicPattern(rest[0]))
	m.batch.events = rest[1:]
}

// missing tells the spokes of what was shed.
func (m *Member) missing(s *shed) {
	if s.hub != "" && !m.knows(s.hub) {
		return // it has taken its leave
	}
	m.config.Logger.Warn("events of other hubs are missing", slog.Uint64("shed", s.count), slog.String("hub", s.hub))
	m.counts.shed.Add(s.count)
	m.forgetOrder()
	var patterns []codec.Pattern
	for subject := range s.subjects {
		typ, id, ok := m.config.Format.Topic(subject)
		if !ok {
			patterns = nil
			break
		}
		patterns = append(patterns, codec.TopicPattern(codec.Envelope{Type: typ, ID: id}))
	}
	if len(patterns) != 1 {
		m.gap(time.Now(), 0, patterns...) // how many of which is not known
		return
	}
	m.gap(time.Now(), s.count, patterns...)
}

// gap tells the spokes that were there at the time that events are missing.
func (m *Member) gap(before time.Time, dropped uint64, patterns ...codec.Pattern) {
	if m.hub.Gap(before, dropped, fanout.GapEngine, patterns...) > 0 {
		m.counts.gaps.Add(1)
	}
}
