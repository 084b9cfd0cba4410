package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/loadgen"
)

// benchConfig parses the flags of hub bench.
func benchConfig(t *testing.T, args ...string) (c loadgen.Config, asJSON bool, err error) {
	t.Helper()
	f := benchFlags(&c, &trust{}, &asJSON)
	err = parseBench(f, &c, args)
	return c, asJSON, err
}

func TestBenchReportsAHealthyRun(t *testing.T) {
	spokes, admin, _ := startHub(t, "--admin-token", "secret", "--spoke-lag", "1h")
	c, _, err := benchConfig(t, "--url", spokes, "--admin", admin, "--admin-token", "secret",
		"--spokes", "100", "--stalled", "10%", "--window", "4", "--duration", "200ms")
	require.NoError(t, err)
	c.Patience = time.Minute
	var out, progress bytes.Buffer
	require.NoError(t, runBench(t.Context(), c, false, &out, &progressLine{w: &progress}))
	for _, part := range []string{
		"spokes        100 connected in ", "stalled       10: 10 still open\n", "published ", "deliveries ", "latency       p50 ",
		"lost          0: 0 announced by __gap, 0 by a close frame, 0 unannounced\n", "doubled       0\n", "out of order  0\n", "client        CPU ",
	} {
		require.Contains(t, out.String(), part)
	}

	out.Reset()
	require.NoError(t, runBench(t.Context(), c, true, &out, &progressLine{w: io.Discard}))
	var report loadgen.Report
	decoder := json.NewDecoder(&out)
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&report))
	require.Equal(t, 100, report.Spokes.Connected)
	require.EqualValues(t, 90*report.Published.Events, report.Deliveries)
}

func TestBenchPublishesAsASpokeWhereTheHubRelays(t *testing.T) {
	spokes, _, _ := startHub(t, "--relay", "others", "--spoke-lag", "1h")
	c, _, err := benchConfig(t, "--url", spokes, "--admin", "off", "--spokes", "20", "--window", "2", "--duration", "50ms", "--topics", "4")
	require.NoError(t, err)
	c.Patience = time.Minute
	var out bytes.Buffer
	require.NoError(t, runBench(t.Context(), c, false, &out, &progressLine{w: io.Discard}))
	require.Contains(t, out.String(), "4 topics")
}

func TestBenchFailsWhenSpokesCannotConnect(t *testing.T) {
	spokes, admin, _ := startHub(t, "--max-spokes", "10")
	c, _, err := benchConfig(t, "--url", spokes, "--admin", admin, "--spokes", "15", "--duration", "10ms", "--window", "1")
	require.NoError(t, err)
	c.Patience = time.Minute
	var out bytes.Buffer
	require.EqualError(t, runBench(t.Context(), c, false, &out, &progressLine{w: io.Discard}), "5 spokes could not connect")
	require.Contains(t, out.String(), "5 could not connect: 5 the hub says 503")
}

func TestBenchFailsAtOnceWithoutAHub(t *testing.T) {
	c, _, err := benchConfig(t, "--url", "ws://127.0.0.1:1/ws")
	require.NoError(t, err)
	require.ErrorContains(t, runBench(context.Background(), c, false, io.Discard, &progressLine{w: io.Discard}), "connecting to ws://127.0.0.1:1/ws")
}

func TestBenchFlagsAreRead(t *testing.T) {
	c, asJSON, err := benchConfig(t, "--stalled=2.5%", "--payload=1KiB", "--source", "127.0.0.2, ::1", "--json", "--admin=https://hub.example/")
	require.NoError(t, err)
	require.True(t, asJSON)
	require.InDelta(t, 0.025, c.StalledShare, 1e-9)
	require.Equal(t, 1024, c.PayloadBytes)
	require.Equal(t, []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1")}, c.Sources)
	require.Equal(t, "https://hub.example", c.Admin)
	require.Equal(t, []int{defaultRate, 0}, []int{c.EventsPerSec, c.WindowEvents})

	c, _, err = benchConfig(t, "--window=3")
	require.NoError(t, err)
	require.Equal(t, []int{0, 3}, []int{c.EventsPerSec, c.WindowEvents})
	c, _, err = benchConfig(t, "--window=3", "--rate=7")
	require.NoError(t, err)
	require.Equal(t, []int{7, 3}, []int{c.EventsPerSec, c.WindowEvents})
}

func TestBenchTakesTheAdminVariableOfServe(t *testing.T) {
	for value, want := range map[string]string{":8081": "http://127.0.0.1:8081", "10.0.0.1:90": "http://10.0.0.1:90", "off": ""} {
		t.Setenv("HUB_ADMIN", value)
		c, _, err := benchConfig(t)
		require.NoError(t, err)
		require.Equal(t, want, c.Admin)
	}
}

func TestBenchMistakesNameWhatIsAllowed(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"--stalled=100%", `"100%" is not a share from 0% to below 100%, shares look like 10% or 0.5%`},
		{"--stalled=10", "shares look like"},
		{"--stalled=NaN%", "shares look like"},
		{"--source=localhost", "is not a list of IP addresses, as in 127.0.0.2,127.0.0.3"},
		{"--payload=10", "is not a size from 96 to 1MiB"},
		{"--duration=10", "durations look like"},
		{"--rate=0", "is not a number from 1"},
		{"--url=localhost", "is not a WebSocket address"},
		{"--admin=localhost", "is not the address of a hub's admin side"},
		{"--topics=2000", "2000 topics for 1000 spokes that read"},
		{"extra", `"extra": not expected here`},
	} {
		_, _, err := benchConfig(t, c.arg)
		require.ErrorContains(t, err, c.want, c.arg)
		var mistake *usageError
		require.ErrorAs(t, err, &mistake)
	}
}

func TestProgressIsOneLineOnATerminal(t *testing.T) {
	p := loadgen.Progress{Stage: "publishing", Elapsed: 12 * time.Second, Spokes: 10_000, Connected: 10_000, DeliveriesPerSec: 1e6, Doubled: 3}
	var terminal, file bytes.Buffer
	for w, isTerminal := range map[*bytes.Buffer]bool{&terminal: true, &file: false} {
		l := &progressLine{w: w, terminal: isTerminal}
		l.show(p)
		l.show(p)
		l.end()
	}
	require.Equal(t, 1, strings.Count(terminal.String(), "\n"))
	require.Equal(t, 2, strings.Count(terminal.String(), "\r"))
	require.Equal(t, 2, strings.Count(file.String(), "\n"))
	require.NotContains(t, file.String(), "\r")
	require.Contains(t, file.String(), " 12s publishing: 10,000 spokes, 0 events/s, 1,000,000 deliveries/s, p50 0s, p99 0s, under way 0, 3 doubled")
}

func TestReportSaysWhenTheClientWasBusy(t *testing.T) {
	var out bytes.Buffer
	report := &loadgen.Report{Client: loadgen.Client{Busy: true, Why: "it used 99% of its 2 cores", Cores: 2}}
	require.NoError(t, writeBenchText(&out, report))
	require.Contains(t, out.String(), "\nThe client was the busy side: it used 99% of its 2 cores. The hub may be able to do more.\n")
}

func TestPageListsEveryFlagOfBench(t *testing.T) {
	var c loadgen.Config
	asJSON := false
	f := benchFlags(&c, &trust{}, &asJSON)
	var table strings.Builder
	table.WriteString("| flag | default | |\n|---|---|---|\n")
	f.set.VisitAll(func(fl *flag.Flag) {
		value := fl.Value.String()
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&table, "| `--%s` | %s | %s |\n", fl.Name, value, fl.Usage)
	})
	page, err := os.ReadFile("../../docs/flags.md")
	require.NoError(t, err)
	require.Contains(t, string(page), table.String())
}
