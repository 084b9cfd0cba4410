package fanout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// fate is what has become of an event for one spoke.
type fate uint8

const (
	waiting fate = iota
	delivered
	lost   // dropped
	merged // conflated
	numFates
)

// modelEvent is an event as the model sees it.
type modelEvent struct {
	typ, id string
	policy  Policy
	frame   []byte
	at      time.Duration
	twin    *modelEvent // the same compressed; nil if nobody gets it so
	plain   *modelEvent // of a twin
}

// uncompressed returns the event as those get it who take nothing else.
func (e *modelEvent) uncompressed() *modelEvent {
	if e.plain != nil {
		return e.plain
	}
	return e
}

// as returns the event as m gets it.
func (e *modelEvent) as(m *modelSpoke) *modelEvent {
	if m.spoke.deflates && e.twin != nil {
		return e.twin
	}
	return e
}

func (e *modelEvent) len() int64 { return int64(len(e.frame)) }

// modelSpoke is what a spoke should be, in slices that are searched from end to end.
type modelSpoke struct {
	t      testing.TB
	spoke  *Spoke
	sink   *scriptSink
	limits Limits

	// What it wants.
	asked    bool // has subscribed or unsubscribed
	patterns map[string]bool
	claimed  bool
	claims   []codec.Pattern
	answers  []string // the answers to __subscribe that it waits for: type and id

	// What it was offered, and where that is.
	offered []*modelEvent
	fates   []fate
	queue   []int // indices of offered
	sent    int   // bytes of the first in the queue that the sink has
	again   time.Duration

	// What it was given.
	parsed   int       // bytes of the stream
	next     int       // of offered, behind the last one given
	gap      codec.Gap // given since then
	welcomed bool
	inFlight bool

	closing, closed bool
	code            codec.CloseCode
	reason          string
	due             time.Duration // of an orderly close
}

// wants reports whether a broadcast of the topic goes to m.
func (m *modelSpoke) wants(typ, id string, explicit bool) bool {
	if !m.asked {
		return !explicit && m.mayHave(typ, id)
	}
	return m.patterns["*"] || m.patterns[typ+":*"] || m.patterns[typ+":"+id]
}

// mayHave reports whether the claims of m select the topic.
func (m *modelSpoke) mayHave(typ, id string) bool {
	return !m.claimed || slices.ContainsFunc(m.claims, func(p codec.Pattern) bool { return p.Matches(typ, id) })
}

// mayHaveAll reports whether they select every topic that p does.
func (m *modelSpoke) mayHaveAll(p codec.Pattern) bool {
	return !m.claimed || slices.ContainsFunc(m.claims, func(c codec.Pattern) bool { return c.Covers(p) })
}

func (m *modelSpoke) queuedBytes() (n int64) {
	for _, i := range m.queue {
		n += m.offered[i].len()
	}
	return n - int64(m.sent)
}

// counts returns how many of the events offered have met each fate.
func (m *modelSpoke) counts() (n [numFates]uint64) {
	for _, f := range m.fates {
		n[f]++
	}
	return n
}

// remove takes what stands at the position in the queue out of it.
func (m *modelSpoke) remove(position int, f fate) {
	m.fates[m.queue[position]] = f
	m.queue = append(m.queue[:position:position], m.queue[position+1:]...)
}

// free is the first position in the queue that may be lost.
func (m *modelSpoke) free() int {
	if m.sent > 0 {
		return 1
	}
	return 0
}

// offer applies the limits to an event that cannot be given to the sink now.
func (m *modelSpoke) offer(e *modelEvent) {
	if m.closed || m.closing {
		return
	}
	m.offered, m.fates = append(m.offered, e), append(m.fates, lost)
	i := len(m.offered) - 1
	if m.queuedBytes()+e.len() > m.limits.SpokeBytes && !m.makeRoom(e) {
		return
	}
	if lag := m.limits.SpokeLag; e.policy == DropNewest && lag > 0 && len(m.queue) > 0 && e.at-m.offered[m.queue[0]].at >= lag {
		return
	}
	m.fates[i] = waiting
	m.queue = append(m.queue, i)
}

// makeRoom reports whether there is now room for e.
func (m *modelSpoke) makeRoom(e *modelEvent) bool {
	limit := m.limits.SpokeBytes - e.len()
	if m.sent > 0 && e.policy != Disconnect && m.offered[m.queue[0]].len()-int64(m.sent) > limit {
		return false
	}
	m.conflate(e)
	if m.queuedBytes() <= limit {
		return true
	}
	target := limit
	switch e.policy {
	case DropNewest:
		return false
	case Conflate:
		target = min(limit, m.limits.SpokeBytes*7/8)
		fallthrough
	case DropOldest:
		for i := m.free(); i < len(m.queue) && m.queuedBytes() > target; {
			if m.offered[m.queue[i]].policy == Disconnect {
				i++
			} else {
				m.remove(i, lost)
			}
		}
	}
	if m.queuedBytes() > limit {
		m.disconnect(e.at)
		return false
	}
	return true
}

// conflate leaves, of the events under that policy, the newest of each topic. next is about to come.
func (m *modelSpoke) conflate(next *modelEvent) {
	for i := len(m.queue) - 1; i >= m.free(); i-- {
		e := m.offered[m.queue[i]]
		newer := next != nil && next.policy == Conflate && next.typ == e.typ && next.id == e.id
		for _, j := range m.queue[i+1:] {
			newer = newer || m.offered[j].typ == e.typ && m.offered[j].id == e.id
		}
		if e.policy == Conflate && newer {
			m.remove(i, merged)
		}
	}
}

// passTime applies the limits of time.
func (m *modelSpoke) passTime(now time.Duration) {
	if m.closing && !m.closed && now >= m.due {
		m.end(m.code, m.reason)
	}
	lag := m.limits.SpokeLag
	if lag == 0 || m.closing || m.closed || len(m.queue) == 0 || now < max(m.offered[m.queue[0]].at+lag, m.again) {
		return
	}
	tooOld := func(i int) bool { return now-m.offered[m.queue[i]].at >= lag }
	m.again = now + lag
	switch oldest := m.offered[m.queue[0]]; oldest.policy {
	case Disconnect:
		m.disconnect(now)
		return
	case DropOldest:
		for m.free() < len(m.queue) && tooOld(m.free()) {
			if m.offered[m.queue[m.free()]].policy == Disconnect {
				m.disconnect(now)
				return
			}
			m.remove(m.free(), lost)
		}
		if m.free() < len(m.queue) {
			m.again = m.offered[m.queue[m.free()]].at + lag
		}
	case Conflate:
		m.conflate(nil)
		fallthrough
	case DropNewest:
		for i := m.free(); i < len(m.queue); i++ {
			if e := m.offered[m.queue[i]]; e.policy == Disconnect {
				if tooOld(i) {
					m.disconnect(now)
					return
				}
				m.again = min(m.again, e.at+lag)
				break
			}
		}
	}
}

// disconnect ends a slow spoke.
func (m *modelSpoke) disconnect(now time.Duration) {
	age := time.Duration(0)
	if len(m.queue) > 0 {
		age = now - m.offered[m.queue[0]].at
	}
	m.end(codec.CloseSlow, fmt.Sprintf("slow: queued=%d age=%s", m.queuedBytes(), age))
}

// end gives up what is queued. What the sink has in part it gets whole.
func (m *modelSpoke) end(code codec.CloseCode, reason string) {
	for _, i := range m.queue[m.free():] {
		m.fates[i] = lost
	}
	m.queue = m.queue[:m.free()]
	m.closed, m.code, m.reason = true, code, reason
}

// read takes what has been written since it was last called. For every event next says which one
// it has to be.
func (m *modelSpoke) read(next func() int) {
	stream, inFlight := m.sink.written(m.parsed)
	m.inFlight = inFlight
	for len(stream) > 0 {
		src := bytes.NewReader(stream)
		h, err := ws.ReadHeader(src)
		if err != nil || int64(src.Len()) < h.Length {
			break
		}
		size := len(stream) - src.Len() + int(h.Length)
		frame, payload := stream[:size], stream[size-int(h.Length):size]
		stream, m.parsed = stream[size:], m.parsed+size
		payload = inflated(m.t, h, payload)
		switch {
		case h.OpCode.IsControl():
		case bytes.HasPrefix(payload, []byte(`{"type":"__`)):
			m.readReserved(payload)
		default:
			i := next()
			require.GreaterOrEqual(m.t, i, 0, "an event that was not to come: %.60s", payload)
			require.True(m.t, bytes.Equal(m.offered[i].frame, frame), "%.60s came for %.60s", frame, m.offered[i].frame)
			m.checkGap(i)
			m.fates[i], m.next, m.gap = delivered, i+1, codec.Gap{}
		}
	}
	if m.sent = len(stream); m.sent > 0 && len(m.queue) == 0 {
		i := next()
		require.GreaterOrEqual(m.t, i, 0, "half a frame that was not to come")
		m.queue = []int{i}
	}
	if m.sent > 0 {
		require.True(m.t, bytes.HasPrefix(m.offered[m.queue[0]].frame, stream))
	}
}

func (m *modelSpoke) readReserved(payload []byte) {
	e, err := codec.ParseEnvelope(payload)
	require.NoError(m.t, err)
	require.Equal(m.t, m.welcomed, e.Type != codec.TypeWelcome, "__welcome comes first and once")
	m.welcomed = true
	switch e.Type {
	case codec.TypeGap:
		var gap codec.Gap
		require.NoError(m.t, json.Unmarshal(e.Payload, &gap))
		require.NotZero(m.t, gap.Dropped+gap.Conflated)
		m.gap.Dropped += gap.Dropped
		m.gap.Conflated += gap.Conflated
	case codec.TypeSubscribed, codec.TypeUnsubscribed, codec.TypeError:
		require.NotEmpty(m.t, m.answers)
		require.Equal(m.t, m.answers[0], e.Topic())
		m.answers = m.answers[1:]
	}
}

// checkGap holds what the spoke was told since its last event against what it has missed before the
// one with the index i.
func (m *modelSpoke) checkGap(i int) {
	require.GreaterOrEqual(m.t, i, m.next, "out of order")
	missing := codec.Gap{}
	for _, f := range m.fates[m.next:i] {
		switch f {
		case lost:
			missing.Dropped++
		case merged:
			missing.Conflated++
		default:
			require.Fail(m.t, "out of order", "the gap covers an event with fate %d", f)
		}
	}
	require.Equal(m.t, missing, m.gap, "gaps before %d of %d", i, len(m.offered))
}

// String is for messages.
func (m *modelSpoke) String() string {
	var b strings.Builder
	for _, i := range m.queue {
		fmt.Fprintf(&b, " %s:%s/%s/%d", m.offered[i].typ, m.offered[i].id, m.offered[i].policy, len(m.offered[i].frame))
	}
	return fmt.Sprintf("spoke %s, sent %d, queue%s", m.spoke.ID(), m.sent, b.String())
}
