package bench

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// BenchmarkStorm is what comes after a hub has been restarted: everybody connects at once. In turn
// the clients connect to the hub, up to their welcome, and to a bare loop that accepts, reads and
// answers; the metrics are medians of the pairs. Half of a connection is made by the client's system
// calls, so their thread is the busy side here (client-cores) whenever either server keeps up with
// it: cpu-ns/connect says which of the two does less. A client that is refused fails the benchmark.
func BenchmarkStorm(b *testing.B) {
	const pairs = 5
	spokes := 19000
	if testing.Short() {
		spokes = 1000
	}
	b.Run(fmt.Sprintf("spokes=%d", spokes), func(b *testing.B) {
		defer fleet.LeaveClientsTheirCore()()
		s := startStorm(b, spokes)
		var hub, bare []onset
		for b.Loop() {
			for range pairs {
				hub = append(hub, s.atHub(b))
				bare = append(bare, s.atBareLoop(b))
			}
		}
		ratios := make([]float64, len(hub))
		for i := range hub {
			ratios[i] = hub[i].rate / bare[i].rate
		}
		b.ReportMetric(0, "ns/op")
		reportOnset(b, hub, "")
		reportOnset(b, bare, "bare-")
		b.ReportMetric(median(ratios, func(r float64) float64 { return r }), "ratio")
	})
}

// storm is two servers and the clients that connect to them all at once.
type storm struct {
	hub     *runningHub
	fleet   *fleet.Fleet
	clients fleet.Clients
}

func startStorm(b *testing.B, spokes int) *storm {
	b.Helper()
	s := &storm{hub: startHub(b, configWith(0)), fleet: fleet.Launch(b)}
	s.clients = fleet.Clients{Reading: spokes, AtOnce: spokes}
	s.atHub(b) // buffers get their size
	return s
}

// onset is what one storm did to a server.
type onset struct {
	rate, cpu, clients float64 // connects/s, nanoseconds per connect, cores
}

func (s *storm) atHub(b *testing.B) onset {
	b.Helper()
	o := s.measure(b, fleet.SelfCPU, func() (fleet.Count, error) { return s.hub.connect(b, s.fleet, s.clients), nil })
	require.Equal(b, s.clients.Reading, s.hub.hub.Stats().Spokes)
	for why, n := range s.hub.server.Stats().Refused {
		require.Zero(b, n, "refused: %v", why)
	}
	_, err := s.fleet.Disconnect()
	require.NoError(b, err)
	require.Eventually(b, func() bool { return s.hub.server.Stats().Connections == 0 }, 10*time.Second, time.Millisecond)
	return o
}

// atBareLoop uses a new process each time, for the last one's descriptors are many.
func (s *storm) atBareLoop(b *testing.B) onset {
	b.Helper()
	few := s.clients
	few.Reading = 100
	floor := fleet.ConnectFloor(b, s.fleet, few)
	defer floor.Stop()
	return s.measure(b, func() time.Duration { return fleet.CPUOf(floor.PID()) }, func() (fleet.Count, error) { return floor.Connect(s.clients) })
}

func (s *storm) measure(b *testing.B, cpu func() time.Duration, connect func() (fleet.Count, error)) onset {
	b.Helper()
	idle, err := s.fleet.Disconnect()
	require.NoError(b, err)
	began := cpu()
	n, err := connect()
	require.NoError(b, err)
	spokes := float64(s.clients.Reading)
	return onset{
		rate:    spokes / n.Elapsed.Seconds(),
		cpu:     float64(cpu()-began) / spokes,
		clients: (n.CPU - idle.CPU).Seconds() / n.Elapsed.Seconds(),
	}
}

func reportOnset(b *testing.B, all []onset, prefix string) {
	b.ReportMetric(median(all, func(o onset) float64 { return o.rate }), prefix+"connects/s")
	b.ReportMetric(median(all, func(o onset) float64 { return o.cpu }), prefix+"cpu-ns/connect")
	b.ReportMetric(median(all, func(o onset) float64 { return o.clients }), prefix+"client-cores")
}

// median returns the middle of what of says about each, the upper one of two.
func median[T any](all []T, of func(T) float64) float64 {
	sorted := slices.SortedFunc(slices.Values(all), func(x, y T) int { return cmp.Compare(of(x), of(y)) })
	return of(sorted[len(sorted)/2])
}
