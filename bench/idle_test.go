package bench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// idleSpokes are the cases of BenchmarkIdleMemory; the last is about what one process with 20,000
// descriptors can hold.
var idleSpokes = []int{10000, 19000}

// BenchmarkIdleMemory says what a spoke costs that has had its welcome and then nothing: the growth
// of a hub's process, divided by the number of spokes, both sides after a collection. rss-B/spoke is
// resident memory, heap-B/spoke the live heap; the kernel's memory for sockets is in neither. The hub
// is in a process of its own, in which nothing has run before.
func BenchmarkIdleMemory(b *testing.B) {
	for _, spokes := range idleSpokes {
		if testing.Short() && spokes > idleSpokes[0] {
			continue
		}
		b.Run(fmt.Sprintf("spokes=%d", spokes), func(b *testing.B) {
			for b.Loop() {
				measureIdle(b, spokes)
			}
			b.ReportMetric(0, "ns/op") // mostly connecting
		})
	}
}

func measureIdle(b *testing.B, spokes int) {
	hub := fleet.Start(b, roleHub)
	defer hub.Stop()
	var empty, full footprint
	require.NoError(b, hub.Ask(nil, &empty))
	f := fleet.Launch(b)
	defer f.Stop()
	_, err := f.Connect(fleet.Clients{Address: empty.Address, Skip: 1, Reading: spokes})
	require.NoError(b, err)
	require.NoError(b, hub.Ask(nil, &full))
	require.Equal(b, spokes, full.Spokes)

	per := func(before, after int64) float64 { return float64(after-before) / float64(spokes) }
	b.ReportMetric(per(empty.ResidentBytes, full.ResidentBytes), "rss-B/spoke")
	b.ReportMetric(per(empty.HeapBytes, full.HeapBytes), "heap-B/spoke")
	b.ReportMetric(float64(full.ResidentBytes), "rss-B")
	b.ReportMetric(float64(full.Goroutines), "goroutines")
}

// hubMain is a process with a hub and nothing else.
func hubMain() error {
	h, err := openHub(fanout.Config{})
	if err != nil {
		return err
	}
	err = fleet.Obey(func(any) (footprint, error) { return h.footprint(), nil })
	return errors.Join(err, h.close())
}

// footprint is what a hub's process takes.
type footprint struct {
	Address                  string
	ResidentBytes, HeapBytes int64
	Spokes, Goroutines       int
}

// footprint looks at this process when all that can be collected has been.
func (h *runningHub) footprint() footprint {
	runtime.GC() // what finalizers and pools hold goes in the second
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{
		Address: h.address, Spokes: h.hub.Stats().Spokes,
		ResidentBytes: fleet.ResidentBytes(os.Getpid()), HeapBytes: int64(m.HeapAlloc), Goroutines: runtime.NumGoroutine(),
	}
}
