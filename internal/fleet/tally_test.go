package fleet

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTallyCompletesWithTheLastClient(t *testing.T) {
	var y tally
	var b board
	y.begin(3)
	require.NoError(t, y.advance(0, 2))
	require.NoError(t, y.advance(0, 1))
	require.False(t, y.settle(&b))
	require.EqualValues(t, 3, y.latency.count)
	require.NoError(t, y.advance(0, 3))
	require.True(t, y.settle(&b))
	require.EqualValues(t, 1, y.completed)
	require.NoError(t, y.advance(1, 3))
	require.NoError(t, y.advance(2, 3))
	require.True(t, y.settle(&b))
	require.EqualValues(t, 3, y.completed)
	require.EqualValues(t, 9, y.latency.count)
	require.Error(t, y.advance(3, 3+boardSlots))
}

func TestGroupTallyCompletesInTheOrderOfEvents(t *testing.T) {
	var y groupTally
	var b board
	y.begin([]int32{1, 2})
	require.False(t, y.settle(&b))
	require.NoError(t, y.advance(1, 0, 2)) // events 1 and 3, of one client of two
	require.False(t, y.settle(&b))
	require.NoError(t, y.advance(0, 0, 1)) // event 0
	require.True(t, y.settle(&b))
	require.EqualValues(t, 1, y.completed)
	require.NoError(t, y.advance(0, 1, 2))
	require.NoError(t, y.advance(1, 0, 1))
	require.True(t, y.settle(&b))
	require.EqualValues(t, 3, y.completed)
	require.NoError(t, y.advance(1, 1, 2))
	require.True(t, y.settle(&b))
	require.EqualValues(t, 4, y.completed)
	require.EqualValues(t, 6, y.latency.count)
	require.Error(t, y.advance(0, boardSlots/2+2, boardSlots/2+3))
}

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	for i := range int64(1000) {
		h.add(i*1000, 1)
	}
	require.InEpsilon(t, 500e3, float64(h.quantile(0.5)), 0.04)
	require.InEpsilon(t, 990e3, float64(h.quantile(0.99)), 0.04)
	require.EqualValues(t, 999e3, h.quantile(1))
	for _, n := range []int64{0, 1, 63, 64, 65, 127, 128, 1 << 40, 1<<62 + 1} {
		h = histogram{}
		h.add(n, 5)
		require.EqualValues(t, n, h.quantile(0.5)) // never above the largest
	}
}
