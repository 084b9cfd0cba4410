package fanout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/alkdev/hub/codec"
)

// Cluster is what a hub needs from whoever joins it with others. No method blocks, and none calls the
// hub back before it returns.
type Cluster interface {
	// ID is this hub's among the others, lower case letters and digits. The ids of its spokes end in
	// "-" and this, so any hub knows from an id where the spoke is.
	ID() string

	// Want says that n more, or with a negative n fewer, of this hub's shards have spokes that want what p
	// selects. It is called with a shard's lock held.
	Want(p codec.Pattern, n int)

	// Forward leaves events that were dispatched here for the hubs that want them, all or none. What one
	// goroutine leaves arrives in that order, also in between what it leaves with Send. It reports whether
	// they were taken; the error, ErrNotForwarded, or ErrTooLarge for what never can be, says that they are not to be
	// delivered here either. The frames are shared: they are never written to.
	Forward(frames ...*codec.Frame) (forwarded bool, err error)

	// Send leaves an order for the hub that has the spoke with the given id, which is not this one. The
	// error says that there is no such hub (ErrNoSpoke) or that it cannot be reached. Else answer, if it
	// is not nil, is called once: with nil if the order was carried out, ErrNoSpoke if the spoke is gone,
	// ErrUnanswered if nobody knows, or what the other hub had against it.
	Send(id string, o Order, answer func(error)) error

	// Info is what an operator asks for.
	Info() ClusterInfo
}

// Order is what one hub has another do to a spoke of it: dispatch events, or close it. The zero value does nothing
// and asks whether the spoke is there.
type Order struct {
	Events []codec.Envelope
	Close  *CloseOrder // nil for no close
}

// CloseOrder is what Spoke.Close is to be called with.
type CloseOrder struct {
	Code   codec.CloseCode
	Reason string
}

// The errors of what takes more than one hub.
var (
	// ErrNotForwarded: the engine is away, or does not keep up. Nothing was done, try later.
	ErrNotForwarded = errors.New("fanout: the other hubs cannot be reached")
	// ErrNoSpoke: no hub has the spoke.
	ErrNoSpoke = errors.New("fanout: there is no such spoke")
	// ErrUnanswered: the hub that has the spoke has not answered. It may have done what it was told.
	ErrUnanswered = errors.New("fanout: the hub that has the spoke does not answer")
)

// ClusterInfo is a cluster as an operator sees it from one of its hubs.
type ClusterInfo struct {
	Engine EngineInfo `json:"engine"`
	Hubs   []HubInfo  `json:"hubs"` // this one first
}

// EngineInfo is the hub's connection to what carries events between hubs. The counts are since the
// hub began.
type EngineInfo struct {
	Kind   string    `json:"kind"`  // nats, embedded, redis; off without a cluster
	State  string    `json:"state"` // up, away or off
	Since  time.Time `json:"since,omitzero"`
	Server string    `json:"server,omitempty"` // without credentials
	Topics int       `json:"topics"`           // patterns that this hub asks the engine for

	Forwarded    uint64 `json:"forwarded"`    // events given to the engine
	NotForwarded uint64 `json:"notForwarded"` // delivered here alone
	Refused      uint64 `json:"refused"`      // neither
	Arrived      uint64 `json:"arrived"`      // events from other hubs
	Repeated     uint64 `json:"repeated"`     // came twice while subscriptions changed, and were left out
	Shed         uint64 `json:"shed"`         // came faster than this hub could take them
	Foreign      uint64 `json:"foreign"`      // messages that are none of the cluster's
	Gaps         uint64 `json:"gaps"`         // times that spokes were told of a loss
	Outages      uint64 `json:"outages"`
	Refusals     uint64 `json:"refusals"` // times that another hub refused this one, or this one another

	OutgoingBytes int64 `json:"outgoingBytes"` // waiting for the engine
	IncomingBytes int64 `json:"incomingBytes"` // waiting for this hub
}

// HubInfo is one hub of a cluster.
type HubInfo struct {
	ID       string    `json:"id"`
	Node     string    `json:"node"`
	State    string    `json:"state"` // live, or lost: silent without having taken its leave
	LastSeen time.Time `json:"lastSeen,omitzero"`
	Spokes   int       `json:"spokes"`
	// Rates over the last seconds.
	DispatchedPerSec float64 `json:"dispatchedPerSec"`
	DeliveriesPerSec float64 `json:"deliveriesPerSec"`
}

// ClusterInfo returns what is known of the cluster; without one, of this hub alone.
func (h *Hub) ClusterInfo() ClusterInfo {
	if c := h.config.Cluster; c != nil {
		return c.Info()
	}
	return ClusterInfo{
		Engine: EngineInfo{Kind: "off", State: "off"},
		Hubs:   []HubInfo{{Node: h.config.Node, State: "live", Spokes: h.Stats().Spokes}},
	}
}

// Clustered reports whether the hub was made with Config.Cluster.
func (h *Hub) Clustered() bool { return h.config.Cluster != nil }

// DispatchHere is DispatchBatch to the spokes of this hub alone, for what has come from another hub.
func (h *Hub) DispatchHere(events []codec.Envelope) (Receipt, error) {
	items, err := h.newBatch(events)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{Matched: h.fanOut(items...)}, nil
}

// forward leaves items that have been reserved for the other hubs. With an error they are given back.
func (h *Hub) forward(items ...*item) (forwarded bool, err error) {
	frames := make([]*codec.Frame, len(items))
	for i, it := range items {
		frames[i] = it.frame
	}
	if forwarded, err = h.config.Cluster.Forward(frames...); err != nil {
		for _, it := range items {
			h.passed(it)
		}
	}
	return forwarded, err
}

// Elsewhere reports whether the id is that of a spoke of another hub of the Cluster.
func (h *Hub) Elsewhere(id string) bool {
	return h.config.Cluster != nil && strings.Contains(id, "-") && !strings.HasSuffix(id, h.suffix)
}

// Carry carries an order out at the spoke with the given id, on whichever hub it is, and waits for the
// answer of that hub. The error is ErrNoSpoke only if no hub has the spoke, and ErrUnanswered if that
// is not known when ctx is done; else it is one of Hub.DispatchBatch.
func (h *Hub) Carry(ctx context.Context, id string, o Order) error {
	if !h.Elsewhere(id) {
		return h.CarryHere(id, o)
	}
	answerc := make(chan error, 1)
	if err := h.config.Cluster.Send(id, o, func(err error) { answerc <- err }); err != nil {
		return err
	}
	select {
	case err := <-answerc:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnanswered, ctx.Err())
	}
}

// CarryHere is Carry for the spokes of this hub. It does not wait.
func (h *Hub) CarryHere(id string, o Order) error {
	s := h.Spoke(id)
	if s == nil {
		return ErrNoSpoke
	}
	if len(o.Events) > 0 {
		r, err := s.DispatchBatch(o.Events)
		switch {
		case err != nil:
			return err
		case r.Matched < len(o.Events):
			return ErrNoSpoke // it has gone just now
		}
	}
	if o.Close != nil {
		s.Close(o.Close.Code, o.Close.Reason)
	}
	return nil
}

// GapEngine is the reason in a __gap for what other hubs may have dispatched while they could not be
// reached.
const GapEngine = "engine"

// Gap tells the spokes that are subscribed to what a pattern selects (to anything, if there are none) that
// dropped events are missing from here on; 0 if nobody knows how many. Spokes that have come after the
// given time are not told. It returns how many are.
func (h *Hub) Gap(before time.Time, dropped uint64, reason string, patterns ...codec.Pattern) (told int) {
	deadline := uint32(before.Sub(h.began) / joinedUnit)
	for _, sh := range h.shards {
		told += sh.gap(deadline, codec.Gap{Dropped: dropped, Reason: reason}, patterns)
	}
	return told
}

// gap leaves word for the shard's goroutine to put a gap behind what has been posted.
func (sh *shard) gap(deadline uint32, gap codec.Gap, patterns []codec.Pattern) int {
	sh.mu.Lock()
	var told []*Spoke
	for _, s := range sh.slots {
		if s != nil && int32(deadline-s.joined) >= 0 && s.wantsAnyLocked(patterns) {
			told = append(told, s)
		}
	}
	if len(told) == 0 {
		sh.mu.Unlock()
		return 0
	}
	sh.inbox = append(sh.inbox, post{op: opDo, do: func() {
		now := sh.hub.now()
		for _, s := range told {
			sh.tellGap(s, gap, now)
		}
	}})
	sh.wakeLocked()
	return len(told)
}

// wantsAnyLocked reports whether the spoke is subscribed to what one of the patterns selects, or, if there are
// none, to anything. It needs shard.mu.
func (s *Spoke) wantsAnyLocked(patterns []codec.Pattern) bool {
	if s.inAll != notIndexed {
		return true
	}
	if s.subs == nil {
		return false
	}
	if len(patterns) == 0 {
		return len(s.subs.list) > 0
	}
	for _, sub := range s.subs.list {
		for _, p := range patterns {
			if sub.pattern.Covers(p) || p.Covers(sub.pattern) {
				return true
			}
		}
	}
	return false
}

// tellGap puts a gap at the end of what is queued for s.
func (sh *shard) tellGap(s *Spoke, gap codec.Gap, now int64) {
	sh.checkOwned()
	if s.state != open || sh.hub.config.Echo {
		return
	}
	o := sh.outboxOf(s)
	if n := len(o.items); n > o.head && o.items[n-1].open() && o.items[n-1].gap.Reason == gap.Reason {
		o.items[n-1].gap.Dropped += gap.Dropped
		return
	}
	o.push(&item{isGap: true, at: now, gap: gap})
	sh.flush(s)
}
