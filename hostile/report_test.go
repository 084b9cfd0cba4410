package hostile

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// row is what was seen of an attack.
type row struct {
	attack    *attack
	quiet     service // the worse of before and after
	elsewhere service // while the attack went to another hub
	during    service
	done      tally
	growth    int64
	perUnit   time.Duration
	recovery  time.Duration
}

// wait is how long those who behave waited for something.
type wait struct {
	what                            string
	quiet, elsewhere, during, bound time.Duration
}

// sliceTime is what the kernel gives a thread that others wait for: a tick of it, at 250 Hz. Where the 99th percentile is
// less in quiet, one more thread that waits for its core is more than twice as much.
const sliceTime = 4 * time.Millisecond

// waits returns what is bounded. It may take twice as long as in quiet, or as while the attack takes the machine's
// cores but goes to another hub; and what the hub has to do for the attackers before it is the
// turn of those who behave, and a slice.
func (r row) waits() (list []wait) {
	for _, w := range []struct {
		what string
		of   func(service) time.Duration
	}{
		{"events", func(s service) time.Duration { return s.Events }},
		{"answers", func(s service) time.Duration { return s.Answers }},
		{"connecting", func(s service) time.Duration { return s.Greetings }},
	} {
		quiet, elsewhere := w.of(r.quiet), w.of(r.elsewhere)
		list = append(list, wait{w.what, quiet, elsewhere, w.of(r.during), 2*max(quiet, elsewhere) + r.attack.ahead + sliceTime})
	}
	return list
}

// String shows a row in full.
func (r row) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d units (%s) in %v, %d spokes; CPU %v per unit, %.0f%% of a core; resident %+.1f MiB; as before after %v",
		r.done.Units, r.attack.unit, r.during.Elapsed.Round(time.Millisecond), r.done.Connects, r.perUnit, r.load(), float64(r.growth)/mib, short(r.recovery))
	for _, w := range r.waits() {
		fmt.Fprintf(&text, "; %s %v, in quiet %v, the attack elsewhere %v", w.what, short(w.during), short(w.quiet), short(w.elsewhere))
	}
	return text.String()
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
	var waits [3]string
	for i, w := range r.waits() {
		waits[i] = fmt.Sprintf("%.1f (%.1f, %.1f) of %.1f", ms(w.during), ms(w.quiet), ms(w.elsewhere), ms(w.bound))
	}
	fmt.Fprintf(os.Stdout, "| %s | %s %ss | %v of %v | %+.1f of %d MiB | %s |\n",
		r.attack.name, count(rate), r.attack.unit, r.perUnit.Round(time.Nanosecond), r.attack.cpu, float64(r.growth)/mib, r.attack.growth/mib,
		strings.Join(waits[:], "; "))
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
