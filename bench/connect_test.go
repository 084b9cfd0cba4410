package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// BenchmarkConnect connects spokes, some at a time, and disconnects them between iterations. The
// latencies are from connect(2) to the welcome.
func BenchmarkConnect(b *testing.B) {
	const atOnce = 128
	spokes := 5000
	if testing.Short() {
		spokes = 1000
	}
	b.Run(fmt.Sprintf("spokes=%d/at-once=%d", spokes, atOnce), func(b *testing.B) {
		b.ReportAllocs()
		defer fleet.LeaveClientsTheirCore()()
		h := startHub(b, configWith(0))
		f := fleet.Launch(b)
		var elapsed, hub, clients time.Duration
		var p50, p99 time.Duration
		for b.Loop() {
			hubBefore := fleet.SelfCPU()
			idle, err := f.Disconnect()
			require.NoError(b, err)
			r := h.connect(b, f, fleet.Clients{Reading: spokes, AtOnce: atOnce})
			elapsed += r.Elapsed
			hub += fleet.SelfCPU() - hubBefore
			clients += r.CPU - idle.CPU
			p50, p99 = max(p50, r.P50), max(p99, r.P99)

			b.StopTimer()
			_, err = f.Disconnect()
			require.NoError(b, err)
			require.Eventually(b, func() bool { return h.server.Stats().Connections == 0 }, 10*time.Second, time.Millisecond)
			b.StartTimer()
		}
		connected := float64(b.N * spokes)
		b.ReportMetric(connected/elapsed.Seconds(), "connects/s")
		b.ReportMetric(float64(hub)/connected, "cpu-ns/connect")
		b.ReportMetric(float64(p50), "p50-ns")
		b.ReportMetric(float64(p99), "p99-ns")
		b.ReportMetric(hub.Seconds()/elapsed.Seconds(), "hub-cores")
		b.ReportMetric(clients.Seconds()/elapsed.Seconds(), "client-cores")
	})
}
