package admin

import (
	"time"

	"github.com/alkdev/hub/fanout"
)

// latency is how long events took from their dispatch to their writes.
type latency struct {
	Count uint64        `json:"count"`
	P50   time.Duration `json:"p50Nanos"`
	P99   time.Duration `json:"p99Nanos"`
}

// latencySince returns what has been counted in a histogram since it was as before, nil if nothing has.
func latencySince(before, now fanout.Histogram) *latency {
	if now.Count <= before.Count {
		return nil
	}
	return &latency{
		Count: now.Count - before.Count,
		P50:   quantile(before, now, 0.50),
		P99:   quantile(before, now, 0.99),
	}
}

// quantile returns below which duration the share q of what has been counted lies. Within a bucket it is
// taken as evenly spread, as histogram_quantile of Prometheus does: so both say the same. What is above
// all bounds is taken to be at the last.
func quantile(before, now fanout.Histogram, q float64) time.Duration {
	rank := q * float64(now.Count-before.Count)
	lower, below := time.Duration(0), 0.0
	for i, upper := range now.Bounds {
		count := float64(now.Counts[i] - before.Counts[i])
		if count >= rank && count > below {
			return lower + time.Duration(float64(upper-lower)*(rank-below)/(count-below))
		}
		lower, below = upper, count
	}
	return lower
}
