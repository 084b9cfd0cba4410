package bench

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The cases of BenchmarkBroadcast and BenchmarkFloor.
var (
	caseSpokes   = []int{1000, 10000}
	casePayloads = []int{256, 2048}
	caseWindows  = []int{1, 4, 64}
)

// checkedInBenchmarks: one client in so many has its frames compared.
const checkedInBenchmarks = 64

// eachCase measures every case, with one fleet for all that have the same number of spokes.
func eachCase(b *testing.B, start func(b *testing.B, clients int) (*fleet, writer)) {
	for _, spokes := range caseSpokes {
		if testing.Short() && spokes > 1000 {
			continue
		}
		b.Run(fmt.Sprintf("spokes=%d", spokes), func(group *testing.B) {
			var f *fleet
			var to writer
			for _, payload := range casePayloads {
				if testing.Short() && payload != casePayloads[0] {
					continue
				}
				group.Run(fmt.Sprintf("payload=%d", payload), func(b *testing.B) {
					for _, size := range caseWindows {
						b.Run(fmt.Sprintf("window=%d", size), func(b *testing.B) {
							defer leaveClientsTheirCore()()
							if f == nil { // not before -bench has chosen a case
								f, to = start(group, spokes)
								warmUp(group, f, to, newEvent(group, payload), 1, quickAcks)
							}
							measureWindow(b, f, to, newEvent(b, payload), size)
						})
					}
				})
			}
		})
	}
}

// startBroadcast returns a hub with so many spokes.
func startBroadcast(b testing.TB, shards, spokes int) (*fleet, *runningHub) {
	b.Helper()
	h := startHub(b, configWith(shards))
	f := launch(b, false)
	_, err := f.connect(h.address, spokes, 0, checkedInBenchmarks)
	require.NoError(b, err)
	return f, h
}

// BenchmarkBroadcast dispatches events that go to every spoke.
func BenchmarkBroadcast(b *testing.B) {
	eachCase(b, func(b *testing.B, spokes int) (*fleet, writer) {
		return startBroadcast(b, 0, spokes)
	})
}

// BenchmarkShards shows what more than one writing goroutine costs and brings. Here the hub may use
// every core, as cmd/hub does, and the clients keep it from one of them at times.
func BenchmarkShards(b *testing.B) {
	spokes := caseSpokes[len(caseSpokes)-1]
	if testing.Short() {
		spokes = caseSpokes[0]
	}
	b.Run(fmt.Sprintf("spokes=%d/payload=%d", spokes, casePayloads[0]), func(b *testing.B) {
		for _, shards := range []int{1, 2} {
			b.Run(fmt.Sprintf("shards=%d", shards), func(group *testing.B) {
				var f *fleet
				var h *runningHub
				for _, size := range caseWindows {
					group.Run(fmt.Sprintf("window=%d", size), func(b *testing.B) {
						if f == nil {
							f, h = startBroadcast(group, shards, spokes)
							warmUp(group, f, h, newEvent(group, casePayloads[0]), 1, quickAcks)
						}
						measureWindow(b, f, h, newEvent(b, casePayloads[0]), size)
					})
				}
			})
		}
	})
}
