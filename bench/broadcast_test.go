package bench

import (
	"fmt"
	"testing"

	"github.com/alkdev/hub/internal/fleet"
)

// The cases of BenchmarkBroadcast and BenchmarkFloor.
var (
	caseSpokes   = []int{1000, 10000}
	casePayloads = []int{256, 2048}
	caseWindows  = []int{1, 4, 64}
)

// checkedInBenchmarks: one client in so many has its frames compared.
const checkedInBenchmarks = 64

// sideOf makes a side for an event.
type sideOf func(*event) fleet.Side

// eachCase measures every case, with one fleet for all that have the same number of spokes.
func eachCase(b *testing.B, start func(b testing.TB, spokes int) sideOf) {
	for _, spokes := range caseSpokes {
		if testing.Short() && spokes > 1000 {
			continue
		}
		b.Run(fmt.Sprintf("spokes=%d", spokes), func(group *testing.B) {
			var side sideOf
			for _, payload := range casePayloads {
				if testing.Short() && payload != casePayloads[0] {
					continue
				}
				group.Run(fmt.Sprintf("payload=%d", payload), func(b *testing.B) {
					for _, size := range caseWindows {
						b.Run(fmt.Sprintf("window=%d", size), func(b *testing.B) {
							defer fleet.LeaveClientsTheirCore()()
							if side == nil { // not before -bench has chosen a case
								side = start(group, spokes)
								ev := newEvent(group, payload)
								warmUp(group, side(ev), ev, 1, quickAcks)
							}
							measureWindow(b, side, newEvent(b, payload), size)
						})
					}
				})
			}
		})
	}
}

// startBroadcast returns a hub with so many spokes.
func startBroadcast(b testing.TB, shards, spokes int) sideOf {
	b.Helper()
	h := startHub(b, configWith(shards))
	f := fleet.Launch(b)
	h.connect(b, f, fleet.Clients{Reading: spokes, Checked: checkedInBenchmarks})
	return func(ev *event) fleet.Side { return h.source(f, ev) }
}

// startFloor returns a floor with so many clients.
func startFloor(b testing.TB, clients int) sideOf {
	b.Helper()
	l := fleet.ConnectFloor(b, fleet.Launch(b), fleet.Clients{Reading: clients, Checked: checkedInBenchmarks})
	return func(*event) fleet.Side { return l }
}

// BenchmarkBroadcast dispatches events that go to every spoke.
func BenchmarkBroadcast(b *testing.B) {
	eachCase(b, func(b testing.TB, spokes int) sideOf { return startBroadcast(b, 0, spokes) })
}

// BenchmarkFloor is what the kernel asks for: see the package comment. Its names are those of
// BenchmarkBroadcast.
func BenchmarkFloor(b *testing.B) { eachCase(b, startFloor) }

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
				var side sideOf
				for _, size := range caseWindows {
					group.Run(fmt.Sprintf("window=%d", size), func(b *testing.B) {
						ev := newEvent(b, casePayloads[0])
						if side == nil {
							side = startBroadcast(group, shards, spokes)
							warmUp(group, side(ev), ev, 1, quickAcks)
						}
						measureWindow(b, side, ev, size)
					})
				}
			})
		}
	})
}
