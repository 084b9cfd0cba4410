package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
)

// childVariable makes the test binary the hub itself: with its value as arguments.
const childVariable = "HUB_TEST_ARGS"

// childMain runs the hub in a process of its own, and reports whether this is one.
func childMain() bool {
	args, ok := os.LookupEnv(childVariable)
	if ok {
		_ = os.Unsetenv(childVariable) // it is no flag's
		os.Exit(run(strings.Fields(args)))
	}
	return ok
}

// startProcess runs hub serve in a process of its own, until it is killed.
func startProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=serve "+strings.Join(args, " "))
	out, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { kill(cmd) })
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		require.NoError(t, err, "the hub does not start")
		if strings.Contains(line, "hub started") {
			break
		}
	}
	go func() { _, _ = in.WriteTo(discard{}) }() // ends with the process
	return cmd
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
}

// freeAddress returns an address that nobody listens on, now.
func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// A hub that is killed tells nobody when to come back: the clients' own randomness has to keep them
// apart, and the hub that takes its place must not get them all at once.
func TestClientsOfAKilledHubComeBackSpreadOut(t *testing.T) {
	const n, backoff = 200, 4 * time.Second
	address, admin := freeAddress(t), freeAddress(t)
	flags := []string{"--listen=" + address, "--admin=" + admin}
	hub := startProcess(t, flags...)

	var received atomic.Int64
	back, waits := make(chan time.Time, n*4), make(chan time.Duration, n*4)
	var killed atomic.Bool
	clients := make([]*client.Client, n)
	for i := range clients {
		var err error
		clients[i], err = client.Dial(t.Context(), "ws://"+address+"/ws", client.Options{
			Logger: slog.New(slog.DiscardHandler), BackoffMin: backoff, BackoffMax: backoff,
			OnEvent: func(*client.Client, codec.Envelope) { received.Add(1) },
			OnStatus: func(_ *client.Client, s client.Status) {
				switch {
				case !killed.Load():
				case s.State == client.Connected:
					back <- time.Now()
				case s.State == client.Waiting && s.Failures == 1:
					waits <- s.RetryIn
				}
			},
		})
		require.NoError(t, err)
		defer clients[i].Close(codec.CloseNormal, "")
	}

	// Load, before and after.
	ctx, cancel := context.WithCancel(t.Context())
	published := make(chan struct{})
	go func() { // ends with ctx
		defer close(published)
		for ctx.Err() == nil {
			_ = publish(ctx, []string{"--admin", "http://" + admin, "--quiet", "tick:1", `{"price":7}`})
		}
	}()
	defer func() { cancel(); <-published }()
	awaitCount(t, &received, 5*n)
	killed.Store(true)
	kill(hub)
	began := time.Now()
	startProcess(t, flags...)

	times := make([]time.Duration, n)
	for i := range times {
		select {
		case at := <-back:
			times[i] = at.Sub(began)
		case <-time.After(10 * backoff):
			require.Fail(t, "clients do not come back", "%d of %d", i, n)
		}
	}
	slices.Sort(times)
	t.Logf("first %v, median %v, last %v", times[0], times[n/2], times[n-1])
	require.Greater(t, times[n*9/10]-times[n/10], backoff/2, "spread out")

	// How close together they are to come is looked at in what each has drawn: a machine that stands
	// still for a moment lets them arrive together.
	require.Len(t, waits, n, "each has lost its connection once")
	drawn := make([]time.Duration, n)
	for i := range drawn {
		drawn[i] = <-waits
	}
	slices.Sort(drawn)
	busiest := 0 // in any tenth of the time over which they are to be spread
	for i, first := 0, 0; i < n; i++ {
		for drawn[i]-drawn[first] > backoff/10 {
			first++
		}
		busiest = max(busiest, i-first+1)
	}
	require.Less(t, busiest, n/4, "of %d within %v, a tenth is the mean", n, backoff/10)
	before := received.Load()
	awaitCount(t, &received, before+5*n)
}

// awaitCount waits until the count is reached.
func awaitCount(t *testing.T, count *atomic.Int64, want int64) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); count.Load() < want; <-ticker.C {
		require.Less(t, time.Since(began), soakPatience, fmt.Sprint(count.Load(), " of ", want))
	}
}
