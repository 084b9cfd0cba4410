package loadgen

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/admin"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/leak"
	"github.com/alkdev/hub/loop"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for what must happen, on a machine that does other things too.
const patience = 30 * time.Second

// startHub runs a hub until the test ends, and returns what to say to connect to it. With relay, what
// spokes publish goes to all others.
func startHub(t *testing.T, hc fanout.Config, lc loop.Config, relay bool) (*fanout.Hub, Config) {
	t.Helper()
	hc.Logger = slog.New(slog.DiscardHandler)
	hub, err := fanout.New(hc)
	require.NoError(t, err)
	if relay {
		_, err := hub.AddListener("*", func(s *fanout.Spoke, e codec.Envelope) { _, _ = hub.DispatchExcept(s, e) })
		require.NoError(t, err)
	}
	lc.Hub, lc.Logger = hub, hc.Logger
	server, err := loop.New(lc)
	require.NoError(t, err)
	ln, err := loop.Listen("127.0.0.1:0")
	require.NoError(t, err)
	operator, err := admin.New(admin.Config{Hub: hub, Logger: hc.Logger})
	require.NoError(t, err)
	adminLn, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 2)
	go func() { served <- server.Serve(ln) }()
	go func() { served <- operator.Serve(adminLn) }()
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		_ = server.Shutdown(now)
		_ = operator.Shutdown(now)
		require.NoError(t, <-served)
		require.NoError(t, <-served)
		hub.Close()
	})
	return hub, Config{
		URL: "ws://" + ln.Addr().String() + "/ws", Admin: "http://" + adminLn.Addr().String(),
		PayloadBytes: 128, Duration: 300 * time.Millisecond, Patience: patience, HandshakeTimeout: patience,
	}
}

// perform runs to the end.
func perform(t *testing.T, c Config) *Report {
	t.Helper()
	report, err := Run(t.Context(), c, nil)
	require.NoError(t, err)
	return report
}
