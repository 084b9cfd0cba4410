package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/alkdev/hub/loadgen"
)

// progressLine shows how a run stands: a line that is written over on a terminal, else one a second.
type progressLine struct {
	w        io.Writer
	terminal bool
	shown    bool
}

func (l *progressLine) show(p loadgen.Progress) {
	text := progressText(p)
	if l.terminal {
		fmt.Fprintf(l.w, "\r%s\x1b[K", text)
	} else {
		fmt.Fprintln(l.w, text)
	}
	l.shown = true
}

// end leaves the line as it is; what follows begins a new one.
func (l *progressLine) end() {
	if l.terminal && l.shown {
		fmt.Fprintln(l.w)
	}
}

func progressText(p loadgen.Progress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%3.0fs %s: ", p.Elapsed.Seconds(), p.Stage)
	if p.Connected+p.Failed < p.Spokes {
		fmt.Fprintf(&b, "%s of %s spokes", count(p.Connected), count(p.Spokes))
	} else {
		fmt.Fprintf(&b, "%s spokes, %s events/s, %s deliveries/s, p50 %s, p99 %s, under way %s",
			count(p.Connected), count(int(p.EventsPerSec)), count(int(p.DeliveriesPerSec)),
			millis(float64(p.P50)/1e6), millis(float64(p.P99)/1e6), count(int(p.UnderWay)))
	}
	for _, part := range []struct {
		n    int
		name string
	}{
		{p.Failed, "could not connect"}, {p.Gone, "gone"}, {int(p.Missed), "missed by __gap"},
		{int(p.Doubled), "doubled"}, {int(p.OutOfOrder), "out of order"},
	} {
		if part.n > 0 {
			fmt.Fprintf(&b, ", %s %s", count(part.n), part.name)
		}
	}
	return b.String()
}

func writeBenchJSON(w io.Writer, r *loadgen.Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func writeBenchText(w io.Writer, r *loadgen.Report) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s%s\n", name, fmt.Sprintf(format, args...))
	}
	row("hub", "%s%s", r.URL, early(r))
	s := r.Spokes
	row("spokes", "%s connected in %.1f s, %s/s", count(s.Connected), s.Seconds, count(int(float64(s.Connected)/max(s.Seconds, 1e-9))))
	if s.Failed > 0 {
		row("", "%s could not connect: %s", count(s.Failed), counted(s.Failures))
	}
	if len(s.Ended) > 0 {
		row("", "lost their connection: %s", counted(s.Ended))
	}
	if r.Stalled.Spokes > 0 {
		row("stalled", "%s: %s", count(r.Stalled.Spokes), stalledText(r.Stalled))
	}
	p := r.Published
	row("published", "%s events in %.1f s, %.1f/s%s; payload %s%s", count(int(p.Events)), p.Seconds, p.PerSec, pace(p),
		showSize(int64(p.PayloadBytes)), topicsText(p.Topics))
	if p.Refused > 0 {
		row("", "%s times the hub was overloaded and refused an event", count(int(p.Refused)))
	}
	row("deliveries", "%s, %s/s", count(int(r.Deliveries)), count(int(r.DeliveriesPerSec)))
	l := r.LatencyMs
	row("latency", "p50 %s, p99 %s, p99.9 %s, max %s", millis(l.P50), millis(l.P99), millis(l.P999), millis(l.Max))
	lost := r.Lost
	row("lost", "%s: %s announced by __gap, %s by a close frame, %s unannounced", count(int(lost.Gap+lost.Close+lost.Unannounced)),
		count(int(lost.Gap)), count(int(lost.Close)), count(int(lost.Unannounced)))
	row("doubled", "%s", count(int(r.Doubled)))
	row("out of order", "%s", count(int(r.OutOfOrder)))
	c := r.Client
	row("client", "CPU %.0f%% of %d cores, its busiest reader %.0f%% of the time", 100*c.CPUShare, c.Cores, 100*c.ReaderBusyShare)
	if c.Busy {
		fmt.Fprintf(&b, "\nThe client was the busy side: %s. The hub may be able to do more.\n", c.Why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func early(r *loadgen.Report) string {
	if r.EndedEarly {
		return " (ended early)"
	}
	return ""
}

// pace says what bounded the publisher, and whether it kept up.
func pace(p loadgen.Published) string {
	var parts []string
	if p.AskedPerSec > 0 && p.PerSec < 0.95*float64(p.AskedPerSec) {
		parts = append(parts, fmt.Sprintf("%s/s were asked for", count(p.AskedPerSec)))
	}
	if p.WindowEvents > 0 {
		parts = append(parts, fmt.Sprintf("window %d", p.WindowEvents))
	}
	if p.WaitShare > 0.5 {
		parts = append(parts, fmt.Sprintf("%.0f%% of the time waiting for the hub to take them", 100*p.WaitShare))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func topicsText(topics int) string {
	if topics == 0 {
		return ""
	}
	return fmt.Sprintf(", %s topics", count(topics))
}

func stalledText(s loadgen.StalledReport) string {
	text := counted(s.Ended)
	if s.Open > 0 && text != "" {
		text += ", "
	}
	if s.Open > 0 {
		text += count(s.Open) + " still open"
	}
	return text
}

// counted is "12 reset, 3 closed with 4008".
func counted(m map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, count(m[name])+" "+name)
	}
	return strings.Join(parts, ", ")
}

func count(n int) string { return humanize.Comma(int64(n)) }

// millis shows milliseconds with three digits that count.
func millis(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
