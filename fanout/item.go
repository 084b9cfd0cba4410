package fanout

import (
	"sync/atomic"

	"github.com/alkdev/hub/codec"
)

// item is one frame on its way, shared by every spoke that takes it.
type item struct {
	// Set by newItem, read-only afterwards, except in a gap.
	frame    *codec.Frame // nil for a gap that is still open
	at       int64        // when it was dispatched, in nanoseconds of the hub's clock
	policy   Policy
	reserved bool   // outside the limits, never dropped
	except   *Spoke // the spoke that does not get it, or nil

	queues  atomic.Int32 // outboxes that hold it
	pending atomic.Int32 // shards that have not passed it on yet

	// gap is what is missing here. A gap belongs to one outbox, and grows until it is sent.
	gap   codec.Gap
	isGap bool
}

// itemBytes is what an event takes beside its bytes: the item, the frame and its topic, references in
// queues. Without it a flood of small events would hold ten times the memory that it counts for.
const itemBytes = 256

func (it *item) len() int64 { return int64(it.frame.Len()) }

// memory is what it counts for in the hub's total.
func (it *item) memory() int64 { return it.len() + itemBytes }

// event reports whether the limits and the count of deliveries are about it.
func (it *item) event() bool { return !it.reserved && !it.isGap }

// open reports whether it is a gap that may still grow.
func (it *item) open() bool { return it.isGap && it.frame == nil }

// newGap returns a gap in the place of an event.
func newGap(in *item, dropped, conflated uint64, reason LossReason) *item {
	gap := &item{isGap: true, at: in.at}
	gap.addGap(dropped, conflated, reason)
	return gap
}

func (it *item) addGap(dropped, conflated uint64, reason LossReason) {
	it.gap.Dropped += dropped
	it.gap.Conflated += conflated
	if it.gap.Reason == "" {
		it.gap.Reason = reason.String()
	}
}
