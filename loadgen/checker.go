package loadgen

// verdict says what an event is to the stream in which it came.
type verdict uint8

const (
	fresh   verdict = iota // the newest so far
	late                   // out of order: newer ones came before it
	doubled                // it was there already
)

// maxHoles bounds what a checker remembers. Of the oldest holes it then knows only that they are
// lost: what still came for them would count as doubled.
const maxHoles = 256

// checker follows one spoke's stream, whose events are numbered from 0.
type checker struct {
	next     uint64 // one more than the newest
	received uint64 // each counted once
	holes    []span // what is missing below next, in order; nil while nothing is
}

// span is a range of numbers, to not included.
type span struct{ from, to uint64 }

// see takes the next event of the stream.
func (k *checker) see(seq uint64) verdict {
	if seq >= k.next {
		if seq > k.next {
			if len(k.holes) == maxHoles {
				k.holes = append(k.holes[:0], k.holes[1:]...)
			}
			k.holes = append(k.holes, span{k.next, seq})
		}
		k.next = seq + 1
		k.received++
		return fresh
	}
	for i := len(k.holes) - 1; i >= 0; i-- {
		if h := k.holes[i]; seq >= h.from && seq < h.to {
			k.fill(i, seq)
			k.received++
			return late
		}
	}
	return doubled
}

// fill takes seq out of hole i.
func (k *checker) fill(i int, seq uint64) {
	h := k.holes[i]
	var parts []span
	if h.from < seq {
		parts = append(parts, span{h.from, seq})
	}
	if seq+1 < h.to {
		parts = append(parts, span{seq + 1, h.to})
	}
	k.holes = append(k.holes[:i], append(parts, k.holes[i+1:]...)...)
}
