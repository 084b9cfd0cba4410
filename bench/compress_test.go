package bench

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// The cases of BenchmarkCompressed. With few spokes compressing costs more than what it is for.
var (
	compressSpokes   = []int{10, 100, 1000, 10000}
	compressPayloads = []int{1024, 4096}
)

// BenchmarkCompressed gives turns to a hub without compression and to one whose spokes all take it, as
// BenchmarkTargets does with 10,000 of them.
func BenchmarkCompressed(b *testing.B) {
	r := &results{}
	b.Cleanup(r.print)
	for _, spokes := range compressSpokes {
		if !testing.Short() || spokes == 1000 {
			measureCompressed(b, r, spokes)
		}
	}
}

// compressedTargets: what is saved on the wire costs little.
func compressedTargets(b *testing.B, r *results) { measureCompressed(b, r, manySpokes()) }

// measureCompressed compares a hub whose spokes all take compressed messages with one without, each in a
// process of its own with clients of its own, which cut frames by their headers.
func measureCompressed(b *testing.B, r *results, spokes int) {
	b.Run(fmt.Sprintf("spokes=%d", spokes), func(b *testing.B) {
		defer fleet.LeaveClientsTheirCore()()
		clients := fleet.Clients{Reading: spokes, Checked: checkedInBenchmarks}
		plain, deflated := startHubProcess(b, false, clients), startHubProcess(b, true, clients)
		for _, payload := range compressPayloads {
			for _, window := range caseWindows {
				b.Run(fmt.Sprintf("payload=%d/window=%d", payload, window), func(b *testing.B) {
					q, load := newQuotes(payload), fleet.Load{Window: window, Events: 8, For: turnTime / 2}
					load.Event = q.Event
					pairs := inPairs(b, measured(deflated.of(q), 1, load), measured(plain.of(q), 1, load))
					size := bytesPerDelivery.of(pairs[0].other) / bytesPerDelivery.of(pairs[0].hub)
					b.ReportMetric(size, "size-ratio")
					b.ReportMetric(bytesPerDelivery.of(pairs[0].hub), "hub-B/delivery")
					r.compare(b, cpuPerDelivery, target{
						what:   fmt.Sprintf("compressed %.2f : 1, %d spokes, %d B, window %d", size, spokes, payload, window),
						atMost: 1.3,
					}, pairs)
				})
			}
		}
	})
}

var bytesPerDelivery = figure{"B/delivery", 1, func(t fleet.Turn) float64 { return float64(t.Bytes) / float64(t.Deliveries) }}

func TestBothHubsOfAPairDeliverEveryMessage(t *testing.T) {
	q := newQuotes(1024)
	for _, compress := range []bool{false, true} {
		h := startHubProcess(t, compress, fleet.Clients{Reading: testClients, Checked: 1})
		for _, size := range caseWindows {
			r, err := h.of(q).Measure(fleet.Load{Window: size, Events: testEvents})
			require.NoError(t, err)
			require.EqualValues(t, testClients*testEvents, r.Deliveries)
			plain := uint64(len(q.Messages[0])+4) * r.Deliveries
			if compress {
				require.Less(t, r.Bytes, plain/2)
			} else {
				require.Equal(t, plain, r.Bytes)
			}
		}
	}
}
