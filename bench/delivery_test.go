package bench

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

const (
	testClients = 200
	testEvents  = 500
)

func TestEveryClientGetsEveryEventOnceInOrder(t *testing.T) {
	h := startHub(t, configWith(2))
	f := fleet.Launch(t)
	h.connect(t, f, fleet.Clients{Reading: testClients, Checked: 1})
	cases := []struct{ payload, window int }{{64, 1}, {2048, 4}, {256, 64}}
	for _, c := range cases {
		ev := newEvent(t, c.payload)
		r, err := h.source(f, ev).Measure(fleet.Load{Event: ev.Event, Window: c.window, Events: testEvents})
		require.NoError(t, err)
		require.EqualValues(t, testClients*testEvents, r.Deliveries)
		require.Positive(t, r.CPU)
		require.Positive(t, r.P50)
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

func TestStalledClientsAreNotWaitedFor(t *testing.T) {
	const stalled = 20
	for policy, lost := range map[fanout.Policy]func(fanout.Stats) uint64{
		fanout.Disconnect: func(s fanout.Stats) uint64 { return s.Disconnected[fanout.OverSpokeBytes] },
		fanout.DropOldest: func(s fanout.Stats) uint64 { return s.Dropped[fanout.OverSpokeBytes] },
	} {
		t.Run(policy.String(), func(t *testing.T) {
			h := startHub(t, fanout.Config{Policy: policy})
			f := fleet.Launch(t)
			h.connect(t, f, fleet.Clients{Reading: testClients, Stalled: stalled, Checked: 1})
			ev := newEvent(t, 16<<10)
			_, err := f.Begin(ev.Event)
			require.NoError(t, err)
			w := f.Window(8)
			for lost(h.hub.Stats()) < stalled { // how much the kernel takes first is its affair
				require.Less(t, w.Published(), uint64(testEvents))
				require.NoError(t, w.Room())
				_, err := h.hub.Dispatch(ev.numbered(w.Stamp()))
				require.NoError(t, err)
			}
			require.NoError(t, w.Drain())
			r, err := f.Report()
			require.NoError(t, err)
			require.Equal(t, w.Published()*testClients, r.Deliveries)
		})
	}
}

// TestLossIsNoticed keeps one event from everybody, one from one spoke, and sends one twice.
func TestLossIsNoticed(t *testing.T) {
	h := startHub(t, configWith(1))
	f := fleet.Launch(t)
	h.connect(t, f, fleet.Clients{Reading: 10, Checked: 5})
	ev := newEvent(t, 64)
	one := h.hub.Spokes()[3]
	for name, publish := range map[string]func(n uint64) error{
		"swapped": func(n uint64) error { _, err := h.hub.Dispatch(ev.numbered(n ^ 1)); return err },
		"twice for one": func(n uint64) error {
			_, err := h.hub.Dispatch(ev.numbered(n))
			if n == 5 {
				_, again := one.Dispatch(ev.envelope)
				err = errors.Join(err, again)
			}
			return err
		},
	} {
		_, err := f.Begin(ev.Event)
		require.NoError(t, err)
		w := f.Window(10)
		for range 10 {
			require.NoError(t, publish(w.Stamp()))
		}
		require.NoError(t, w.Drain())
		h.hub.Flush()
		notices := func() bool { _, err := f.Report(); return err != nil } // the repetition may still be on its way
		require.Eventually(t, notices, 5*time.Second, time.Millisecond, name)
	}
}
