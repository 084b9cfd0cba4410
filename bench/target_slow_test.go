package bench

import (
	"fmt"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// stalledTargets: 1,000 spokes do not feel 200 that read nothing.
func stalledTargets(b *testing.B, r *results) {
	slowTarget{
		healthy: fleet.Clients{Reading: 1000},
		trouble: fleet.Clients{Reading: 1000, Stalled: 200},
		payload: 4096,
		load:    fleet.Load{Every: 10 * time.Millisecond, Events: 800},
		what:    "200 of 1,200 spokes stalled, 4 KiB at 100/s",
		growth:  8 << 20,
	}.run(b, r)
}

// slowTargets: nor do 9,000 those that read at a tenth of the rate.
func slowTargets(b *testing.B, r *results) {
	const perSec, payload = 10, 4096
	spokes := manySpokes()
	slowTarget{
		healthy: fleet.Clients{Reading: spokes * 9 / 10},
		trouble: fleet.Clients{Reading: spokes * 9 / 10, Slow: spokes / 10, SlowBytesPerSec: perSec * payload / 10},
		payload: payload,
		load:    fleet.Load{Every: time.Second / perSec, Events: 8 * perSec},
		what:    fmt.Sprintf("10 %% of %d spokes slow, 4 KiB at %d/s", spokes, perSec),
	}.run(b, r)
}

// slowTarget compares a hub that has slow spokes with one that has none, each a new one.
type slowTarget struct {
	healthy, trouble fleet.Clients
	payload          int
	load             fleet.Load
	what             string
	growth           int64 // of the hub's process at most, in bytes; 0 for no target
}

func (s slowTarget) run(b *testing.B, r *results) {
	for _, policy := range []fanout.Policy{fanout.Disconnect, fanout.DropOldest} {
		b.Run(fmt.Sprintf("policy=%s", policy), func(b *testing.B) {
			defer fleet.LeaveClientsTheirCore()()
			var growth []float64
			pairs := inPairs(b,
				func(b testing.TB) fleet.Turn {
					t, grown := s.measure(b, s.trouble, policy)
					growth = append(growth, float64(grown))
					return t
				},
				func(b testing.TB) fleet.Turn {
					t, _ := s.measure(b, s.healthy, policy)
					return t
				})
			what := fmt.Sprintf("%s, %s", s.what, policy)
			r.compare(b, p99, target{what: what, atMost: 1.3}, pairs)
			r.compare(b, cpuPerDelivery, target{what: what, atMost: 1.3}, pairs)
			b.ReportMetric(median(growth)/(1<<20), "growth-MiB")
			if s.growth > 0 {
				ratios := slices.Clone(growth)
				for i := range ratios {
					ratios[i] /= float64(s.growth)
				}
				r.add(target{what: what, atMost: 1}, "growth, to 8 MiB", fmt.Sprintf("%.2g MiB", median(growth)/(1<<20)), "", median(ratios), ratios)
			}
		})
	}
}

// measure publishes to a new hub with these clients. grown is by how much its process has at most.
func (s slowTarget) measure(b testing.TB, c fleet.Clients, policy fanout.Policy) (t fleet.Turn, grown int64) {
	h, err := openHub(fanout.Config{Policy: policy})
	require.NoError(b, err)
	f := fleet.Launch(b)
	c.Checked = checkedInBenchmarks
	h.connect(b, f, c)
	ev := newEvent(b, s.payload)
	to := h.source(f, ev)
	warmUp(b, to, ev, 1, 1) // without filling what the stalled have for a buffer
	debug.FreeOSMemory()

	var memory peak
	memory.begin()
	publish := to.Publish
	to.Publish = func(n uint64) error {
		err := publish(n)
		memory.look(h.hub)
		return err
	}
	load := s.load
	load.Event = ev.Event
	t, err = to.Measure(load)
	require.NoError(b, err)
	f.Stop()
	require.NoError(b, h.close())
	return t, memory.resident - memory.base
}
