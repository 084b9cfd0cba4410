package peers

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// report is what a run has found, as -json writes it and as the table shows it.
type report struct {
	Machine, Commit, Command string
	Rounds, PayloadBytes     int
	Seconds                  float64 // all of it
	Servers                  []result
}

// result is one server with one number of clients.
type result struct {
	Server                    string
	Clients                   int
	IdleBytes                 float64 // of one client
	LostMessages, LostClients uint64  // in the worst round
	Failure                   string  `json:",omitempty"` // why a round did not run to its end
	Windows                   []figures
}

// figures are medians of the rounds that got so far. 0 stands for what no round has.
type figures struct {
	Window             int
	CPUNanos           float64 // of a delivery
	TimesFloor         float64 // the same as a multiple of the floor's
	DeliveriesPerSec   float64
	P50Nanos, P99Nanos float64
}

// row is the rounds of one server with one number of clients, and those of the floor beside them.
type row struct {
	peer    string
	clients int
	rounds  []round
	floor   *row
}

// newReport describes the run that began then and has found these.
func newReport(began time.Time, rows []*row) *report {
	r := &report{
		Machine: fleet.Machine(), Commit: commit(), Command: commandLine(),
		Rounds: *flagRounds, PayloadBytes: payloadBytes, Seconds: time.Since(began).Seconds(),
	}
	for _, w := range rows {
		r.Servers = append(r.Servers, w.result())
	}
	return r
}

// commit returns what git calls the tree that is measured.
func commit() string {
	b, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// commandLine returns what, from the root of the repository, makes the same table again.
func commandLine() string {
	s := fmt.Sprintf("go test -C bench/peers -run '^$' -bench Peers -timeout 2h -args -rounds %d -clients %s -for %v",
		*flagRounds, *flagClients, *flagFor)
	if *flagPeers != "" {
		s += fmt.Sprintf(" -peers '%s'", *flagPeers)
	}
	return s
}

// create creates the named file, before a long run rather than behind it. Without a name what is
// written is discarded.
func create(b testing.TB, name string) io.Writer {
	if name == "" {
		return io.Discard
	}
	f, err := os.Create(name)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, f.Close()) })
	return f
}

func (r *report) printJSON(to io.Writer) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *row) result() result {
	res := result{Server: r.peer, Clients: r.clients, Failure: r.failure()}
	for _, o := range r.rounds {
		res.LostMessages = max(res.LostMessages, o.lost.Messages)
		res.LostClients = max(res.LostClients, o.lost.Clients)
	}
	res.IdleBytes = r.median(func(i int) (float64, bool) { return r.rounds[i].idleBytes, r.rounds[i].idleBytes != 0 })
	for w, window := range windows {
		f := figures{Window: window}
		f.CPUNanos = r.median(func(i int) (float64, bool) { return cpuPerDelivery(r, i, w) })
		f.TimesFloor = r.median(func(i int) (float64, bool) {
			own, ok := cpuPerDelivery(r, i, w)
			floor, also := cpuPerDelivery(r.floor, i, w)
			return own / floor, ok && also
		})
		f.DeliveriesPerSec = r.ofTurns(w, func(t fleet.Turn) float64 { return float64(t.Deliveries) / t.Wall.Seconds() })
		f.P50Nanos = r.ofTurns(w, func(t fleet.Turn) float64 { return float64(t.P50) })
		f.P99Nanos = r.ofTurns(w, func(t fleet.Turn) float64 { return float64(t.P99) })
		res.Windows = append(res.Windows, f)
	}
	return res
}

// failure returns why a round did not run to its end, "" if all did.
func (r *row) failure() string {
	for i, o := range r.rounds {
		if o.err != nil {
			return fmt.Sprintf("round %d: %s", i+1, strings.ReplaceAll(o.err.Error(), "\n", "; "))
		}
	}
	return ""
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

// median returns the median over the rounds that have the figure, 0 if none has.
func (r *row) median(of func(round int) (float64, bool)) float64 {
	var all []float64
	for i := range r.rounds {
		if f, ok := of(i); ok {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.SortFunc(all, cmp.Compare[float64])
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
