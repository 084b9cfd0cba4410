package fanout

import (
	"runtime"
	"time"
)

// A pass over n spokes takes some microseconds for each of them. Before it begins, whoever is just
// publishing may go on for up to a 256th of that, and not after quietYields that brought nothing.
const (
	gatherPerTaker = 24 * time.Nanosecond
	takersPerYield = 8
	quietYields    = 16 // some microseconds
)

// gatherLocked waits for what comes right behind the first event of a burst: else a shard that has slept
// is off with that one alone, and the spokes are gone through twice. It needs mu, which others may have
// meanwhile.
func (sh *shard) gatherLocked() {
	takers := 0
	for i := range sh.inbox {
		takers = max(takers, len(sh.inbox[i].takers))
	}
	yields := takers / takersPerYield
	if yields < quietYields {
		return
	}
	due := sh.hub.now() + int64(takers)*int64(gatherPerTaker)
	for quiet := 0; quiet < quietYields && yields > 0 && sh.hub.now() < due; yields-- {
		before := len(sh.inbox)
		sh.mu.Unlock()
		runtime.Gosched()
		sh.mu.Lock()
		if quiet++; len(sh.inbox) > before {
			quiet = 0
		}
	}
}
