package fanout

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/bytedance/sonic"

	"github.com/alkdev/hub/codec"
)

// Tap is what spokes do, as a stream of records for one reader in this process: their events, their
// connections and disconnections. A reader that is slow is treated as a slow spoke is, by the same
// limits and policies.
type Tap struct {
	// Set by Hub.Tap, read-only afterwards.
	hub      *Hub
	patterns []codec.Pattern
	readyc   chan struct{} // 1 deep, never closed

	mu sync.Mutex // a leaf
	// +checklocks:mu
	rules rules
	// +checklocks:mu
	tally tally
	// +checklocks:mu
	queue outbox
	// +checklocks:mu
	err error // why there will be no more records
}

// Record kinds, as in the member "kind" of a record.
const (
	RecordEvent        = "event"
	RecordConnected    = "connected"
	RecordDisconnected = "disconnected"
	RecordGap          = "gap"
)

// Record is one thing that happened. Which members are set depends on the kind.
type Record struct {
	Kind   string       `json:"kind"`
	Spoke  string       `json:"spoke,omitempty"`
	Event  *recordEvent `json:"event,omitempty"`
	Remote string       `json:"remote,omitempty"`
	Side   string       `json:"side,omitempty"`
	Code   uint16       `json:"code,omitempty"`
	Reason string       `json:"reason,omitempty"`
	Cause  string       `json:"cause,omitempty"`

	Dropped   uint64 `json:"dropped,omitempty"`
	Conflated uint64 `json:"conflated,omitempty"`
}

// recordEvent is an envelope within a record.
type recordEvent struct {
	Type    string                 `json:"type"`
	ID      string                 `json:"id"`
	Payload sonic.NoCopyRawMessage `json:"payload"`
}

// The errors of Tap.Next.
var (
	ErrTapSlow   = errors.New("fanout: the reader was too slow")
	ErrTapClosed = errors.New("fanout: the tap is closed")
)

// taps are the hub's taps.
type taps struct {
	hub  *Hub
	mu   sync.Mutex // for changes of the list; a Tap.mu may be taken within
	list atomic.Pointer[[]*Tap]
	// +checklocks:mu
	gone losses // of taps that are not in the list any more
}

// Tap returns a stream of events from spokes that a pattern selects (of all events, if there are
// none), and of all connections and disconnections. Close it when done.
func (h *Hub) Tap(patterns ...codec.Pattern) *Tap {
	t := &Tap{hub: h, patterns: patterns, readyc: make(chan struct{}, 1)}
	t.rules = rules{limits: h.config.Limits, held: new(atomic.Int64)} // a slow tap is not to cost spokes anything
	t.queue = outbox{rules: &t.rules, count: &t.tally}
	h.taps.change(func(list []*Tap) []*Tap { return append(slices.Clone(list), t) })
	if h.closed.Load() {
		t.end(ErrClosed)
	}
	return t
}

func (ts *taps) change(fn func([]*Tap) []*Tap) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var list []*Tap
	if p := ts.list.Load(); p != nil {
		list = *p
	}
	list = fn(list)
	if len(list) == 0 {
		ts.list.Store(nil)
		return
	}
	ts.list.Store(&list)
}

// each calls fn for every tap; without one it costs a load.
func (ts *taps) each(fn func(*Tap)) {
	if list := ts.list.Load(); list != nil {
		for _, t := range *list {
			fn(t)
		}
	}
}

func (ts *taps) event(s *Spoke, e codec.Envelope) {
	ts.each(func(t *Tap) {
		if t.wants(e) {
			payload := sonic.NoCopyRawMessage(e.Payload)
			if len(payload) == 0 {
				payload = sonic.NoCopyRawMessage("null")
			}
			t.offer(e.Type, e.ID, ts.hub.policyOf(e.Type), Record{
				Kind: RecordEvent, Spoke: s.ID(), Event: &recordEvent{e.Type, e.ID, payload},
			})
		}
	})
}

func (ts *taps) connected(s *Spoke) {
	ts.each(func(t *Tap) {
		t.offer("__connection", s.ID(), ts.hub.config.Policy, Record{Kind: RecordConnected, Spoke: s.ID(), Remote: s.Remote()})
	})
}

func (ts *taps) disconnected(s *Spoke, c Cause) {
	ts.each(func(t *Tap) {
		t.offer("__connection", s.ID(), ts.hub.config.Policy, Record{
			Kind: RecordDisconnected, Spoke: s.ID(), Remote: s.Remote(),
			Side: c.Side.String(), Code: uint16(c.Code), Reason: c.Reason, Cause: string(c.Kind),
		})
	})
}

func (ts *taps) close() { ts.each(func(t *Tap) { t.end(ErrClosed) }) }

func (t *Tap) wants(e codec.Envelope) bool {
	return len(t.patterns) == 0 ||
		slices.ContainsFunc(t.patterns, func(p codec.Pattern) bool { return p.Matches(e.Type, e.ID) })
}

// encodeRecord returns r in one line. A payload may have been written in several: JSON has line
// breaks only between its tokens, where a space does as well.
func encodeRecord(r Record) []byte {
	b, err := sonic.ConfigDefault.Marshal(r)
	if err != nil {
		panic("fanout: record: " + err.Error()) // all parts were checked when they were read
	}
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
	return b
}

func (t *Tap) offer(typ, id string, p Policy, r Record) {
	f := codec.NewRecord(typ, id, encodeRecord(r))
	now := t.hub.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	if int64(f.Len()) > t.rules.limits.SpokeBytes {
		p = DropNewest // it would never fit, and is no sign of a slow reader
	}
	v, _ := t.queue.offer(&item{frame: f, at: now, policy: p}, now)
	if late, _ := t.queue.expire(now); v == tooSlow || late == tooSlow {
		t.endLocked(ErrTapSlow)
	}
	t.signal()
}

// signal wakes Next.
func (t *Tap) signal() {
	select {
	case t.readyc <- struct{}{}:
	default:
	}
}

// Next waits for the next record and returns it as a JSON object in one line, which is the
// caller's. A record that is there is returned even if ctx is done: with such a context Next does not
// wait. For one goroutine at a time. The error is ErrTapSlow, ErrTapClosed, ErrClosed or that of
// the context.
func (t *Tap) Next(ctx context.Context) ([]byte, error) {
	for {
		if b, err := t.pop(); b != nil || err != nil {
			return b, err
		}
		select {
		case <-t.readyc:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *Tap) pop() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil, t.err
	}
	it := t.queue.pop()
	switch {
	case it == nil:
		return nil, nil
	case it.isGap:
		return encodeRecord(Record{
			Kind: RecordGap, Dropped: it.gap.Dropped, Conflated: it.gap.Conflated, Reason: it.gap.Reason,
		}), nil
	}
	return it.frame.Bytes(), nil
}

// Close ends the stream. Later calls do nothing.
func (t *Tap) Close() {
	t.end(ErrTapClosed)
	ts := &t.hub.taps
	ts.change(func(list []*Tap) []*Tap {
		i := slices.Index(list, t)
		if i < 0 {
			return list
		}
		t.addLosses(&ts.gone)
		return slices.Delete(slices.Clone(list), i, i+1)
	})
}

func (t *Tap) addLosses(sum *losses) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum.add(&t.rules.losses)
}

// losses returns what all taps together have lost.
func (ts *taps) losses() losses {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	sum := ts.gone
	ts.each(func(t *Tap) { t.addLosses(&sum) })
	return sum
}

func (t *Tap) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked(err)
}

func (t *Tap) endLocked(err error) {
	if t.err == nil {
		t.err = err
		t.queue.giveUp(Closed)
		t.signal()
	}
}
