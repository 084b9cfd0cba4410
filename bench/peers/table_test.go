package peers

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alkdev/hub/internal/fleet"
)

// row is everything about one server with one number of clients.
type row struct {
	peer    string
	clients int
	rounds  []round
	floor   *row // of the same number of clients, round by round
}

// printTable prints the rows in Markdown that can be read as it is.
func printTable(to io.Writer, rows []*row) {
	names := strings.Trim(strings.ReplaceAll(fmt.Sprint(windows), " ", " / "), "[]")
	cells := [][]string{{"clients", "server"}}
	for _, w := range windows {
		cells[0] = append(cells[0], fmt.Sprintf("CPU/delivery, window %d", w))
	}
	cells[0] = append(cells[0], "deliveries/s, "+names, "p50 / p99 in ms, "+names, "idle client", "lost")
	cells = append(cells, make([]string, len(cells[0])))
	for _, r := range rows {
		cells = append(cells, r.cells())
	}

	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for n, line := range cells {
		for i, c := range line {
			fill := " "
			if n == 1 {
				fill = "-"
			}
			fmt.Fprintf(to, "|%s%s%s%s", fill, c, strings.Repeat(fill, widths[i]-utf8.RuneCountInString(c)), fill)
		}
		fmt.Fprintln(to, "|")
	}
	for _, r := range rows {
		if err := r.failure(); err != nil {
			fmt.Fprintf(to, "\n%s, %d clients: %v\n", r.peer, r.clients, err)
		}
	}
}

// cells returns the row as text.
func (r *row) cells() []string {
	cells := []string{fmt.Sprint(r.clients), r.peer}
	var rates, latencies []string
	for w := range windows {
		cpu := r.median(func(i int) (float64, bool) { return cpuPerDelivery(r, i, w) })
		ratio := r.median(func(i int) (float64, bool) {
			own, ok := cpuPerDelivery(r, i, w)
			floor, also := cpuPerDelivery(r.floor, i, w)
			return own / floor, ok && also
		})
		cells = append(cells, fmt.Sprintf("%s us (%s)", figure(cpu, 1e3), figure(ratio, 1)))
		rates = append(rates, perSecond(r.ofTurns(w, func(t fleet.Turn) float64 {
			return float64(t.Deliveries) / t.Wall.Seconds()
		})))
		latencies = append(latencies, fmt.Sprintf("%s-%s",
			figure(r.ofTurns(w, func(t fleet.Turn) float64 { return float64(t.P50) }), float64(time.Millisecond)),
			figure(r.ofTurns(w, func(t fleet.Turn) float64 { return float64(t.P99) }), float64(time.Millisecond))))
	}
	idle := r.median(func(i int) (float64, bool) { return r.rounds[i].idleBytes, r.rounds[i].idleBytes != 0 })
	return append(cells, strings.Join(rates, " / "), strings.Join(latencies, " / "), figure(idle, 1<<10)+" KB", r.lost())
}

// lost says what the server gave up, in the worst round, or that something went wrong.
func (r *row) lost() string {
	var worst answer
	for _, o := range r.rounds {
		worst.Messages = max(worst.Messages, o.lost.Messages)
		worst.Clients = max(worst.Clients, o.lost.Clients)
	}
	switch {
	case worst.Messages > 0 && worst.Clients > 0:
		return fmt.Sprintf("%d messages, %d clients", worst.Messages, worst.Clients)
	case worst.Messages > 0:
		return fmt.Sprintf("%d messages", worst.Messages)
	case worst.Clients > 0:
		return fmt.Sprintf("%d clients", worst.Clients)
	case r.failure() != nil:
		return "see below"
	}
	return "0"
}

// failure returns why a round did not run to its end, if one did not.
func (r *row) failure() error {
	for i, o := range r.rounds {
		if o.err != nil {
			return fmt.Errorf("round %d: %s", i+1, strings.ReplaceAll(o.err.Error(), "\n", "; "))
		}
	}
	return nil
}

func cpuPerDelivery(r *row, round, window int) (nanos float64, ok bool) {
	turns := r.rounds[round].turns
	if window >= len(turns) {
		return 0, false
	}
	return float64(turns[window].CPU) / float64(turns[window].Deliveries), true
}

func (r *row) ofTurns(window int, of func(fleet.Turn) float64) float64 {
	return r.median(func(i int) (float64, bool) {
		if turns := r.rounds[i].turns; window < len(turns) {
			return of(turns[window]), true
		}
		return 0, false
	})
}

// median returns the median over the rounds that have the figure, or a negative number if none has.
func (r *row) median(of func(round int) (float64, bool)) float64 {
	var all []float64
	for i := range r.rounds {
		if f, ok := of(i); ok {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return -1
	}
	slices.SortFunc(all, cmp.Compare[float64])
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// figure prints a number of units with at least two digits that matter, or a dash if there is none.
func figure(f, unit float64) string {
	f /= unit
	switch {
	case f < 0:
		return "-"
	case f < 1:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

func perSecond(f float64) string {
	if f >= 1e6 {
		return figure(f, 1e6) + " M"
	}
	return figure(f, 1e3) + " k"
}
