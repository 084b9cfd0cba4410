package fanout

import (
	"maps"
	"math/bits"
	"sync"
	"time"

	"github.com/alkdev/hub/codec"
)

// counters is what a shard counts on its goroutine, and publishes when it has nothing to do.
type counters struct {
	writes, deliveries, deliveredBytes uint64
	queuedBytes, inFlightBytes         int64
	queuedSpokes                       int
	latency                            histogram
	losses                             losses
}

// latencyBuckets is the number of bounds of the dispatch-to-written histogram: 2^16 ns (66 us),
// doubling up to 2^34 ns (17 s).
const latencyBuckets = 19

// histogram counts durations by powers of two of nanoseconds.
type histogram struct {
	buckets [latencyBuckets + 1]uint64 // the last is for everything above
	sum     float64                    // nanoseconds: in a busy year more than an int64 holds
}

func (h *histogram) observe(nanos int64, weight uint64) {
	i := min(max(bits.Len64(uint64(max(nanos, 1)-1))-16, 0), latencyBuckets)
	h.buckets[i] += weight
	h.sum += float64(nanos) * float64(weight)
}

// Histogram is a distribution of durations.
type Histogram struct {
	Bounds []time.Duration // upper bounds
	Counts []uint64        // cumulative, one per bound
	Count  uint64
	Sum    float64 // seconds
}

// Stats is what the hub has done and holds.
type Stats struct {
	Spokes         int
	Opened         uint64
	Closed         map[Ending]uint64
	Dispatched     uint64            // events given to Dispatch for all spokes
	Received       uint64            // events from spokes
	Refused        uint64            // messages from spokes that were no envelopes
	RateLimited    uint64            // messages from spokes that were too many
	Forbidden      map[string]uint64 // events and subscriptions beyond claims
	Panics         uint64            // of callbacks, contained
	Deliveries     uint64            // events handed to spokes
	DeliveredBytes uint64
	Writes         uint64
	Dropped        map[LossReason]uint64
	Conflated      map[LossReason]uint64
	Disconnected   map[LossReason]uint64 // slow spokes, by the limit that they were over
	TapDropped     map[LossReason]uint64 // records that readers of taps were too slow for
	TapConflated   map[LossReason]uint64
	RefusedTopics  map[string]uint64 // subscriptions of spokes that were too many
	TopicBytes     int64             // what subscriptions take, by estimate
	QueuedBytes    int64             // of all spokes, shared frames counted for each
	HeldBytes      int64             // the same, shared frames counted once
	TotalBytes     int64             // what HeldBytes may be at the moment, see SetTotalBytes
	PendingBytes   int64             // dispatched and not yet passed on
	InFlightBytes  int64
	QueuedSpokes   int // spokes with anything queued or in flight
	Latency        Histogram
}

// Ending is how connections ended, for counting.
type Ending struct {
	Code codec.CloseCode // 0 for codes that are not among those of package codec
	Kind CauseKind
}

// endings counts how connections ended.
type endings struct {
	mu sync.Mutex // a leaf
	// +checklocks:mu
	counts map[Ending]uint64
}

func (e *endings) add(c Cause) {
	key := Ending{c.Code, c.Kind}
	switch c.Code {
	case 1000, 1001, 1002, 1005, 1006, 1007, 1008, 1009, 1011, codec.CloseUnauthenticated, codec.CloseSlow:
	default:
		key.Code = 0 // a peer may choose among thousands
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = make(map[Ending]uint64)
	}
	e.counts[key]++
}

// Stats returns what the hub has counted. Numbers of one shard are from the same moment, when it
// last had nothing to do.
func (h *Hub) Stats() Stats {
	s := Stats{
		Opened: h.opened.Load(), Dispatched: h.dispatched.Load(), Received: h.received.Load(),
		Refused: h.refused.Load(), RateLimited: h.rateLimited.Load(), Panics: h.panics.Load(),
		HeldBytes: h.heldBytes.Load(), TotalBytes: h.totalBytes.Load(), PendingBytes: h.pendingBytes.Load(),
		Forbidden:     map[string]uint64{"event": h.forbiddenEvents.Load(), "subscription": h.forbiddenTopics.Load()},
		RefusedTopics: map[string]uint64{codec.CodeTooMany: h.tooManyTopics.Load(), codec.CodeTopicMemory: h.noTopicMemory.Load()},
		TopicBytes:    h.topicBytes.Load(),
		Closed:        make(map[Ending]uint64), Dropped: make(map[LossReason]uint64),
		Conflated: make(map[LossReason]uint64), Disconnected: make(map[LossReason]uint64),
		TapDropped: make(map[LossReason]uint64), TapConflated: make(map[LossReason]uint64),
	}
	var latency histogram
	var lost losses
	for _, sh := range h.shards {
		sh.mu.Lock()
		c := sh.published
		s.Spokes += len(sh.slots) - len(sh.freeSlots)
		sh.mu.Unlock()
		s.Writes += c.writes
		s.Deliveries += c.deliveries
		s.DeliveredBytes += c.deliveredBytes
		s.QueuedBytes += c.queuedBytes
		s.InFlightBytes += c.inFlightBytes
		s.QueuedSpokes += c.queuedSpokes
		lost.add(&c.losses)
		for i, n := range c.latency.buckets {
			latency.buckets[i] += n
		}
		latency.sum += c.latency.sum
	}
	s.Latency = latency.export()
	lostByTaps := h.taps.losses()
	for r := range numLossReasons {
		s.Dropped[r], s.Conflated[r], s.Disconnected[r] = lost.dropped[r], lost.conflated[r], lost.disconnects[r]
		s.TapDropped[r], s.TapConflated[r] = lostByTaps.dropped[r], lostByTaps.conflated[r]
	}
	h.ended.mu.Lock()
	defer h.ended.mu.Unlock()
	maps.Copy(s.Closed, h.ended.counts)
	return s
}

func (h *histogram) export() Histogram {
	out := Histogram{Sum: h.sum / 1e9}
	for i, n := range h.buckets {
		out.Count += n
		if i < latencyBuckets {
			out.Bounds = append(out.Bounds, time.Duration(1)<<(16+i))
			out.Counts = append(out.Counts, out.Count)
		}
	}
	return out
}

// publish makes the shard's counters visible to Stats now.
func (sh *shard) publish() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.publishLocked()
}

// publishLocked makes the shard's counters visible to Stats.
func (sh *shard) publishLocked() {
	c := &sh.counters
	c.losses, c.queuedBytes, c.queuedSpokes = sh.losses, sh.queued, len(sh.waiting)
	sh.published = *c
}
