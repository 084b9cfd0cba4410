package peers

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// See the package comment.
var (
	flagRounds  = flag.Int("rounds", 3, "how often each server is measured")
	flagClients = flag.String("clients", "1000,10000", "numbers of clients, separated by commas")
	flagFor     = flag.Duration("for", 2*time.Second, "how long each window is kept full, at least")
	flagPeers   = flag.String("peers", "", "only these servers, separated by commas, and the floor")
	flagOut     = flag.String("out", "", "a file for the table, beside standard output")
	flagJSON    = flag.String("json", "", "a file for the figures as JSON")
)

func TestMain(m *testing.M) {
	fleet.Main(roles()) // does not return in a child process
	os.Exit(m.Run())
}

// TestEveryPeerDeliversInOrder proves that each is driven rightly: every frame that a client gets is
// compared.
func TestEveryPeerDeliversInOrder(t *testing.T) {
	const clients, events = 50, 100
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			if p.command != nil {
				if _, err := p.command(); err != nil {
					t.Skip(err)
				}
			}
			trial, err := p.begin(t, clients, 1)
			require.NoError(t, err)
			defer trial.end()
			for _, window := range windows {
				turn, err := trial.measure(load{window: window, events: events})
				require.NoError(t, err)
				require.GreaterOrEqual(t, turn.Events, uint64(events))
				require.Equal(t, turn.Events*clients, turn.Deliveries)
				require.Positive(t, turn.CPU)
				require.Positive(t, turn.P50)
			}
			lost, err := trial.server.ask(question{})
			require.NoError(t, err)
			require.Zero(t, lost.Messages)
			require.Zero(t, lost.Clients)
		})
	}
}

// BenchmarkPeers prints the table. What it reports of itself is how long that took.
func BenchmarkPeers(b *testing.B) {
	began := time.Now()
	peers := chosen(b)
	table, figures := create(b, *flagOut), create(b, *flagJSON)
	var rows []*row
	for _, clients := range numbers(b, *flagClients) {
		rows = append(rows, measureAll(b, peers, clients, *flagRounds, *flagFor)...)
	}
	r := newReport(began, rows)
	require.NoError(b, errors.Join(r.printTable(io.MultiWriter(os.Stdout, table)), r.printJSON(figures)))
}

// measureAll measures the peers in turn, round after round. The floor is the first. One that fails
// does not keep the others from being measured.
func measureAll(b testing.TB, peers []peer, clients, rounds int, atLeast time.Duration) (rows []*row) {
	for _, p := range peers {
		r := &row{peer: p.name, clients: clients}
		rows = append(rows, r)
		r.floor = rows[0]
	}
	for n := range rounds {
		for i := range peers {
			fmt.Fprintf(os.Stderr, "round %d of %d, %d clients: %s\n", n+1, rounds, clients, peers[i].name)
			rows[i].rounds = append(rows[i].rounds, peers[i].try(b, clients, atLeast))
		}
	}
	return rows
}

// chosen returns the peers that -peers asks for, and the floor before them.
func chosen(b *testing.B) (peers []peer) {
	if *flagPeers == "" {
		return all
	}
	names := append(strings.Split(*flagPeers, ","), nameOfFloor)
	for _, p := range all {
		if slices.Contains(names, p.name) {
			peers = append(peers, p)
		}
	}
	for _, name := range names {
		known := slices.ContainsFunc(all, func(p peer) bool { return p.name == name })
		require.True(b, known, "there is no server %q", name)
	}
	return peers
}

func numbers(b *testing.B, list string) (n []int) {
	for s := range strings.SplitSeq(list, ",") {
		i, err := strconv.Atoi(s)
		require.NoError(b, err)
		n = append(n, i)
	}
	return n
}
