package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// The cases of BenchmarkCompressed. With few spokes compressing costs more than what it is for.
var (
	compressSpokes   = []int{10, 100, 1000, 10000}
	compressPayloads = []int{1024, 4096}
)

const (
	compressPairs  = 5                      // of turns
	compressTurn   = 200 * time.Millisecond // for each window, and compressEvents at least
	compressEvents = 8
)

// BenchmarkCompressed gives turns to a hub without compression and to one whose spokes all take it,
// each in a process of its own with clients of its own, which cut frames by their headers. What it
// reports are medians: of each hub, and of the ratio within a pair of turns. All windows are measured
// in one turn, for before it the kernel has to be won over again, see quickAcks.
func BenchmarkCompressed(b *testing.B) {
	for _, spokes := range compressSpokes {
		if testing.Short() && spokes != 1000 {
			continue
		}
		b.Run(fmt.Sprintf("spokes=%d", spokes), func(group *testing.B) {
			defer fleet.LeaveClientsTheirCore()()
			clients := fleet.Clients{Reading: spokes, Checked: checkedInBenchmarks}
			plain, deflated := startHubProcess(group, false, clients), startHubProcess(group, true, clients)
			for _, payload := range compressPayloads {
				if testing.Short() && payload != compressPayloads[0] {
					continue
				}
				group.Run(fmt.Sprintf("payload=%d", payload), func(b *testing.B) {
					reportPairs(b, measurePairs(b, plain, deflated, newQuotes(payload)))
				})
			}
		})
	}
}

// pair is what each of two hubs did in a turn, by window.
type pair struct{ plain, deflated []fleet.Turn }

// measurePairs gives turns to both.
func measurePairs(b *testing.B, plain, deflated *hubProcess, q *quotes) (pairs []pair) {
	b.Helper()
	turn := func(h *hubProcess) (turns []fleet.Turn) {
		// A connection that had to wait for its turn is treated as a new one.
		_, err := h.measure(q, fleet.Load{Window: 1, Events: quickAcks})
		require.NoError(b, err)
		for _, size := range caseWindows {
			t, err := h.measure(q, fleet.Load{Window: size, Events: compressEvents, For: compressTurn})
			require.NoError(b, err)
			turns = append(turns, t)
		}
		return turns
	}
	for range compressPairs {
		pairs = append(pairs, pair{turn(plain), turn(deflated)})
	}
	return pairs
}

// reportPairs reports each window under a name of its own.
func reportPairs(b *testing.B, pairs []pair) {
	for w, size := range caseWindows {
		b.Run(fmt.Sprintf("window=%d", size), func(b *testing.B) {
			median := func(of func(p *pair) float64) float64 {
				all := make([]float64, len(pairs))
				for i := range pairs {
					all[i] = of(&pairs[i])
				}
				slices.Sort(all)
				return all[len(all)/2]
			}
			for name, turn := range map[string]func(*pair) *fleet.Turn{
				"plain-":    func(p *pair) *fleet.Turn { return &p.plain[w] },
				"deflated-": func(p *pair) *fleet.Turn { return &p.deflated[w] },
			} {
				report := func(unit string, of func(t *fleet.Turn) float64) {
					b.ReportMetric(median(func(p *pair) float64 { return of(turn(p)) }), name+unit)
				}
				report("cpu-ns/delivery", cpuPerDelivery)
				report("B/delivery", bytesPerDelivery)
				report("deliveries/s", func(t *fleet.Turn) float64 { return float64(t.Deliveries) / t.Wall.Seconds() })
				report("events/write", func(t *fleet.Turn) float64 { return float64(t.Deliveries) / float64(t.Writes) })
				report("p50-ns", func(t *fleet.Turn) float64 { return float64(t.P50) })
				report("p99-ns", func(t *fleet.Turn) float64 { return float64(t.P99) })
			}
			b.ReportMetric(median(func(p *pair) float64 { return cpuPerDelivery(&p.deflated[w]) / cpuPerDelivery(&p.plain[w]) }), "cpu-ratio")
			b.ReportMetric(median(func(p *pair) float64 { return bytesPerDelivery(&p.plain[w]) / bytesPerDelivery(&p.deflated[w]) }), "size-ratio")
			b.ReportMetric(0, "ns/op") // nothing is left to do
		})
	}
}

func cpuPerDelivery(t *fleet.Turn) float64 { return float64(t.CPU) / float64(t.Deliveries) }

func bytesPerDelivery(t *fleet.Turn) float64 { return float64(t.Bytes) / float64(t.Deliveries) }

func TestBothHubsOfAPairDeliverEveryMessage(t *testing.T) {
	q := newQuotes(1024)
	for _, compress := range []bool{false, true} {
		h := startHubProcess(t, compress, fleet.Clients{Reading: testClients, Checked: 1})
		for _, size := range caseWindows {
			r, err := h.measure(q, fleet.Load{Window: size, Events: testEvents})
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
