package bench

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// How BenchmarkSlowSpokes publishes: at a steady pace that the machine can keep up with, for long
// enough that a stalled spoke goes over every limit.
const (
	slowSpokes  = 1000
	slowPayload = 4096
	slowPace    = 10 * time.Millisecond
	slowEvents  = 250
)

// BenchmarkSlowSpokes stalls a share of the spokes from the beginning: they stop reading after the
// welcome. The latencies are those of the others, and nothing that they get may be missing. growth-B
// is by how much the resident memory of the hub's process grew at most; held-B is what the queues
// held at most, each frame counted once.
func BenchmarkSlowSpokes(b *testing.B) {
	for _, share := range []int{0, 20} {
		for _, policy := range []fanout.Policy{fanout.Disconnect, fanout.DropOldest, fanout.Conflate} {
			if share == 0 && policy != fanout.Disconnect {
				continue // nobody is slow
			}
			name := fmt.Sprintf("spokes=%d/payload=%d/slow=%d%%/policy=%s", slowSpokes, slowPayload, share, policy)
			b.Run(name, func(b *testing.B) { measureSlow(b, slowSpokes*share/100, policy) })
		}
	}
}

func measureSlow(b *testing.B, stalled int, policy fanout.Policy) {
	defer leaveClientsTheirCore()()
	ev := newEvent(b, slowPayload)
	h := startHub(b, fanout.Config{Policy: policy})
	f := launch(b, false)
	_, err := f.connect(h.address, slowSpokes-stalled, stalled, checkedInBenchmarks)
	require.NoError(b, err)
	warmUp(b, f, h, ev, 1, 1) // without filling what the stalled have for a buffer
	debug.FreeOSMemory()

	var before, after usage
	var memory peak
	var sum reply
	for b.Loop() { // an iteration takes longer than the usual -benchtime
		r, err := f.begin(ev)
		require.NoError(b, err)
		before = usage{writes: h.writes(), fleet: r.CPU, hub: selfCPU(), at: time.Now()}
		memory.begin()
		require.NoError(b, h.pace(f, ev, slowEvents, func() { memory.look(h.hub) }))
		after = usage{at: time.Now(), hub: selfCPU(), writes: h.writes()}
		sum, err = f.report()
		require.NoError(b, err)
		after.fleet = sum.CPU
	}
	reportUsage(b, before, after, sum)
	b.ReportMetric(float64(memory.resident-memory.base), "growth-B")
	b.ReportMetric(float64(memory.held), "held-B")
	st := h.hub.Stats()
	b.ReportMetric(total(st.Dropped)+total(st.Conflated), "lost-events")
	b.ReportMetric(total(st.Disconnected), "disconnected")
	b.ReportMetric(float64(sum.Max), "max-ns")
	b.ReportMetric(0, "ns/op") // the pace's
	b.ReportMetric(0, "events/write")
}

func total(m map[fanout.LossReason]uint64) (sum float64) {
	for _, n := range m {
		sum += float64(n)
	}
	return sum
}

// pace publishes events at a steady rate, whatever becomes of them, calls look after each, and waits
// until all are delivered.
func (h *runningHub) pace(f *fleet, ev *event, events int, look func()) error {
	w := &window{fleet: f, size: boardSlots}
	ticker := time.NewTicker(slowPace)
	defer ticker.Stop()
	for range events {
		<-ticker.C
		if err := h.publish(w, ev); err != nil {
			return err
		}
		look()
	}
	return w.drain()
}

// peak follows the memory of this process.
type peak struct {
	base, resident, held int64
}

func (p *peak) begin() {
	runtime.GC()
	*p = peak{base: residentBytes()}
	p.resident = p.base
}

func (p *peak) look(h *fanout.Hub) {
	p.resident = max(p.resident, residentBytes())
	p.held = max(p.held, h.Stats().HeldBytes)
}

// residentBytes returns the size of this process in memory.
func residentBytes() int64 {
	// statm is cheap and, on some kernels, a few pages per core off.
	b, _ := os.ReadFile("/proc/self/statm")
	if fields := strings.Fields(string(b)); len(fields) > 1 {
		pages, _ := strconv.ParseInt(fields[1], 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}
