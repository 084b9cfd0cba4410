package peers

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// printTable prints Markdown that can be read as it is, a table for each number of clients.
func (r *report) printTable(to io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "commit %s; %s\n\n    %s\n", r.Commit, r.Machine, r.Command)
	for rest := r.Servers; len(rest) > 0; {
		clients := rest[0].Clients
		n := slices.IndexFunc(rest, func(s result) bool { return s.Clients != clients })
		if n < 0 {
			n = len(rest)
		}
		fmt.Fprintf(&b, "\n%s clients, payload %d B, %s:\n\n", grouped(clients), r.PayloadBytes, rounds(r.Rounds))
		appendTable(&b, rest[:n])
		rest = rest[n:]
	}
	fmt.Fprintf(&b, "\nCPU of the server's process per message and client, and how many times the floor's that is. The three numbers of\n"+
		"the other columns are for windows %s. Took %s.\n", overWindows(func(i int) string { return fmt.Sprint(windows[i]) }),
		time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	_, err := io.WriteString(to, b.String())
	return err
}

func rounds(n int) string {
	if n == 1 {
		return "one round"
	}
	return fmt.Sprintf("medians of %d rounds", n)
}

// appendTable appends the rows of one number of clients, and what went wrong.
func appendTable(b *strings.Builder, servers []result) {
	head := []string{"server"}
	for _, w := range windows {
		head = append(head, fmt.Sprintf("CPU/delivery, window %d", w))
	}
	cells := [][]string{append(head, "deliveries/s", "p50 ms", "p99 ms", "idle client", "lost")}
	for _, s := range servers {
		cells = append(cells, s.cells())
	}
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for n, line := range cells {
		for i, c := range line {
			fmt.Fprintf(b, "| %s%s ", c, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range widths {
				fmt.Fprintf(b, "|%s", strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	for _, s := range servers {
		if s.Failure != "" {
			fmt.Fprintf(b, "\n%s: %s.\n", s.Server, s.Failure)
		}
	}
}

// cells returns the row as text.
func (s *result) cells() []string {
	cells := []string{s.Server}
	for _, f := range s.Windows {
		cells = append(cells, joined(figure(f.CPUNanos, 1e3)+" us", "("+figure(f.TimesFloor, 1)+"x)"))
	}
	of := func(text func(figures) string) string {
		return overWindows(func(i int) string { return text(s.Windows[i]) })
	}
	const ms = float64(time.Millisecond)
	return append(cells,
		of(func(f figures) string { return perSecond(f.DeliveriesPerSec) }),
		of(func(f figures) string { return figure(f.P50Nanos, ms) }),
		of(func(f figures) string { return figure(f.P99Nanos, ms) }),
		joined(figure(s.IdleBytes, 1<<10)+" KB"), s.lost())
}

// lost says what the server gave up, or that it did not deliver for a reason that stands below.
func (s *result) lost() string {
	var lost []string
	if s.LostMessages > 0 {
		lost = append(lost, "messages dropped: "+grouped(s.LostMessages))
	}
	if s.LostClients > 0 {
		lost = append(lost, "clients cut off: "+grouped(s.LostClients))
	}
	switch {
	case len(lost) > 0:
		return strings.Join(lost, ", ")
	case s.Failure != "":
		return "see below"
	}
	return "0"
}

func overWindows(text func(i int) string) string {
	var all []string
	for i := range windows {
		all = append(all, text(i))
	}
	return strings.Join(all, " / ")
}

const missing = "-"

// joined joins the parts, or is one dash if the first has no figure.
func joined(parts ...string) string {
	if strings.HasPrefix(parts[0], missing) {
		return missing
	}
	return strings.Join(parts, " ")
}

// figure prints a number of units with at least two digits that matter, or a dash if there is none.
func figure(f, unit float64) string {
	f /= unit
	switch {
	case f == 0:
		return missing
	case f < 1:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

func perSecond(f float64) string {
	if f >= 1e6 {
		return figure(f, 1e6) + "M"
	}
	return joined(figure(f, 1e3) + "k")
}

// grouped writes thousands apart.
func grouped[N int | uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
