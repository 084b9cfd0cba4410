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
	compressPairs  = 5                      // of turns, in every iteration
	compressTurn   = 200 * time.Millisecond // and compressEvents at least
	compressEvents = 8
)

// BenchmarkCompressed gives turns to a hub without compression and to one whose spokes all take it,
// each in a process of its own with clients of its own, which cut frames by their headers. What it
// reports are medians: of each hub, and of the ratio within a pair of turns.
func BenchmarkCompressed(b *testing.B) {
	for _, spokes := range compressSpokes {
		if testing.Short() && spokes != 1000 {
			continue
		}
		b.Run(fmt.Sprintf("spokes=%d", spokes), func(group *testing.B) {
			var plain, deflated *hubProcess
			for _, payload := range compressPayloads {
				group.Run(fmt.Sprintf("payload=%d", payload), func(b *testing.B) {
					for _, size := range caseWindows {
						b.Run(fmt.Sprintf("window=%d", size), func(b *testing.B) {
							defer fleet.LeaveClientsTheirCore()()
							if plain == nil {
								plain, deflated = startPair(group, spokes)
							}
							measurePairs(b, plain, deflated, newQuotes(payload), size)
						})
					}
				})
			}
		})
	}
}

// startPair returns a hub without compression and one with it, each with so many spokes.
func startPair(b testing.TB, spokes int) (plain, deflated *hubProcess) {
	b.Helper()
	q := newQuotes(compressPayloads[0])
	start := func(compress bool) *hubProcess {
		h := startHubProcess(b, compress, fleet.Clients{Reading: spokes, Checked: checkedInBenchmarks})
		_, err := h.measure(q, fleet.Load{Window: 1, Events: quickAcks})
		require.NoError(b, err)
		return h
	}
	return start(false), start(true)
}

// measurePairs publishes to the two in turn.
func measurePairs(b *testing.B, plain, deflated *hubProcess, q *quotes, size int) {
	b.Helper()
	turn := func(h *hubProcess, atLeast time.Duration) fleet.Turn {
		t, err := h.measure(q, fleet.Load{Window: size, Events: compressEvents, For: atLeast})
		require.NoError(b, err)
		return t
	}
	turn(plain, 0)
	turn(deflated, 0)
	var pairs [][2]fleet.Turn
	for b.Loop() {
		for range compressPairs {
			var p [2]fleet.Turn
			for i := range p { // who begins takes turns, too
				if i == len(pairs)%2 {
					p[0] = turn(plain, compressTurn)
				} else {
					p[1] = turn(deflated, compressTurn)
				}
			}
			pairs = append(pairs, p)
		}
	}
	reportPairs(b, pairs)
}

func reportPairs(b *testing.B, pairs [][2]fleet.Turn) {
	median := func(of func(p *[2]fleet.Turn) float64) float64 {
		all := make([]float64, len(pairs))
		for i := range pairs {
			all[i] = of(&pairs[i])
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	perDelivery := func(sum float64, t *fleet.Turn) float64 { return sum / float64(t.Deliveries) }
	cpu := func(t *fleet.Turn) float64 { return perDelivery(float64(t.CPU), t) }
	bytes := func(t *fleet.Turn) float64 { return perDelivery(float64(t.Bytes), t) }
	for i, name := range []string{"plain-", "deflated-"} {
		report := func(unit string, of func(t *fleet.Turn) float64) {
			b.ReportMetric(median(func(p *[2]fleet.Turn) float64 { return of(&p[i]) }), name+unit)
		}
		report("cpu-ns/delivery", cpu)
		report("B/delivery", bytes)
		report("deliveries/s", func(t *fleet.Turn) float64 { return float64(t.Deliveries) / t.Wall.Seconds() })
		report("events/write", func(t *fleet.Turn) float64 {
			return perDelivery(float64(t.Deliveries), &fleet.Turn{Deliveries: t.Writes})
		})
		report("p50-ns", func(t *fleet.Turn) float64 { return float64(t.P50) })
		report("p99-ns", func(t *fleet.Turn) float64 { return float64(t.P99) })
	}
	b.ReportMetric(median(func(p *[2]fleet.Turn) float64 { return cpu(&p[1]) / cpu(&p[0]) }), "cpu-ratio")
	b.ReportMetric(median(func(p *[2]fleet.Turn) float64 { return bytes(&p[0]) / bytes(&p[1]) }), "size-ratio")
	b.ReportMetric(0, "ns/op") // of so many turns
}

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
