package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// manager is systemd's end of the notification socket.
func manager(t *testing.T) (next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		buf := make([]byte, 1<<10)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		n, err := conn.Read(buf)
		require.NoError(t, err)
		state, _, _ := strings.Cut(string(buf[:n]), "\n")
		return state
	}
}

func TestSystemdIsToldWhenTheHubServesAndWhenItStops(t *testing.T) {
	next := manager(t)
	spokes, _, stop := startHub(t)
	require.Equal(t, "READY=1", next())
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(spokes, "ws://"), "/ws"))
	require.NoError(t, err, "ready means that the port is open")
	require.NoError(t, conn.Close())
	require.NoError(t, stop())
	require.Equal(t, "STOPPING=1", next())
}

func TestTheWatchdogIsFedForAsLongAsTheHubRuns(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt((20*time.Millisecond).Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	_, _, stop := startHub(t)
	require.Equal(t, "READY=1", next())
	for range 5 {
		require.Equal(t, "WATCHDOG=1", next())
	}
	require.NoError(t, stop())
}

func TestTheWatchdogIsNotFedWithoutOne(t *testing.T) {
	next := manager(t)
	_, _, stop := startHub(t)
	require.Equal(t, "READY=1", next())
	require.NoError(t, stop())
	require.Equal(t, "STOPPING=1", next())
}
