package fleet

import (
	"math/bits"
	"time"
)

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
