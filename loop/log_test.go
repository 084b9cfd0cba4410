package loop

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/synced"
)

// A browser tells neither its page nor its user why.
func TestAForeignOriginIsLoggedOnceInAWhileAndTheRestForDebugging(t *testing.T) {
	var log synced.Buffer
	_, _, address := startServer(t, fanout.Config{}, Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for _, origin := range []string{"https://a.example", "https://b.example"} {
		p := dialPeer(t, address, from{})
		p.write([]byte(request("/ws", "Origin: "+origin)))
		p.answer()
	}
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws")))
	p.upgraded()
	require.NoError(t, p.conn.Close())
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "a spoke has gone") }, 5*time.Second, time.Millisecond)
	got := log.String()
	require.Equal(t, 1, strings.Count(got, `level=WARN msg="loop: refused: the page's origin is not one of Config.Origins (hub serve --origins)" reason=origin status=403 peer=127.0.0.1:`), got)
	require.Equal(t, 1, strings.Count(got, `level=DEBUG msg="loop: refused" reason=origin status=403 peer=127.0.0.1:`), got)
	require.Regexp(t, `level=DEBUG msg="loop: a spoke has gone, gone by peer: 1006 [^"]*" spoke=[0-9a-f]+ peer=127.0.0.1:\d+`, got)
}
