package admin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

func TestLatencyIsThatOfTheTimeBetween(t *testing.T) {
	bounds := []time.Duration{100, 200, 400}
	at := func(all uint64, cumulative ...uint64) fanout.Histogram {
		return fanout.Histogram{Bounds: bounds, Counts: cumulative, Count: all}
	}
	for _, test := range []struct {
		before, now fanout.Histogram
		want        *latency
	}{
		{at(0, 0, 0, 0), at(0, 0, 0, 0), nil},
		{at(7, 1, 5, 7), at(7, 1, 5, 7), nil},
		{at(0, 0, 0, 0), at(100, 100, 100, 100), &latency{100, 50, 99}},
		{at(0, 0, 0, 0), at(100, 0, 100, 100), &latency{100, 150, 199}},
		{at(9, 9, 9, 9), at(109, 9, 109, 109), &latency{100, 150, 199}}, // what was before does not count
		{at(0, 0, 0, 0), at(100, 50, 98, 100), &latency{100, 100, 300}}, // the 99th is in the middle of the last
		{at(0, 0, 0, 0), at(100, 0, 0, 0), &latency{100, 400, 400}},     // above all bounds
		{at(0, 0, 0, 0), at(100, 0, 0, 60), &latency{100, 366, 400}},    // empty buckets are passed over
		{at(0, 0, 0, 0), at(1, 0, 1, 1), &latency{1, 150, 199}},
	} {
		require.Equal(t, test.want, latencySince(test.before, test.now), "%v %v", test.before, test.now)
	}
}
