package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/admin"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// pagesHurry is how many times as often as usual BenchmarkPages has samples taken.
const pagesHurry = 50

// BenchmarkPages says what ten pages of operators cost a hub that delivers: turns with them and without in pairs,
// whose order alternates. What they cost is far less than by how much two turns differ, so samples are taken as
// often as the shard has time for them, and core% is the cost of one of them for all pages, as hundredths of a core if
// there is one a second, as there is: the median of the pairs, and q1 and q3 their quartiles.
//
//	go test -run '^$' -bench Pages -benchtime 7x ./bench
func BenchmarkPages(b *testing.B) {
	defer fleet.LeaveClientsTheirCore()()
	const pages, perSec = 10, 5 // as many events as ten thousand spokes take of half a core
	spokes, seconds := manySpokes(), 10
	if testing.Short() {
		seconds = 2
	}
	b.Run(fmt.Sprintf("spokes=%d/payload=256/rate=%d/pages=%d", spokes, perSec, pages), func(b *testing.B) {
		h := startHub(b, fanout.Config{})
		f := fleet.Launch(b)
		h.connect(b, f, fleet.Clients{Reading: spokes, Checked: checkedInBenchmarks})
		o := h.startOperators(b)
		ev := newEvent(b, 256)
		turn := measured(h.source(f, ev), 1, fleet.Load{Event: ev.Event, Every: time.Second / perSec, Events: seconds * perSec})
		var samples []float64 // a second, for each page
		with := func(b testing.TB) fleet.Turn {
			began := time.Now()
			o.look(b, pages)
			t := turn(b)
			seen := float64(o.look(b, 0)) / pages
			samples = append(samples, seen/time.Since(began).Seconds())
			return t
		}
		var costs []float64
		core := func(t fleet.Turn) float64 { return 100 * t.CPU.Seconds() / t.Wall.Seconds() }
		for i, p := range inPairs(b, with, turn) {
			require.GreaterOrEqual(b, samples[i], 1.0)
			costs = append(costs, (core(p.hub)-core(p.other))/samples[i])
		}
		slices.Sort(costs)
		b.ReportMetric(median(costs), "core%")
		b.ReportMetric(costs[len(costs)/4], "q1-core%")
		b.ReportMetric(costs[len(costs)*3/4], "q3-core%")
		b.ReportMetric(median(samples), "samples/s")
	})
}

// operators are a process that does what so many pages do, less the drawing.
type operators struct {
	*fleet.Child
	address string
}

// operatorsCommand is how many pages are to be open.
type operatorsCommand struct {
	Address string
	Pages   int
}

// startOperators starts the operator's side of the hub, and who looks at it.
func (h *runningHub) startOperators(b testing.TB) *operators {
	b.Helper()
	server, err := admin.New(admin.Config{Hub: h.hub, SampleEvery: time.Second / pagesHurry, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }() // ends with b
	b.Cleanup(func() {
		require.NoError(b, server.Shutdown(context.Background()))
		require.NoError(b, <-served)
	})
	o := &operators{fleet.Start(b, roleOperators), ln.Addr().String()}
	fleet.JoinClients(o.PID())
	return o
}

// look opens so many pages, or closes those there are, and returns how many samples these have got.
func (o *operators) look(b testing.TB, pages int) (samples int) {
	b.Helper()
	require.NoError(b, o.Ask(operatorsCommand{o.address, pages}, &samples))
	return samples
}

// operatorsMain is the process of the operators.
func operatorsMain() error {
	end := func() int { return 0 }
	return fleet.Obey(func(cmd operatorsCommand) (samples int, err error) {
		samples = end()
		end, err = openPages(cmd)
		return samples, err
	})
}

// openPages returns when each page has its stream. end closes them and returns how many samples they have got.
func openPages(cmd operatorsCommand) (end func() (samples int), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var samples atomic.Int64
	var reading sync.WaitGroup
	end = func() int {
		cancel()
		reading.Wait()
		return int(samples.Load())
	}
	for range cmd.Pages {
		lines, err := openPage(ctx, cmd.Address)
		if err != nil {
			return end, err
		}
		reading.Go(func() {
			for {
				if _, err := lines.ReadString('\n'); err != nil {
					return
				}
				samples.Add(1)
			}
		})
	}
	return end, nil
}

// openPage asks for what a page asks for, by a connection of its own.
func openPage(ctx context.Context, address string) (*bufio.Reader, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/stats", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/x-ndjson")
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return bufio.NewReader(resp.Body), nil // which ends with ctx
}
