package bench

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// BenchmarkTargets holds the hub against what it is to reach, each row a ratio within this run: an
// iteration is a pair of turns, the hub's and that of what it is compared with, whose order alternates.
// A figure is the median of the pairs, a ratio the median of the ratios of each pair. At the end a
// table says what came out.
//
//	go test -run '^$' -bench Targets -benchtime 5x ./bench
func BenchmarkTargets(b *testing.B) {
	r := &results{}
	b.Cleanup(r.print)
	for _, row := range []struct {
		job string
		run func(*testing.B, *results)
	}{
		{"broadcast", broadcastTargets},
		{"flat", flatTargets},
		{"cores", coresTargets},
		{"calm", calmTargets},
		{"topics", topicsTargets},
		{"targeted", targetedTargets},
		{"payload", payloadTargets},
		{"compressed", compressedTargets},
		{"storm", stormTargets},
		{"stalled", stalledTargets},
		{"slow", slowTargets},
	} {
		b.Run("job="+row.job, func(b *testing.B) { row.run(b, r) })
	}
}

// turn is one side's half of a pair.
type turn func(testing.TB) fleet.Turn

// pair is what two sides did, one right after the other.
type pair struct{ hub, other fleet.Turn }

// inPairs gives turns to the hub and to what it is compared with, b.N times each.
func inPairs(b *testing.B, hub, other turn) []pair {
	var pairs []pair
	for b.Loop() {
		var p pair
		if len(pairs)%2 == 0 {
			p.other, p.hub = other(b), hub(b)
		} else {
			p.hub, p.other = hub(b), other(b)
		}
		pairs = append(pairs, p)
	}
	b.ReportMetric(0, "ns/op") // how long a pair takes says nothing
	return pairs
}

// figure is what is compared of a turn.
type figure struct {
	name string // with its unit
	unit float64
	of   func(fleet.Turn) float64
}

var (
	cpuPerDelivery = figure{"cpu-ns/delivery", 1, func(t fleet.Turn) float64 { return float64(t.CPU) / float64(t.Deliveries) }}
	throughput     = figure{"deliveries/s", 1, func(t fleet.Turn) float64 { return float64(t.Deliveries) / t.Wall.Seconds() }}
	p99            = figure{"p99-ms", 1e6, func(t fleet.Turn) float64 { return float64(t.P99) }}
)

// target is what a ratio, hub to other, has to reach.
type target struct {
	what    string
	atMost  float64
	atLeast float64 // instead, if it is not 0
}

func (t target) String() string {
	if t.atLeast > 0 {
		return fmt.Sprintf(">= %.2f", t.atLeast)
	}
	return fmt.Sprintf("<= %.2f", t.atMost)
}

// reached reports whether a ratio does.
func (t target) reached(ratio float64) bool {
	if t.atLeast > 0 {
		return ratio >= t.atLeast
	}
	return ratio <= t.atMost
}

// results is the table of BenchmarkTargets.
type results struct{ lines []string }

// compare reports a figure of the pairs, and its ratio with its target.
func (r *results) compare(b *testing.B, f figure, t target, pairs []pair) {
	var hub, other, ratios []float64
	for _, p := range pairs {
		h, o := f.of(p.hub)/f.unit, f.of(p.other)/f.unit
		hub, other, ratios = append(hub, h), append(other, o), append(ratios, h/o)
	}
	b.ReportMetric(median(hub), "hub-"+f.name)
	b.ReportMetric(median(other), "other-"+f.name)
	b.ReportMetric(median(ratios), f.name+"-ratio")
	r.add(t, f.name, fmt.Sprintf("%.4g", median(hub)), fmt.Sprintf("%.4g", median(other)), median(ratios), ratios)
}

// add enters a line of the table.
func (r *results) add(t target, figure, hub, other string, ratio float64, ratios []float64) {
	verdict := "reached"
	if !t.reached(ratio) {
		verdict = "missed"
	}
	var each []string
	for _, x := range ratios {
		each = append(each, fmt.Sprintf("%.2f", x))
	}
	r.lines = append(r.lines, fmt.Sprintf("| %s | %s | %s | %s | %.2f | %s | %s | %s |",
		t.what, figure, hub, other, ratio, t, verdict, strings.Join(each, ", ")))
}

func (r *results) print() {
	fmt.Fprintln(os.Stdout, "\n| what | figure | hub | other | ratio | target | | the pairs |\n|---|---|---|---|---|---|---|---|")
	for _, l := range r.lines {
		fmt.Fprintln(os.Stdout, l)
	}
}

// median returns the middle of some numbers.
func median(f []float64) float64 {
	f = slices.Clone(f)
	slices.SortFunc(f, cmp.Compare[float64])
	return (f[(len(f)-1)/2] + f[len(f)/2]) / 2
}

// measured returns the turn of a side that takes the load. It was idle before, while the other had its
// turn, so its connections are young again: see quickAcks. takers is how many events it takes until
// every client has had one.
func measured(side fleet.Side, takers int, load fleet.Load) turn {
	return func(b testing.TB) fleet.Turn {
		b.Helper()
		_, err := side.Measure(fleet.Load{Event: load.Event, Window: min(takers, 1000), Events: takers * quickAcks})
		require.NoError(b, err)
		t, err := side.Measure(load)
		require.NoError(b, err)
		return t
	}
}
