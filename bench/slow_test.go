package bench

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
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
	defer fleet.LeaveClientsTheirCore()()
	ev := newEvent(b, slowPayload)
	h := startHub(b, fanout.Config{Policy: policy})
	f := fleet.Launch(b)
	h.connect(b, f, fleet.Clients{Reading: slowSpokes - stalled, Stalled: stalled, Checked: checkedInBenchmarks})
	to := h.source(f, ev)
	warmUp(b, to, ev, 1, 1) // without filling what the stalled have for a buffer
	debug.FreeOSMemory()

	var memory peak
	publish := to.Publish
	to.Publish = func(n uint64) error {
		err := publish(n)
		memory.look(h.hub)
		return err
	}
	var t fleet.Turn
	for b.Loop() { // an iteration takes longer than the usual -benchtime
		memory.begin()
		var err error
		t, err = to.Measure(fleet.Load{Event: ev.Event, Events: slowEvents, Every: slowPace})
		require.NoError(b, err)
	}
	reportTurn(b, t)
	b.ReportMetric(float64(memory.resident-memory.base), "growth-B")
	b.ReportMetric(float64(memory.held), "held-B")
	st := h.hub.Stats()
	b.ReportMetric(total(st.Dropped)+total(st.Conflated), "lost-events")
	b.ReportMetric(total(st.Disconnected), "disconnected")
	b.ReportMetric(float64(t.Max), "max-ns")
	b.ReportMetric(0, "ns/op") // the pace's
	b.ReportMetric(0, "events/write")
}

func total(m map[fanout.LossReason]uint64) (sum float64) {
	for _, n := range m {
		sum += float64(n)
	}
	return sum
}

// peak follows the memory of this process.
type peak struct {
	base, resident, held int64
}

func (p *peak) begin() {
	runtime.GC()
	*p = peak{base: fleet.ResidentBytes(os.Getpid())}
	p.resident = p.base
}

func (p *peak) look(h *fanout.Hub) {
	p.resident = max(p.resident, fleet.ResidentBytes(os.Getpid()))
	p.held = max(p.held, h.Stats().HeldBytes)
}
