package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	gometrics "runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/alkdev/hub/admin"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// The values of --memory-limit that are no sizes.
const (
	memoryAuto int64 = 0
	memoryOff  int64 = -1
)

// memoryShare is the part of a container's limit that the Go runtime may use: it does not see its own
// binary, the stacks of threads and what the kernel counts.
const memoryShare = 0.9

func parseMemoryLimit(s string) (int64, error) {
	switch s {
	case "auto":
		return memoryAuto, nil
	case "off":
		return memoryOff, nil
	}
	n, err := size(16<<20, 1<<50)(s)
	if err != nil {
		return 0, fmt.Errorf("%q is neither auto nor off nor a size from 16MiB, sizes look like 1GiB or 800MB", s)
	}
	return n, nil
}

func showMemoryLimit(n int64) string {
	switch n {
	case memoryAuto:
		return "auto"
	case memoryOff:
		return "off"
	}
	return showSize(n)
}

// limitMemory sets the runtime's memory limit as --memory-limit says, and logs it. container returns the
// limit of the container.
func (c *config) limitMemory(logger *slog.Logger, container memlimit.Provider) {
	limit, from, err := memoryLimit(c.memoryLimit, debug.SetMemoryLimit(-1), container)
	if err != nil {
		logger.Warn("the memory limit of the container cannot be read", slog.Any("error", err))
	}
	if c.memory = limit; limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	text := "none"
	if limit > 0 {
		text = showSize(limit)
	}
	logger.Info("memory", slog.String("limit", text), slog.String("from", from))
}

// memoryLimit returns the limit that is to be in force, 0 for none, and where it comes from. runtime is
// what the runtime has taken from GOMEMLIMIT.
func memoryLimit(flag, runtime int64, container memlimit.Provider) (limit int64, from string, err error) {
	switch {
	case flag == memoryOff:
		return 0, "--memory-limit=off", nil
	case flag > 0:
		return flag, "--memory-limit", nil
	case runtime != math.MaxInt64:
		return runtime, "GOMEMLIMIT", nil
	case os.Getenv("GOMEMLIMIT") != "": // off
		return 0, "GOMEMLIMIT", nil
	}
	all, err := container()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit):
		return 0, "none of the container", nil
	case err != nil:
		return 0, "none that can be read", err
	}
	return int64(min(float64(all)*memoryShare, 1<<60)), "the container", nil
}

// memoryReading is what the runtime says.
type memoryReading struct {
	used   int64  // what it cannot do without: live objects, and all that is no objects
	cycles uint64 // of the garbage collector: live objects are counted anew in each
}

// readMemory is cheap enough for ten times a second: it stops nothing.
func readMemory() memoryReading {
	samples := []gometrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, {Name: "/gc/cycles/total:gc-cycles"},
	}
	gometrics.Read(samples)
	n := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return memoryReading{used: n(0) + n(1) - n(2) - n(3) - n(4), cycles: samples[5].Value.Uint64()}
}

// The guard's thresholds, as parts of the limit. Above the first the collector soon does nothing else;
// between them nothing changes.
const (
	tightShare = 0.80
	easyShare  = 0.65
)

const (
	memoryInterval = 100 * time.Millisecond
	// collectEvery is how often the guard has garbage collected while memory is short: if nothing is
	// allocated nobody else would, and it could not see that it is over.
	collectEvery = 2 * time.Second
	// leastTotal is what --total-buffer is never lowered below.
	leastTotal = 1 << 20
)

// memoryGuard makes the hub hold less when memory is short: queues are shed, the largest first and by
// their policy, and new connections are refused. It ends that by itself.
type memoryGuard struct {
	// Set by newMemoryGuard, read-only afterwards.
	limit   int64
	hub     *fanout.Hub
	server  *loop.Server
	logger  *slog.Logger
	read    func() memoryReading
	collect func()

	// The caller of look only.
	cycles    uint64    // of the reading that was acted upon
	collected time.Time // or when it began to be tight

	// Any goroutine, atomically.
	tight atomic.Bool
	times atomic.Uint64
}

func newMemoryGuard(limit int64, hub *fanout.Hub, server *loop.Server, logger *slog.Logger) *memoryGuard {
	return &memoryGuard{limit: limit, hub: hub, server: server, logger: logger, read: readMemory, collect: runtime.GC}
}

// run looks until stop is called, which waits for it.
func (g *memoryGuard) run() (stop func()) {
	if g.limit == 0 {
		return func() {}
	}
	stopc, donec := make(chan struct{}), make(chan struct{})
	go func() { // ends with stopc
		defer close(donec)
		ticker := time.NewTicker(memoryInterval)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				g.look(now)
			case <-stopc:
				return
			}
		}
	}()
	return func() { close(stopc); <-donec }
}

// look reads once, and does what is to be done.
func (g *memoryGuard) look(now time.Time) {
	r := g.read()
	high, low := int64(float64(g.limit)*tightShare), int64(float64(g.limit)*easyShare)
	switch tight := g.tight.Load(); {
	case r.used > high:
		if !tight {
			g.begin(r, now)
		}
		if !tight || r.cycles != g.cycles { // what was shed before has been counted
			g.cycles = r.cycles
			held := g.hub.Stats().HeldBytes
			g.hub.SetTotalBytes(max(held-(r.used-low), leastTotal))
		}
	case tight && r.used < low:
		g.end(r)
		return
	}
	if g.tight.Load() && now.Sub(g.collected) >= collectEvery {
		g.collected = now
		g.collect()
	}
}

func (g *memoryGuard) begin(r memoryReading, now time.Time) {
	g.tight.Store(true)
	g.times.Add(1)
	g.collected = now
	g.server.SetTight(true)
	g.logger.Warn("memory is short: queues are shed and new connections refused",
		slog.String("used", showSize(r.used)), slog.String("limit", showSize(g.limit)))
}

func (g *memoryGuard) end(r memoryReading) {
	g.tight.Store(false)
	g.server.SetTight(false)
	g.hub.SetTotalBytes(math.MaxInt64)
	g.logger.Info("memory is no longer short", slog.String("used", showSize(r.used)), slog.String("limit", showSize(g.limit)))
}

// stats is what the admin side shows.
func (g *memoryGuard) stats() admin.MemoryStats {
	return admin.MemoryStats{LimitBytes: g.limit, UsedBytes: g.read().used, Tight: g.tight.Load(), Times: g.times.Load()}
}
