package hostile

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// row is what was seen of an attack.
type row struct {
	attack        *attack
	quiet, during service // quiet is the worse of before and after
	done          tally
	growth        int64
	perUnit       time.Duration
	recovery      time.Duration
}

// String shows a row in full.
func (r row) String() string {
	return fmt.Sprintf("%d units (%s) in %v, %d spokes; CPU %v per unit, %.0f%% of a core; resident %+.1f MiB; events %v, in quiet %v; answers %v, in quiet %v; greetings %v, in quiet %v; as before after %v",
		r.done.Units, r.attack.unit, r.during.Elapsed.Round(time.Millisecond), r.done.Connects, r.perUnit, r.load(), float64(r.growth)/mib,
		short(r.during.Events), short(r.quiet.Events), short(r.during.Answers), short(r.quiet.Answers),
		short(r.during.Greetings), short(r.quiet.Greetings), short(r.recovery))
}

// load is the hub's, in percent of a core.
func (r row) load() float64 { return 100 * r.during.CPU.Seconds() / r.during.Elapsed.Seconds() }

func short(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

var tableHead = sync.OnceFunc(func() {
	fmt.Fprintln(os.Stdout, "| attack | units a second | CPU a unit | memory | p99 in ms of events; answers; connecting |")
	fmt.Fprintln(os.Stdout, "|---|---|---|---|---|")
})

// report prints a line of the table in docs/security.md: of everything what was seen and its bound.
func report(r row) {
	tableHead()
	rate := float64(r.done.Units) / r.during.Elapsed.Seconds()
	fmt.Fprintf(os.Stdout, "| %s | %s %ss | %v of %v | %+.1f of %d MiB | %s; %s; %s |\n",
		r.attack.name, count(rate), r.attack.unit, r.perUnit.Round(time.Nanosecond), r.attack.cpu, float64(r.growth)/mib, r.attack.growth/mib,
		r.pair(r.during.Events, r.quiet.Events), r.pair(r.during.Answers, r.quiet.Answers), r.pair(r.during.Greetings, r.quiet.Greetings))
}

// pair shows what was waited, in quiet and as the bound is.
func (r row) pair(during, quiet time.Duration) string {
	return fmt.Sprintf("%.1f (%.1f) of %.1f", ms(during), ms(quiet), ms(r.bound(quiet)))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func count(rate float64) string {
	switch {
	case rate >= 1e6:
		return fmt.Sprintf("%.1f M", rate/1e6)
	case rate >= 1e4:
		return fmt.Sprintf("%.0f k", rate/1e3)
	}
	return fmt.Sprintf("%.0f", rate)
}
