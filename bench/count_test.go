package bench

import (
	"bytes"
	"fmt"
	"math/bits"
	"time"
)

// tally knows which events are complete, at a cost per read(2) that does not depend on how many
// frames it brought. The clock is looked at once for all the reads of a turn.
type tally struct {
	frameBytes uint64
	completed  uint64 // events that every client has
	newest     uint64 // events that some client has
	latency    histogram

	// By number of events modulo boardSlots.
	clients [boardSlots]int32 // how many clients have got exactly so many events
	steps   [boardSlots]int32 // the sum up to k says how many clients got event k in this turn
}

func (t *tally) begin(frame []byte, clients int) {
	*t = tally{frameBytes: uint64(len(frame))}
	t.clients[0] = int32(clients)
}

// advance notes that a client that had so many events has more now.
func (t *tally) advance(from, to uint64) error {
	if to-t.completed >= boardSlots {
		return fmt.Errorf("a client has %d events where another has %d", to, t.completed)
	}
	t.clients[from%boardSlots]--
	t.clients[to%boardSlots]++
	t.steps[from%boardSlots]++
	t.steps[to%boardSlots]--
	t.newest = max(t.newest, to)
	return nil
}

// settle ends a turn. It reports whether more events are complete than before.
func (t *tally) settle(b *board) bool {
	if t.newest == t.completed {
		return false
	}
	at := now()
	deliveries := int32(0)
	for k := t.completed; k < t.newest; k++ {
		deliveries += t.steps[k%boardSlots]
		t.steps[k%boardSlots] = 0
		if deliveries > 0 {
			t.latency.add(at-b.slot(k).Load(), uint64(deliveries))
		}
	}
	t.steps[t.newest%boardSlots] = 0
	before := t.completed
	for t.completed < t.newest && t.clients[t.completed%boardSlots] == 0 {
		t.completed++
	}
	return t.completed > before
}

// checker compares a client's stream with what was published: every frame, in order, once.
type checker struct {
	frame    []byte // as it is expected next
	numberAt int
	next     uint64
	matched  int // bytes of frame that have arrived
	fault    error
}

func (k *checker) begin(frame []byte, numberAt int) {
	*k = checker{frame: bytes.Clone(frame), numberAt: numberAt}
	putNumber(k.frame[numberAt:], 0)
}

func (k *checker) feed(b []byte) {
	for len(b) > 0 && k.fault == nil {
		n := min(len(b), len(k.frame)-k.matched)
		if want := k.frame[k.matched : k.matched+n]; !bytes.Equal(b[:n], want) {
			k.fault = fmt.Errorf("event %d: got %q where %q was expected", k.next, b[:n], want)
			return
		}
		b = b[n:]
		if k.matched += n; k.matched == len(k.frame) {
			k.matched = 0
			k.next++
			putNumber(k.frame[k.numberAt:], k.next)
		}
	}
}

// histogram counts durations in buckets of about 3 percent.
type histogram struct {
	buckets [64 << 5]uint64
	count   uint64
	max     time.Duration
}

func (h *histogram) add(nanos int64, weight uint64) {
	h.buckets[bucketOf(nanos)] += weight
	h.count += weight
	h.max = max(h.max, time.Duration(nanos))
}

// bucketOf gives each value below 64 a bucket of its own, and each power of two above it 32.
func bucketOf(nanos int64) int {
	n := uint64(max(nanos, 0))
	shift := max(bits.Len64(n)-6, 0)
	return shift<<5 + int(n>>shift)
}

// quantile returns the upper bound of the bucket in which the quantile lies.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.count))
	for i, n := range h.buckets {
		if n > rank {
			shift := max(i>>5-1, 0)
			return min(time.Duration((i-shift<<5+1)<<shift-1), h.max)
		}
		rank -= n
	}
	return h.max
}
