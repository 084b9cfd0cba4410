package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// stormTargets: what comes after a hub has been restarted, everybody connects at once: to the hub, up
// to their welcome, and to a bare loop that accepts, reads and answers. A turn's deliveries are
// connections. Half of a connection is made by the clients' own system calls, so their thread is the
// busy side whenever either server keeps up with it: CPU per connect says which of the two does less.
// A client that is refused fails the benchmark.
func stormTargets(b *testing.B, r *results) {
	spokes := 19000
	if testing.Short() {
		spokes = 1000
	}
	b.Run(fmt.Sprintf("spokes=%d", spokes), func(b *testing.B) {
		defer fleet.LeaveClientsTheirCore()()
		s := &storm{startHub(b, fanout.Config{}), fleet.Launch(b), fleet.Clients{Reading: spokes, AtOnce: spokes}}
		s.atHub(b) // buffers get their size
		pairs := inPairs(b, s.atHub, s.atBareLoop)
		what := fmt.Sprintf("%d connects at once", spokes)
		r.compare(b, connectRate, target{what: what, atLeast: 1}, pairs)
		r.compare(b, cpuPerConnect, target{what: what, atMost: 2}, pairs)
		b.ReportMetric(pairs[0].hub.Clients.Seconds()/pairs[0].hub.Wall.Seconds(), "client-cores")
	})
}

var (
	connectRate   = figure{"connects/s", 1, throughput.of}
	cpuPerConnect = figure{"cpu-ns/connect", 1, cpuPerDelivery.of}
)

// storm is a hub, and clients that connect all at once.
type storm struct {
	hub     *runningHub
	fleet   *fleet.Fleet
	clients fleet.Clients
}

func (s *storm) atHub(b testing.TB) fleet.Turn {
	t := s.measure(b, fleet.SelfCPU, func() (fleet.Count, error) { return s.hub.connect(b, s.fleet, s.clients), nil })
	require.Equal(b, s.clients.Reading, s.hub.hub.Stats().Spokes)
	for why, n := range s.hub.server.Stats().Refused {
		require.Zero(b, n, "refused: %v", why)
	}
	s.hub.disconnect(b, s.fleet)
	return t
}

// atBareLoop uses a new process each time, for the last one's descriptors are many.
func (s *storm) atBareLoop(b testing.TB) fleet.Turn {
	few := s.clients
	few.Reading = 100
	floor := fleet.ConnectFloor(b, s.fleet, few)
	defer floor.Stop()
	return s.measure(b, floor.CPU, func() (fleet.Count, error) { return floor.Connect(s.clients) })
}

func (s *storm) measure(b testing.TB, cpu func() time.Duration, connect func() (fleet.Count, error)) fleet.Turn {
	b.Helper()
	idle, err := s.fleet.Disconnect()
	require.NoError(b, err)
	began := cpu()
	n, err := connect()
	require.NoError(b, err)
	return fleet.Turn{
		Deliveries: uint64(s.clients.Reading), Wall: n.Elapsed,
		CPU: cpu() - began, Clients: n.CPU - idle.CPU, P50: n.P50, P99: n.P99, Max: n.Max,
	}
}
