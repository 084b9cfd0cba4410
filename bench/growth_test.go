package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// The series of BenchmarkGrowth: what one of them does not vary is as in growthBase.
var (
	growthSpokes   = []int{100, 300, 1000, 3000, 10000, 19000}
	growthWindows  = []int{1, 4}
	growthPayloads = []int{16, 64, 256, 1024, 4096, 16384, 65536}
	growthRates    = []int{10, 30, 100, 300, 1000, 3000, 0} // events/s, 0 for as many as the window lets out
	growthBase     = growthCase{spokes: 1000, payload: 256, window: 1}
)

// growthBacklog is the window of the series over rates: as many events as a late publisher may have
// out. They fit into half of --spoke-buffer.
const growthBacklog = 400

// growthCase is one point of a series, of the hub and of the floor.
type growthCase struct {
	spokes, payload, window int
	rate                    string // in the series over rates
}

func (c growthCase) name() string {
	s := fmt.Sprintf("spokes=%d/payload=%d/window=%d", c.spokes, c.payload, c.window)
	if c.rate != "" {
		s += "/rate=" + c.rate
	}
	return s
}

// BenchmarkGrowth shows how the cost grows with spokes, with payload and with rate, hub and floor in
// turn. bench/plots draws it. The floor joins what a window lets out; at a rate it writes each event
// by itself, and falls behind where the hub begins to join.
func BenchmarkGrowth(b *testing.B) {
	b.Run("by=spokes", func(b *testing.B) {
		g := &growth{group: b}
		for _, spokes := range growthSpokes {
			if testing.Short() && spokes > growthBase.spokes {
				continue
			}
			for _, window := range growthWindows {
				c := growthBase
				c.spokes, c.window = spokes, window
				g.run(b, c, 0)
			}
		}
	})
	b.Run("by=payload", func(b *testing.B) {
		g := &growth{group: b}
		for _, payload := range growthPayloads {
			c := growthBase
			c.payload = payload
			g.run(b, c, 0)
		}
	})
	b.Run("by=rate", func(b *testing.B) {
		g := &growth{group: b}
		for _, rate := range growthRates {
			c := growthBase
			c.window, c.rate = growthBacklog, "max"
			if rate > 0 {
				c.rate = fmt.Sprint(rate)
			}
			g.run(b, c, rate)
		}
	})
}

// growth is a hub and a floor, each with clients of its own, which stay for the cases that want as
// many.
type growth struct {
	group *testing.B // they end with it
	sides []growthSide
}

type growthSide struct {
	connect func(spokes int) error
	side    sideOf
	spokes  int // that are connected
}

// run measures the hub and the floor.
func (g *growth) run(b *testing.B, c growthCase, rate int) {
	for i, name := range []string{"hub", "floor"} {
		b.Run(c.name()+"/side="+name, func(b *testing.B) {
			defer fleet.LeaveClientsTheirCore()()
			if g.sides == nil { // not before -bench has chosen a case
				g.start()
			}
			s := &g.sides[i]
			if s.spokes != c.spokes {
				require.NoError(b, s.connect(c.spokes))
				s.spokes = c.spokes
				ev := newEvent(b, c.payload)
				warmUp(b, s.side(ev), ev, 1, quickAcks)
			}
			ev := newEvent(b, c.payload)
			if c.rate == "" {
				measureWindow(b, s.side, ev, c.window)
			} else {
				measureRate(b, s.side(ev), ev, rate)
			}
		})
	}
}

func (g *growth) start() {
	h := startHub(g.group, fanout.Config{})
	spokes, clients := fleet.Launch(g.group), fleet.Launch(g.group)
	floor := fleet.StartFloor(g.group, clients)
	these := func(n int) fleet.Clients { return fleet.Clients{Reading: n, Checked: checkedInBenchmarks} }
	g.sides = []growthSide{{
		connect: func(n int) error { return h.reconnect(g.group, spokes, these(n)) },
		side:    func(ev *event) fleet.Side { return h.source(spokes, ev) },
	}, {
		connect: func(n int) error { _, err := floor.Connect(these(n)); return err },
		side:    func(*event) fleet.Side { return floor },
	}}
}

// reconnect connects these clients once those there were have left: the descriptors are needed.
func (h *runningHub) reconnect(b testing.TB, f *fleet.Fleet, c fleet.Clients) error {
	if _, err := f.Disconnect(); err != nil {
		return err
	}
	require.Eventually(b, func() bool { return h.server.Stats().Connections == 0 }, 10*time.Second, time.Millisecond)
	h.connect(b, f, c)
	return nil
}

// growthTurn is how long events are published at a rate.
const growthTurn = 2 * time.Second

// measureRate publishes at a rate for a turn. events/s is the rate that was reached.
func measureRate(b *testing.B, to fleet.Side, ev *event, rate int) {
	b.Helper()
	load := fleet.Load{Event: ev.Event, Window: growthBacklog, Events: 1, For: growthTurn}
	if rate > 0 {
		load.Every = time.Second / time.Duration(rate)
		load.For -= load.Every // the last event is not followed by one
	}
	warmUp(b, to, ev, 1, quickAcks)
	var t fleet.Turn
	for b.Loop() { // an iteration takes longer than the usual -benchtime
		var err error
		t, err = to.Measure(load)
		require.NoError(b, err)
	}
	t.Wall = max(t.Wall, time.Duration(t.Events)*load.Every)
	reportTurn(b, t)
	b.ReportMetric(float64(t.Events)/t.Wall.Seconds(), "events/s")
	b.ReportMetric(0, "ns/op") // the turn's
}
