package bench

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

const (
	testClients = 200
	testEvents  = 500
)

// deliver publishes events through a window and returns what became of them, every frame compared.
func deliver(t *testing.T, f *fleet, to writer, payload, size int) reply {
	t.Helper()
	ev := newEvent(t, payload)
	_, err := f.begin(ev)
	require.NoError(t, err)
	w := &window{fleet: f, size: uint64(size)}
	to.begin(w, ev)
	for range testEvents {
		require.NoError(t, to.publish(w, ev), whyStuck(f))
	}
	require.NoError(t, to.flush(w))
	require.NoError(t, w.drain(), whyStuck(f))
	r, err := f.report()
	require.NoError(t, err)
	return r
}

func TestEveryClientGetsEveryEventOnceInOrder(t *testing.T) {
	h := startHub(t, configWith(2))
	f := launch(t, false)
	_, err := f.connect(h.address, testClients, 0, 1)
	require.NoError(t, err)
	cases := []struct{ payload, window int }{{64, 1}, {2048, 4}, {256, 64}}
	for _, c := range cases {
		r := deliver(t, f, h, c.payload, c.window)
		require.EqualValues(t, testClients*testEvents, r.Deliveries)
		require.Positive(t, r.P50)
		require.LessOrEqual(t, r.P50, r.P99)
		require.LessOrEqual(t, r.P99, r.Max)
	}
	h.hub.Flush()
	st := h.hub.Stats()
	require.EqualValues(t, len(cases)*testClients*testEvents, st.Deliveries)
	require.Empty(t, noZeroes(st.Dropped))
	require.Empty(t, noZeroes(st.Disconnected))
}

func noZeroes(m map[fanout.LossReason]uint64) map[fanout.LossReason]uint64 {
	left := make(map[fanout.LossReason]uint64)
	for k, n := range m {
		if n > 0 {
			left[k] = n
		}
	}
	return left
}

func TestFloorDeliversTheSame(t *testing.T) {
	f := launch(t, true)
	l := startFloor(t, f, testClients)
	for _, size := range []int{1, 64} {
		r := deliver(t, f, l, 256, size)
		require.EqualValues(t, testClients*testEvents, r.Deliveries)
	}
}

func TestStalledClientsAreNotWaitedFor(t *testing.T) {
	const stalled = 20
	for policy, lost := range map[fanout.Policy]func(fanout.Stats) uint64{
		fanout.Disconnect: func(s fanout.Stats) uint64 { return s.Disconnected[fanout.OverSpokeBytes] },
		fanout.DropOldest: func(s fanout.Stats) uint64 { return s.Dropped[fanout.OverSpokeBytes] },
	} {
		t.Run(policy.String(), func(t *testing.T) {
			h := startHub(t, fanout.Config{Policy: policy})
			f := launch(t, false)
			_, err := f.connect(h.address, testClients, stalled, 1)
			require.NoError(t, err)
			ev := newEvent(t, 16<<10)
			_, err = f.begin(ev)
			require.NoError(t, err)
			w := &window{fleet: f, size: 8}
			for lost(h.hub.Stats()) < stalled { // how much the kernel takes first is its affair
				require.Less(t, w.published, uint64(testEvents))
				require.NoError(t, h.publish(w, ev), whyStuck(f))
			}
			require.NoError(t, w.drain(), whyStuck(f))
			r, err := f.report()
			require.NoError(t, err)
			require.Equal(t, w.published*testClients, r.Deliveries)
		})
	}
}

// TestLossIsNoticed keeps one event from everybody, one from one spoke, and sends one twice.
func TestLossIsNoticed(t *testing.T) {
	h := startHub(t, configWith(1))
	f := launch(t, false)
	_, err := f.connect(h.address, 10, 0, 5)
	require.NoError(t, err)
	ev := newEvent(t, 64)
	one := h.hub.Spokes()[3]
	for name, publish := range map[string]func(n uint64) error{
		"swapped": func(n uint64) error { _, err := h.hub.Dispatch(ev.numbered(n ^ 1)); return err },
		"twice for one": func(n uint64) error {
			_, err := h.hub.Dispatch(ev.numbered(n))
			if n == 5 {
				_, again := one.Dispatch(ev.Envelope)
				err = errors.Join(err, again)
			}
			return err
		},
	} {
		_, err := f.begin(ev)
		require.NoError(t, err)
		w := &window{fleet: f, size: 10}
		for range 10 {
			require.NoError(t, publish(w.stamp()))
		}
		require.NoError(t, w.drain())
		h.hub.Flush()
		notices := func() bool { _, err := f.report(); return err != nil } // the repetition may still be on its way
		require.Eventually(t, notices, 5*time.Second, time.Millisecond, name)
	}
}

func TestCheckerComparesAcrossReads(t *testing.T) {
	ev := newEvent(t, 100)
	stream := func(numbers ...uint64) (b []byte) {
		for _, n := range numbers {
			putNumber(ev.frame[ev.numberAt:], n)
			b = append(b, ev.frame...)
		}
		return b
	}
	for _, c := range []struct {
		stream []byte
		next   uint64
		fault  bool
	}{
		{stream(0, 1, 2), 3, false},
		{stream(0, 1, 1), 2, true},
		{stream(0, 2), 1, true},
		{append(stream(0), 0x89, 0), 1, true}, // a ping
	} {
		for _, size := range []int{1, 7, len(ev.frame), 1000} {
			var k checker
			k.begin(ev.frame, ev.numberAt)
			for rest := c.stream; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				k.feed(rest[:min(size, len(rest))])
			}
			require.Equal(t, c.next, k.next)
			require.Equal(t, c.fault, k.fault != nil, fmt.Sprint(k.fault))
		}
	}
}

func TestTallyCompletesWithTheLastClient(t *testing.T) {
	var y tally
	var b board
	y.begin(make([]byte, 10), 3)
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
