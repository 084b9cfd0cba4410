package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/internal/leak"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	leak.Main(m)
}

// startHub runs a hub with the given flags until stop is called, which returns what runHub did.
func startHub(t *testing.T, args ...string) (spokes, admin string, stop func() error) {
	t.Helper()
	return startHubLogging(t, slog.New(slog.DiscardHandler), args...)
}

func startHubLogging(t *testing.T, logger *slog.Logger, args ...string) (spokes, admin string, stop func() error) {
	t.Helper()
	c, err := parseServe(t, append([]string{"--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}, args...)...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		ended <- runHub(ctx, &c, logger, func(spokesAddr, adminAddr net.Addr) {
			spokes, admin = c.scheme()+"://"+spokesAddr.String()+"/ws", "http://"+adminAddr.String()
			close(started)
		})
	}()
	select {
	case <-started:
	case err := <-ended:
		require.NoError(t, err)
	}
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		require.NoError(t, stop())
		http.DefaultClient.CloseIdleConnections()
	})
	return spokes, admin, stop
}

// lines is a writer that can be waited on for a number of lines.
type lines struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  bytes.Buffer
}

func newLines() *lines {
	l := &lines{}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.cond.Broadcast()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// connected waits until the hub has n spokes.
func connected(t *testing.T, admin string, n int) {
	t.Helper()
	for {
		resp, err := http.Get(admin + "/v1/spokes?limit=1")
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		if strings.Contains(string(body), fmt.Sprintf(`"total":%d`, n)) {
			return
		}
	}
}

func TestPublishReachesTail(t *testing.T) {
	spokes, admin, _ := startHub(t)
	out := newLines()
	tailed := make(chan error, 1)
	go func() { tailed <- runTail(t.Context(), spokes+"?topic=tick:*", "", nil, 4, false, out) }()
	connected(t, admin, 1)

	require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "tick:1", `{"price":7.0}`}))
	require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "tock:1"}))
	require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "tick"}))
	file := filepath.Join(t.TempDir(), "events")
	require.NoError(t, os.WriteFile(file, []byte("{\"type\":\"tick\",\"id\":\"2\"}\n\n{\"type\":\"tick\",\"payload\":[1, 2]}"), 0o600))
	require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "--file", file}))

	require.NoError(t, <-tailed)
	require.Equal(t, `{"type":"tick","id":"1","payload":{"price":7.0}}
{"type":"tick","id":"","payload":null}
{"type":"tick","id":"2","payload":null}
{"type":"tick","id":"","payload":[1, 2]}
`, out.String())
}

func TestPublishSaysWhatIsWrong(t *testing.T) {
	_, admin, _ := startHub(t, "--admin-token", "secret")
	file := filepath.Join(t.TempDir(), "events")
	require.NoError(t, os.WriteFile(file, []byte("{\"type\":\"tick\"}\n{\"type\":7}\n"), 0o600))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"tick:1", "seven"}, "a text needs its double quotes"},
		{[]string{"tick:1", "7", "8"}, `"8": not expected here`},
		{[]string{"--admin-token", "secret", "--file", file}, "line 2: bad envelope: at byte 8: type must be a string, not a number; events published before: 1, from there on: none"},
		{[]string{"--admin-token", "wrong", "tick:1"}, "the hub says 401 Unauthorized: this is not the admin token"},
		{[]string{"tick:1"}, "the hub says 401 Unauthorized: the admin token is needed"},
		{[]string{"--admin-token", "secret", "--spoke", "0123456789abcdef", "tick:1"}, "the hub says 404"},
		{[]string{"--file", "/nowhere/at/all"}, "no such file"},
		{[]string{"--admin", "localhost"}, "is not the address of a hub's admin side"},
		{[]string{"--admin", "off", "tick:1"}, "it is off"},
		{[]string{"--admin", "127.0.0.1:1", "tick:1"}, "nothing listens at http://127.0.0.1:1: is the hub running, and is this its --admin address?"},
	} {
		err := publish(t.Context(), append([]string{"--admin", admin, "--quiet"}, c.args...))
		require.Error(t, err)
		require.Contains(t, codec.Problem(err), c.want)
	}
}

func TestRelayPassesEventsToAllOtherSpokes(t *testing.T) {
	spokes, admin, _ := startHub(t, "--relay", "others")
	const n = 5
	var clients [n]*client.Client
	got := make(chan string, 100)
	for i := range n {
		c, err := client.Dial(t.Context(), spokes, client.Options{
			OnEvent: func(_ *client.Client, e codec.Envelope) { got <- fmt.Sprint(i, " ", e.Topic()) },
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close(codec.CloseNormal, "")) }()
		clients[i] = c
	}
	connected(t, admin, n)
	require.NoError(t, clients[2].Dispatch(codec.Envelope{Type: "hello", ID: "2"}))
	seen := map[string]bool{}
	for range n - 1 {
		seen[<-got] = true
	}
	require.Equal(t, map[string]bool{"0 hello:2": true, "1 hello:2": true, "3 hello:2": true, "4 hello:2": true}, seen)
	require.NoError(t, clients[0].Dispatch(codec.Envelope{Type: "hello", ID: "0"}))
	require.NotEqual(t, "2 hello:2", <-got, "a spoke got its own event back")
}

func TestDrainUnderLoadLosesNothingThatWasAccepted(t *testing.T) {
	spokes, admin, stop := startHub(t, "--drain-timeout", "10s")
	const n = 50
	type record struct{ events, drains int }
	var mu sync.Mutex
	records := make([]record, n)
	var closed sync.WaitGroup
	for i := range n {
		closed.Add(1)
		ended := sync.OnceFunc(closed.Done)
		c, err := client.Dial(t.Context(), spokes, client.Options{
			Logger: slog.New(slog.DiscardHandler),
			OnEvent: func(*client.Client, codec.Envelope) {
				mu.Lock()
				records[i].events++
				mu.Unlock()
			},
			OnDrain: func(*client.Client, codec.Drain) {
				mu.Lock()
				records[i].drains++
				mu.Unlock()
			},
			OnStatus: func(_ *client.Client, s client.Status) {
				if s.State != client.Connected {
					ended()
				}
			},
		})
		require.NoError(t, err)
		defer func() { _ = c.Close(codec.CloseNormal, "") }()
	}
	connected(t, admin, n)
	accepted := 0
	for range 20 {
		require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "tick", `"` + strings.Repeat("x", 1000) + `"`}))
		accepted++
	}
	require.NoError(t, stop())
	closed.Wait()
	mu.Lock()
	defer mu.Unlock()
	for i, r := range records {
		require.Equal(t, record{events: accepted, drains: 1}, r, "spoke %d", i)
	}
}

func TestOccupiedPortIsSaidWithItsFlag(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	taken := ln.Addr().String()
	for _, args := range [][]string{
		{"--listen", taken, "--admin", "off"}, {"--admin", taken, "--listen", "127.0.0.1:0"},
		{"--cluster-listen", taken, "--listen", "127.0.0.1:0", "--admin", "off", "--engine=embedded"},
	} {
		c, err := parseServe(t, args...)
		require.NoError(t, err)
		err = runHub(t.Context(), &c, slog.New(slog.DiscardHandler), nil)
		want := fmt.Sprintf("%s %s: bind: address already in use; ss -ltnp 'sport = :%d' shows by whom: stop that, or take another %s", args[0], taken, portOf(taken), args[0])
		if args[0] == "--listen" {
			want += "; hubs share an address if all have --reuse-port"
		}
		require.EqualError(t, err, want)
	}
	refused := &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}
	require.EqualError(t, explainListen("--admin", ":80", refused),
		"--admin :80: bind: permission denied; port 80 is for root and who has CAP_NET_BIND_SERVICE: take a --admin with a port of 1024 or more, or give the hub that capability")
}

func TestPollersHavePlacesBesideTheCores(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "2")
	(&config{pollers: 3}).placePollers()
	require.Equal(t, before, runtime.GOMAXPROCS(0), "somebody has said what it is to be")
	t.Setenv("GOMAXPROCS", "")
	(&config{pollers: 3}).placePollers()
	require.Equal(t, before+3, runtime.GOMAXPROCS(0))
}
