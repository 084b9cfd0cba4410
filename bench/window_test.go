package bench

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// window is the publisher's view: how many events are out, and how many may be.
type window struct {
	fleet                *fleet
	size                 uint64
	published, completed uint64
}

// stamp gives the next event its number and its time.
func (w *window) stamp() uint64 {
	n := w.published
	w.fleet.board.slot(n).Store(now())
	w.published++
	w.fleet.board.published.Store(w.published)
	return n
}

func (w *window) full() bool { return w.published-w.completed >= w.size }

// wait returns when more events are complete than before.
func (w *window) wait() (err error) {
	w.completed, err = w.fleet.waitProgress()
	return err
}

// drain waits for everything that was published.
func (w *window) drain() error {
	for w.completed < w.published {
		if err := w.wait(); err != nil {
			return err
		}
	}
	return nil
}

// writer is what is measured: a hub, or the floor.
type writer interface {
	// begin is called by the goroutine that publishes, before anything else.
	begin(w *window, ev *event)
	// publish sends the next event of the window, waiting for room first. It may keep some back
	// until the window is full or flush is called.
	publish(w *window, ev *event) error
	flush(w *window) error
	// writes returns how many write(2) to clients there have been.
	writes() uint64
}

func (h *runningHub) begin(*window, *event) {}

func (h *runningHub) publish(w *window, ev *event) error {
	for w.full() {
		if err := w.wait(); err != nil {
			return err
		}
	}
	_, err := h.hub.Dispatch(ev.numbered(w.stamp()))
	return err
}

func (h *runningHub) flush(*window) error { return nil }

func (h *runningHub) writes() uint64 {
	h.hub.Flush()
	return h.hub.Stats().Writes
}

var (
	_ writer = (*runningHub)(nil)
	_ writer = (*floor)(nil)
)

// usage is a moment in the life of both processes.
type usage struct {
	at         time.Time
	hub, fleet time.Duration // CPU
	writes     uint64
}

// measureWindow runs b.Loop, one event per iteration. The clock runs until the last is delivered.
func measureWindow(b *testing.B, f *fleet, to writer, ev *event, size int) {
	b.Helper()
	b.ReportAllocs()
	warmUp(b, f, to, ev, size, size)
	w := &window{fleet: f, size: uint64(size)}
	to.begin(w, ev)
	r, err := f.begin(ev)
	require.NoError(b, err)
	runtime.GC()
	before := usage{writes: to.writes(), fleet: r.CPU, hub: selfCPU(), at: time.Now()}
	for b.Loop() {
		if err = to.publish(w, ev); err != nil {
			break
		}
	}
	b.StartTimer() // b.Loop has stopped it, but the last window is still on its way
	if err == nil {
		err = to.flush(w)
	}
	if err == nil {
		err = w.drain()
	}
	b.StopTimer()
	after := usage{at: time.Now(), hub: selfCPU(), writes: to.writes()}
	if err != nil {
		b.Fatal(err, ": ", whyStuck(f))
	}
	r, err = f.report()
	require.NoError(b, err)
	require.Equal(b, w.published*uint64(f.clients), r.Deliveries)
	after.fleet = r.CPU
	reportUsage(b, before, after, r)
}

// quickAcks is how many reads it takes until the kernel trusts a new connection enough to delay its
// acknowledgements. Before that a write costs a fifth more.
const quickAcks = 24

// warmUp publishes some events, so that buffers have their size and connections are past their youth.
func warmUp(b testing.TB, f *fleet, to writer, ev *event, size, events int) {
	b.Helper()
	_, err := f.begin(ev)
	require.NoError(b, err)
	w := &window{fleet: f, size: uint64(size)}
	to.begin(w, ev)
	for range events {
		require.NoError(b, to.publish(w, ev))
	}
	require.NoError(b, to.flush(w))
	require.NoError(b, w.drain())
}

// whyStuck asks the fleet what it has seen.
func whyStuck(f *fleet) error {
	_, err := f.report()
	return err
}

func reportUsage(b *testing.B, before, after usage, r reply) {
	wall := after.at.Sub(before.at)
	hub, clients := after.hub-before.hub, after.fleet-before.fleet
	deliveries := float64(r.Deliveries)
	b.ReportMetric(deliveries/wall.Seconds(), "deliveries/s")
	b.ReportMetric(float64(hub)/deliveries, "cpu-ns/delivery")
	if writes := after.writes - before.writes; writes > 0 {
		b.ReportMetric(deliveries/float64(writes), "events/write")
	}
	b.ReportMetric(float64(r.P50), "p50-ns")
	b.ReportMetric(float64(r.P99), "p99-ns")
	b.ReportMetric(hub.Seconds()/wall.Seconds(), "hub-cores")
	b.ReportMetric(clients.Seconds()/wall.Seconds(), "client-cores")
}

// configWith returns the hub's configuration with so many shards, 0 for the default.
func configWith(shards int) fanout.Config { return fanout.Config{Shards: shards} }
