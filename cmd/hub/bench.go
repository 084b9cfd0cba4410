package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/loadgen"
)

const benchSynopsis = `hub bench: connect many spokes to a hub, publish, and report how it does.

  hub bench --spokes 10000 --rate 100 --duration 30s
  hub bench --spokes 10000 --window 4 --stalled 10%

Progress goes to standard error, the report to standard output. Ctrl-C ends the run early; it is
reported all the same. The exit code is 1 if spokes that read lost events without being told, got any
twice or out of order, if spokes could not connect, or if publishing failed.

Events are published at the hub's --admin address. With --admin off they come from one more spoke,
and the hub has to run with --relay others. Spokes connect with wss too, at the price of a goroutine
each; certificates are checked, those of an https --admin as well, see --tls-ca and --insecure.`

// defaultRate is the rate of a run with neither --rate nor --window.
const defaultRate = 100

// benchFlags defines the flags of hub bench, with their defaults in c.
func benchFlags(c *loadgen.Config, whom *trust, asJSON *bool) *flags {
	const unset = -1
	*c = loadgen.Config{
		URL: "ws://127.0.0.1:8080/ws", Admin: defaultAdmin,
		Spokes: 1000, EventsPerSec: unset, PayloadBytes: 256, Duration: 10 * time.Second,
	}
	f := newFlags("bench", benchSynopsis)
	add(f, &c.URL, "url", "WebSocket address of the hub", parseWebSocketURL, showText)
	addSecret(f, &c.Token, "token", "bearer token, sent with the handshakes", parseText)
	addTrust(f, whom)
	addOperator(f, &c.Admin, &c.AdminToken, "admin address of the hub, for publishing; off to publish as a spoke")
	add(f, &c.Spokes, "spokes", "connections", number(1, 1<<20), strconv.Itoa)
	add(f, &c.StalledShare, "stalled", "share of the spokes that stop reading once connected", parseShare, showShare)
	add(f, &c.ConnectPerSec, "connect-rate", "connections a second; 0 for as fast as the hub takes them", number(0, 1<<20), strconv.Itoa)
	add(f, &c.Topics, "topics", "spread the spokes over so many topics; 0 for every event to every spoke", number(0, 1<<20), strconv.Itoa)
	add(f, &c.Sources, "source", "local addresses to connect from, as in 127.0.0.2,127.0.0.3: each has about 28000 ports", parseAddresses, showAddresses)
	add(f, &c.EventsPerSec, "rate", fmt.Sprintf("events a second; without --window %d, with it any number", defaultRate), number(1, 1<<20), func(n int) string {
		if n == unset {
			return ""
		}
		return strconv.Itoa(n)
	})
	add(f, &c.WindowEvents, "window", "events that may be under way to the spokes at a time; 0 for any number", number(0, 1<<20), strconv.Itoa)
	payload := func(s string) (int, error) {
		n, err := size(loadgen.MinPayloadBytes, 1<<20)(s)
		return int(n), err
	}
	add(f, &c.PayloadBytes, "payload", "size of an event's payload", payload, func(n int) string { return showSize(int64(n)) })
	add(f, &c.Duration, "duration", "how long to publish", duration(10*time.Millisecond, 24*time.Hour), showDuration)
	addSwitch(f, asJSON, "json", "report in JSON")
	return f
}

func bench(ctx context.Context, args []string) error {
	var c loadgen.Config
	asJSON := false
	var whom trust
	f := benchFlags(&c, &whom, &asJSON)
	if err := parseBench(f, &c, args); err != nil {
		return err
	}
	c.TLS = whom.config()
	return runBench(ctx, c, asJSON, os.Stdout, &progressLine{w: os.Stderr, terminal: isTerminal(os.Stderr)})
}

// parseBench parses the flags, and checks them together.
func parseBench(f *flags, c *loadgen.Config, args []string) error {
	if _, err := parseFlags(f, args, 0); err != nil {
		return err
	}
	if c.EventsPerSec < 0 {
		c.EventsPerSec = 0
		if c.WindowEvents == 0 {
			c.EventsPerSec = defaultRate
		}
	}
	if err := c.Check(); err != nil {
		return &usageError{err}
	}
	return nil
}

// runBench runs the load generator. The error is what makes the exit code.
func runBench(ctx context.Context, c loadgen.Config, asJSON bool, out io.Writer, line *progressLine) error {
	report, err := loadgen.Run(ctx, c, line.show)
	line.end()
	if err != nil {
		return explainTrust(err)
	}
	if asJSON {
		err = writeBenchJSON(out, report)
	} else {
		err = writeBenchText(out, report)
	}
	if err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return errors.New(strings.Join(report.Problems, "; "))
	}
	return nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
