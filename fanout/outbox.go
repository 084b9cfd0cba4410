package fanout

import (
	"sync/atomic"

	"github.com/alkdev/hub/codec"
)

// outbox is the queue of one spoke: references to shared items, in order. It exists only while
// something is queued or in flight. It belongs to the shard's goroutine (a Tap's: to its mutex).
type outbox struct {
	*rules
	count    *tally
	deflater *codec.Deflater // of the hub, if the spoke takes compressed frames

	items         []*item // items[head:] wait
	head          int
	sent          int              // bytes of items[head] that the sink already has
	events        int              // how many of the items are events
	byPolicy      [numPolicies]int // the same by policy
	repeats       bool             // events under Conflate may share a topic
	queuedBytes   int64            // of the events, less what is sent: what Limits.SpokeBytes is about
	reservedBytes int64

	ping, pong *codec.Frame // at most one of each waits, ahead of the items

	inFlight int64 // bytes that the sink keeps
	lagging  bool  // a write since the outbox began was not taken whole
	closing  *closingOrder
	index    int   // in shard.waiting
	ageAgain int64 // when expire looks again at a queue that it left too old
}

// rules is what outboxes obey, and where they account for it. One per shard, one per Tap.
type rules struct {
	limits Limits
	op     codec.Opcode
	held   *atomic.Int64 // bytes of queued items in the whole hub, each counted once
	queued int64         // bytes of queued events in all the outboxes of these rules
	losses losses
	seen   map[string]bool // topics, while conflate runs
}

// losses counts what was lost, by reason.
type losses struct {
	dropped, conflated [numLossReasons]uint64
	disconnects        [numLossReasons]uint64
}

func (l *losses) add(other *losses) {
	for r := range numLossReasons {
		l.dropped[r] += other.dropped[r]
		l.conflated[r] += other.conflated[r]
		l.disconnects[r] += other.disconnects[r]
	}
}

// tally accounts for every event offered to one spoke:
// offered = delivered + queued + dropped + conflated.
type tally struct {
	offered, delivered uint64
	missed             *missed // nil until something is lost
}

// missed counts what was offered to one spoke in vain.
type missed struct{ dropped, conflated uint64 }

func (t *tally) losses() missed {
	if t.missed == nil {
		return missed{}
	}
	return *t.missed
}

func (t *tally) lose(dropped, conflated uint64) {
	if t.missed == nil {
		t.missed = &missed{}
	}
	t.missed.dropped += dropped
	t.missed.conflated += conflated
}

// verdict is what offer decided.
type verdict uint8

const (
	queued verdict = iota
	dropped
	tooSlow // the spoke is to be disconnected
)

func (o *outbox) empty() bool { return o.head == len(o.items) && o.ping == nil && o.pong == nil }

// first is the index of the first item that may still be dropped.
func (o *outbox) first() int {
	if o.sent > 0 {
		return o.head + 1
	}
	return o.head
}

func (o *outbox) addQueued(n int64) {
	o.queuedBytes += n
	o.queued += n
}

// push puts it at the end.
func (o *outbox) push(it *item) {
	if o.head > 32 && o.head*2 >= len(o.items) {
		n := copy(o.items, o.items[o.head:])
		clear(o.items[n:])
		o.items, o.head = o.items[:n], 0
	}
	o.items = append(o.items, it)
	if it.isGap {
		return
	}
	if it.reserved {
		o.reservedBytes += o.lenOf(it)
	} else {
		if it.queues.Add(1) == 1 {
			o.held.Add(it.memory())
		}
		o.events++
		o.byPolicy[it.policy]++
		o.addQueued(o.lenOf(it))
	}
}

// release accounts for an item that leaves the queue, with unsent bytes of it still in queuedBytes.
func (o *outbox) release(it *item, unsent int64) {
	if it.isGap {
		return
	}
	if it.reserved {
		o.reservedBytes -= o.lenOf(it)
	} else {
		if it.queues.Add(-1) == 0 {
			o.held.Add(-it.memory())
		}
		o.events--
		o.byPolicy[it.policy]--
		o.addQueued(-unsent)
	}
}

// giveUp empties the queue. The rest of an item that the sink has in part is returned: it must
// still be written, for a stream never holds half a frame.
func (o *outbox) giveUp(why LossReason) (rest []byte) {
	if o.sent > 0 {
		it := o.items[o.head]
		rest = o.frameOf(it).Bytes()[o.sent:]
		o.sentItem(it, int64(len(rest)))
	}
	for _, it := range o.items[o.first():] {
		if it.event() {
			o.drops(why)
		}
		if !it.isGap {
			o.release(it, o.lenOf(it))
		}
	}
	o.items, o.head, o.sent = nil, 0, 0
	o.ping, o.pong = nil, nil
	return rest
}

func (o *outbox) sentItem(it *item, unsent int64) {
	if it.event() {
		o.count.delivered++
	}
	o.release(it, unsent)
}

// chunk returns the next bytes for the sink: control frames, then whole items up to max bytes, or a
// part of one that is larger than twice that. The bytes are valid until the next use of scratch;
// they are in it only where items had to be joined.
func (o *outbox) chunk(max int, scratch *[]byte) []byte {
	if o.sent == 0 && (o.ping != nil || o.pong != nil) {
		return o.controlFrames(scratch)
	}
	it := o.items[o.head]
	b := o.frameOf(it).Bytes()[o.sent:]
	if len(b) > 2*max {
		return b[:max]
	}
	n := len(b)
	last := o.head + 1
	for ; last < len(o.items) && o.ping == nil && o.pong == nil; last++ {
		if n += o.frameOf(o.items[last]).Len(); n > max {
			break
		}
	}
	if last == o.head+1 {
		return b
	}
	*scratch = append((*scratch)[:0], b...)
	for _, it := range o.items[o.head+1 : last] {
		*scratch = append(*scratch, o.frameOf(it).Bytes()...)
	}
	return *scratch
}

func (o *outbox) controlFrames(scratch *[]byte) []byte {
	*scratch = (*scratch)[:0]
	for _, f := range []*codec.Frame{o.pong, o.ping} {
		if f != nil {
			*scratch = append(*scratch, f.Bytes()...)
		}
	}
	return *scratch
}

// frameOf returns what goes out for it. A gap gets its frame now, and does not grow any more.
func (o *outbox) frameOf(it *item) *codec.Frame {
	if it.frame == nil {
		it.frame = reservedFrame(o.op, codec.Control(codec.TypeGap, "", it.gap))
	}
	return compressed(it.frame, o.deflater)
}

// lenOf is what it counts for in this queue.
func (o *outbox) lenOf(it *item) int64 { return int64(compressed(it.frame, o.deflater).Len()) }

// compressed returns the compressed twin of f if there is one, else f.
func compressed(f *codec.Frame, d *codec.Deflater) *codec.Frame {
	if d == nil {
		return f
	}
	if twin := f.Compressed(d); twin != nil {
		return twin
	}
	return f
}

// advance accounts for a chunk of n bytes that was written.
func (o *outbox) advance(n int, c *counters, h *Hub) {
	c.deliveredBytes += uint64(n)
	if o.sent == 0 && (o.ping != nil || o.pong != nil) {
		o.ping, o.pong = nil, nil
		return
	}
	now := h.now() // one write, one moment
	for n > 0 {
		it := o.items[o.head]
		unsent := o.frameOf(it).Len() - o.sent
		if n < unsent {
			o.sent += n
			if it.event() {
				o.addQueued(-int64(n))
			}
			return
		}
		n -= unsent
		o.sentItem(it, int64(unsent))
		if it.event() {
			c.deliveries++
			c.latency.observe(now-it.at, 1)
		}
		o.items[o.head] = nil
		o.head++
		o.sent = 0
	}
	if o.head == len(o.items) {
		o.items, o.head = o.items[:0], 0
	}
}

// pop takes the first item out whole, nil if there is none.
func (o *outbox) pop() *item {
	if o.head == len(o.items) {
		return nil
	}
	it := o.items[o.head]
	o.items[o.head] = nil
	o.head++
	if !it.isGap {
		o.sentItem(it, o.lenOf(it))
	}
	return it
}

// maxSpareItems bounds the room that an outbox keeps for the next spoke.
const maxSpareItems = 64

// reset makes a drained outbox ready for another spoke.
func (o *outbox) reset() {
	items := o.items
	if cap(items) > maxSpareItems {
		items = nil
	}
	clear(items[:cap(items)])
	*o = outbox{rules: o.rules, items: items[:0]}
}
