package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// turnTime is how long a turn publishes, at least.
const turnTime = 2 * time.Second

// manySpokes is the size of most rows.
func manySpokes() int {
	if testing.Short() {
		return 1000
	}
	return 10000
}

// contest is a hub and a floor with clients of their own, all connected.
type contest struct {
	h     *runningHub
	hub   *fleet.Fleet
	floor *fleet.Floor
}

// startContest connects the same clients to a hub and to a floor.
func startContest(b testing.TB, config fanout.Config, c fleet.Clients) contest {
	b.Helper()
	c.Checked = checkedInBenchmarks
	h := startHub(b, config)
	f := fleet.Launch(b)
	h.connect(b, f, c)
	return contest{h, f, fleet.ConnectFloor(b, fleet.Launch(b), c)}
}

// pairs gives both the same load.
func (c contest) pairs(b *testing.B, ev *event, load fleet.Load) []pair {
	b.Helper()
	load.Event = ev.Event
	return inPairs(b, measured(c.h.source(c.hub, ev), 1, load), measured(c.floor, 1, load))
}

// broadcastTargets: CPU per delivery beside the floor. What the window allows the floor has joined
// already, and the hub gets it as a batch; beside that stands what it costs to dispatch it one by one.
func broadcastTargets(b *testing.B, r *results) {
	defer fleet.LeaveClientsTheirCore()()
	spokes := manySpokes()
	c := startContest(b, fanout.Config{}, fleet.Clients{Reading: spokes})
	for _, window := range caseWindows {
		for _, by := range []string{"batch", "one"} {
			if window == 1 && by == "one" {
				continue // the same
			}
			b.Run(fmt.Sprintf("spokes=%d/payload=256/window=%d/by=%s", spokes, window, by), func(b *testing.B) {
				ev := newEvent(b, 256)
				hub := c.h.source(c.hub, ev)
				if by == "batch" {
					hub = c.h.batches(c.hub, ev, false)
				}
				load := fleet.Load{Event: ev.Event, Window: window, For: turnTime}
				r.compare(b, cpuPerDelivery, target{what: fmt.Sprintf("broadcast, %d spokes, 256 B, window %d by %s", spokes, window, by), atMost: 1.10},
					inPairs(b, measured(hub, 1, load), measured(c.floor, 1, load)))
			})
		}
	}
}

// flatTargets: a delivery costs the same with few spokes and with many. What the floor needs for the
// same is beside it, for the kernel's part is not flat: the more sockets, the fewer of them are in the
// processor's caches.
func flatTargets(b *testing.B, r *results) {
	defer fleet.LeaveClientsTheirCore()()
	sizes := []int{1000, 10000, 19000}
	if testing.Short() {
		sizes = []int{100, 1000}
	}
	b.Run("payload=256/window=4", func(b *testing.B) {
		ev := newEvent(b, 256)
		h := startHub(b, fanout.Config{})
		f := fleet.Launch(b)
		onFloor := fleet.Launch(b)
		floor := fleet.StartFloor(b, onFloor)
		cost := make(map[string][][]float64) // by side, round and size
		measure := func(side fleet.Side) float64 {
			return cpuPerDelivery.of(measured(side, 1, fleet.Load{Event: ev.Event, Window: 4, For: turnTime})(b))
		}
		for b.Loop() {
			var hubs, floors []float64
			for _, n := range sizes {
				h.connect(b, f, fleet.Clients{Reading: n, Checked: checkedInBenchmarks})
				hubs = append(hubs, measure(h.source(f, ev)))
				h.disconnect(b, f)
				_, err := floor.Connect(fleet.Clients{Reading: n, Checked: checkedInBenchmarks})
				require.NoError(b, err)
				floors = append(floors, measure(floor))
				_, err = onFloor.Disconnect()
				require.NoError(b, err)
			}
			cost["hub"], cost["floor"] = append(cost["hub"], hubs), append(cost["floor"], floors)
		}
		b.ReportMetric(0, "ns/op")
		for _, name := range []string{"hub", "floor"} {
			var spread []float64
			for _, round := range cost[name] {
				spread = append(spread, slices.Max(round)/slices.Min(round))
			}
			var bySize []string
			for i, n := range sizes {
				var of []float64
				for _, round := range cost[name] {
					of = append(of, round[i])
				}
				b.ReportMetric(median(of), fmt.Sprintf("%s-%d-cpu-ns/delivery", name, n))
				bySize = append(bySize, fmt.Sprintf("%.4g", median(of)))
			}
			b.ReportMetric(median(spread), name+"-max/min")
			r.add(target{what: fmt.Sprintf("%s at %v spokes, window 4: max to min", name, sizes), atMost: 1.25},
				"cpu-ns/delivery", fmt.Sprint(bySize), "", median(spread), spread)
		}
	})
}

// disconnect ends the connections of f and returns when the hub knows.
func (h *runningHub) disconnect(b testing.TB, f *fleet.Fleet) {
	b.Helper()
	_, err := f.Disconnect()
	require.NoError(b, err)
	require.Eventually(b, func() bool { return h.server.Stats().Connections == 0 }, 10*time.Second, time.Millisecond)
}

// coresTargets: what more than one core brings. The clients stand still while it is measured, as if
// they were on machines of their own: here they would take one of the cores away.
func coresTargets(b *testing.B, r *results) {
	spokes := manySpokes()
	c := startContest(b, fanout.Config{}, fleet.Clients{Reading: spokes})
	for _, size := range []int{4, 64} {
		b.Run(fmt.Sprintf("spokes=%d/payload=256/burst=%d", spokes, size), func(b *testing.B) {
			const bytesAtOnce = 40 << 10 // what every socket takes
			ev := newEvent(b, 256)
			bursts := bytesAtOnce / (size * len(ev.Frame))
			load := fleet.Load{Event: ev.Event, Burst: size, Events: size * bursts}
			r.compare(b, throughput, target{what: fmt.Sprintf("all shards, %d spokes, 256 B, %d at a time", spokes, size), atLeast: 1.1},
				inPairs(b, measured(c.h.batches(c.hub, ev, true), 1, load), measured(c.floor, 1, load)))
		})
	}
}

// calmTargets: how long a broadcast takes on a hub with little to do.
func calmTargets(b *testing.B, r *results) {
	defer fleet.LeaveClientsTheirCore()()
	const perSec = 5
	spokes := manySpokes()
	b.Run(fmt.Sprintf("spokes=%d/payload=256/rate=%d", spokes, perSec), func(b *testing.B) {
		c := startContest(b, fanout.Config{}, fleet.Clients{Reading: spokes})
		load := fleet.Load{Every: time.Second / perSec, Events: 8 * perSec}
		r.compare(b, p99, target{what: fmt.Sprintf("%d broadcasts/s to %d spokes", perSec, spokes), atMost: 1.15},
			c.pairs(b, newEvent(b, 256), load))
	})
}

// payloadTargets: CPU per byte, which at one payload is CPU per delivery.
func payloadTargets(b *testing.B, r *results) {
	defer fleet.LeaveClientsTheirCore()()
	spokes := manySpokes()
	c := startContest(b, fanout.Config{}, fleet.Clients{Reading: spokes})
	for _, payload := range []int{16, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("spokes=%d/payload=%d/window=1", spokes, payload), func(b *testing.B) {
			pairs := c.pairs(b, newEvent(b, payload), fleet.Load{Window: 1, For: turnTime})
			r.compare(b, cpuPerDelivery, target{what: fmt.Sprintf("payload of %d B, %d spokes, window 1", payload, spokes), atMost: 1.15}, pairs)
		})
	}
}
