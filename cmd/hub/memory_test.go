package main

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
	"github.com/alkdev/hub/loop"
)

const mib = 1 << 20

func TestTheMemoryLimitComesFromTheFirstThatHasOne(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	container := memlimit.Limit(1000 * mib)
	none := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	broken := func() (uint64, error) { return 0, errors.New("no such file") }
	for _, c := range []struct {
		flag, runtime int64
		container     memlimit.Provider
		limit         int64
		from          string
	}{
		{memoryAuto, math.MaxInt64, container, 900 * mib, "the container"},
		{memoryAuto, 500 * mib, container, 500 * mib, "GOMEMLIMIT"},
		{200 * mib, 500 * mib, container, 200 * mib, "--memory-limit"},
		{memoryOff, math.MaxInt64, container, 0, "--memory-limit=off"},
		{memoryAuto, math.MaxInt64, none, 0, "none of the container"},
		{memoryAuto, math.MaxInt64, broken, 0, "none that can be read"},
	} {
		limit, from, err := memoryLimit(c.flag, c.runtime, c.container)
		require.Equal(t, c.limit, limit, "%+v", c)
		require.Equal(t, c.from, from)
		require.Equal(t, c.from == "none that can be read", err != nil)
	}
	t.Setenv("GOMEMLIMIT", "off")
	limit, from, err := memoryLimit(memoryAuto, math.MaxInt64, container)
	require.NoError(t, err)
	require.Zero(t, limit)
	require.Equal(t, "GOMEMLIMIT", from)
}

// stalledSink never gets rid of what is written.
type stalledSink struct{}

func (stalledSink) Write(b []byte) (int, error) { return len(b), nil }
func (stalledSink) Close(fanout.Cause)          {}
func (stalledSink) Remote() string              { return "192.0.2.1:1" }

func TestTheGuardShedsDownToWhatIsEasyAndEndsByItself(t *testing.T) {
	log := newLines()
	logger := slog.New(slog.NewTextHandler(log, nil))
	const configured = 200 * mib
	hub, err := fanout.New(fanout.Config{Policy: fanout.DropOldest, Limits: fanout.Limits{SpokeBytes: 64 * mib, TotalBytes: configured}, Logger: logger})
	require.NoError(t, err)
	defer hub.Close()
	server, err := loop.New(loop.Config{Hub: hub, Logger: logger})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Shutdown(t.Context())) }()
	spoke := hub.NewSpoke(stalledSink{})
	require.NoError(t, spoke.Attach())
	payload := []byte(`"` + strings.Repeat("x", mib) + `"`)
	for range 31 {
		_, err := hub.Dispatch(codec.Envelope{Type: "tick", Payload: payload})
		require.NoError(t, err)
		hub.Flush()
	}
	held := func() int64 { hub.Flush(); return hub.Stats().HeldBytes }
	require.Greater(t, held(), int64(30*mib))

	var reading memoryReading
	collected := 0
	g := newMemoryGuard(100*mib, hub, server, logger)
	g.read = func() memoryReading { return reading }
	g.collect = func() { collected++ }
	now := time.Now()
	look := func(used int64, cycles uint64) {
		t.Helper()
		reading = memoryReading{used * mib, cycles}
		now = now.Add(memoryInterval)
		g.look(now)
	}

	look(79, 1)
	require.True(t, server.Ready())
	look(85, 2)
	require.False(t, server.Ready())
	require.LessOrEqual(t, held(), int64(12*mib)) // 20 MiB less
	require.Greater(t, held(), int64(4*mib))
	require.NotZero(t, hub.Stats().Dropped[fanout.OverTotalBytes])
	before := hub.Stats().TotalBytes
	look(85, 2) // what was shed has not been counted yet
	require.Equal(t, before, hub.Stats().TotalBytes)
	look(84, 3)
	require.EqualValues(t, leastTotal, hub.Stats().TotalBytes)
	require.LessOrEqual(t, held(), int64(leastTotal))
	for range 10 {
		look(70, 4) // neither short nor easy
	}
	require.False(t, server.Ready())
	require.Zero(t, collected)
	now = now.Add(collectEvery)
	look(70, 4)
	look(70, 5)
	require.Equal(t, 1, collected)
	look(64, 6)
	require.True(t, server.Ready())
	require.EqualValues(t, configured, hub.Stats().TotalBytes)
	require.False(t, g.stats().Tight)
	look(79, 7)
	require.True(t, server.Ready())
	look(81, 8)
	require.False(t, server.Ready())
	require.EqualValues(t, 2, g.stats().Times)
	require.Equal(t, 2, strings.Count(log.String(), "memory is short"))
	require.Equal(t, 1, strings.Count(log.String(), "no longer short"))
}

// Spokes stall on far more than there is memory for.
func TestAHubShortOfMemoryStaysAlive(t *testing.T) {
	const limit = 48 * mib
	t.Setenv("GOMEMLIMIT", fmt.Sprint(limit))
	address, admin := freeAddress(t), freeAddress(t)
	cmd := startProcess(t, "--listen="+address, "--admin="+admin, "--spoke-buffer=8MiB", "--spoke-lag=0", "--slow=drop-oldest", "--total-buffer=1GiB", "--sndbuf=64KiB")
	require.EqualValues(t, limit, metric(t, admin, "hub_memory_limit_bytes"))
	const spokes = 20
	var stalled []net.Conn
	for i := range spokes {
		c, status := dialSpoke(t, address, fmt.Sprintf("/ws?topic=tick:%d", i))
		require.Equal(t, http.StatusSwitchingProtocols, status)
		stalled = append(stalled, c)
	}
	payload := `"` + strings.Repeat("x", 1<<20) + `"`
	peak, refused := 0.0, false
	for round := 0; round < 5 || !refused; round++ { // 100 MiB
		require.Less(t, round, 50)
		for i := range spokes {
			body := fmt.Sprintf(`{"type":"tick","id":"%d","payload":%s}`, i, payload)
			resp, err := http.Post("http://"+admin+"/v1/events", "application/json", strings.NewReader(body))
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, resp.StatusCode)
			c, status := dialSpoke(t, address, "/ws?topic=none:0")
			require.NoError(t, c.Close())
			refused = refused || status == http.StatusServiceUnavailable // memory is short now and then
		}
		peak = max(peak, metric(t, admin, "go_memstats_sys_bytes")-metric(t, admin, "go_memstats_heap_released_bytes"))
	}
	t.Logf("the runtime's memory %.1f MiB at most, resident %.1f MiB, limit %d MiB", peak/mib, float64(fleet.ResidentBytes(cmd.Process.Pid))/mib, limit/mib)
	require.NotZero(t, metric(t, admin, "hub_memory_short_total"))
	require.NotZero(t, metric(t, admin, `hub_dropped_frames_total{reason="total_buffer"}`))
	require.NotZero(t, metric(t, admin, `hub_refused_connections_total{reason="memory"}`))
	require.Less(t, peak, 1.1*limit) // it may be passed for a moment, until the collector is through
	for _, c := range stalled {
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool {
		c, status := dialSpoke(t, address, "/ws")
		require.NoError(t, c.Close())
		return status == http.StatusSwitchingProtocols && metric(t, admin, "hub_memory_short") == 0
	}, time.Minute, 50*time.Millisecond)
	http.DefaultClient.CloseIdleConnections()
}

// dialSpoke connects and returns the status of the answer.
func dialSpoke(t *testing.T, address, path string) (net.Conn, int) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(8<<10))
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: hub.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path)
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	require.NoError(t, err)
	if resp.StatusCode == http.StatusServiceUnavailable {
		require.NotEmpty(t, resp.Header.Get("Retry-After"))
	}
	return c, resp.StatusCode
}
