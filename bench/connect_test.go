package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkConnect connects spokes, some at a time, and disconnects them between iterations. The
// latencies are from connect(2) to the welcome.
func BenchmarkConnect(b *testing.B) {
	spokes := 5000
	if testing.Short() {
		spokes = 1000
	}
	b.Run(fmt.Sprintf("spokes=%d/at-once=%d", spokes, handshakesAtOnce), func(b *testing.B) {
		b.ReportAllocs()
		defer leaveClientsTheirCore()()
		h := startHub(b, configWith(0))
		f := launch(b, false)
		var elapsed, hub, clients time.Duration
		var p50, p99 time.Duration
		for b.Loop() {
			hubBefore := selfCPU()
			idle, err := f.do(command{Op: opDisconnect})
			require.NoError(b, err)
			r, err := f.connect(h.address, spokes, 0, 0)
			require.NoError(b, err)
			elapsed += r.Elapsed
			hub += selfCPU() - hubBefore
			clients += r.CPU - idle.CPU
			p50, p99 = max(p50, r.P50), max(p99, r.P99)

			b.StopTimer()
			require.NoError(b, f.disconnect())
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
