package bench

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// measureWindow publishes b.N events. The clock runs until the last is delivered.
func measureWindow(b *testing.B, side sideOf, ev *event, size int) {
	b.Helper()
	to := side(ev)
	warmUp(b, to, ev, size, size)
	runtime.GC()
	b.ResetTimer()
	t, err := to.Measure(fleet.Load{Event: ev.Event, Window: size, Events: b.N})
	b.StopTimer()
	require.NoError(b, err)
	b.ReportMetric(float64(t.Wall)/float64(t.Events), "ns/op")
	reportTurn(b, t)
}

// quickAcks is how many reads it takes until the kernel trusts a new connection enough to delay its
// acknowledgements. Before that a write costs a fifth more.
const quickAcks = 24

// warmUp publishes some events, so that buffers have their size and connections are past their youth.
func warmUp(b testing.TB, to fleet.Side, ev *event, size, events int) {
	b.Helper()
	_, err := to.Measure(fleet.Load{Event: ev.Event, Window: size, Events: events})
	require.NoError(b, err)
}

func reportTurn(b *testing.B, t fleet.Turn) {
	deliveries := float64(t.Deliveries)
	b.ReportMetric(deliveries/t.Wall.Seconds(), "deliveries/s")
	b.ReportMetric(float64(t.CPU)/deliveries, "cpu-ns/delivery")
	if t.Writes > 0 {
		b.ReportMetric(deliveries/float64(t.Writes), "events/write")
	}
	b.ReportMetric(float64(t.P50), "p50-ns")
	b.ReportMetric(float64(t.P99), "p99-ns")
	b.ReportMetric(t.CPU.Seconds()/t.Wall.Seconds(), "hub-cores")
	b.ReportMetric(t.Clients.Seconds()/t.Wall.Seconds(), "client-cores")
}
