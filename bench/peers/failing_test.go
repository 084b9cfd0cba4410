package peers

import (
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/bench/peers/servers"
)

// failing are peers for TestTableShowsWhatFails.
var failing = []peer{
	broadcaster("absent", func() (servers.Server, error) { return servers.Server{}, errors.New("not today") }),
	broadcaster("cuts off", func() (servers.Server, error) { return cutsOffOnPublish() }),
	broadcaster("ends", func() (servers.Server, error) { return serveOnPublish(func([]*websocket.Conn) { os.Exit(0) }) }),
}

func cutsOffOnPublish() (servers.Server, error) {
	var lost atomic.Uint64
	s, err := serveOnPublish(func(clients []*websocket.Conn) {
		if lost.CompareAndSwap(0, 1) {
			_ = clients[0].Close()
		}
	})
	s.Lost = func() (messages, clients uint64) { return 5, lost.Load() }
	return s, err
}

// serveOnPublish is a server that calls fn for a message from the publisher, and sends nothing on.
func serveOnPublish(fn func(clients []*websocket.Conn)) (servers.Server, error) {
	var mu sync.Mutex
	var clients []*websocket.Conn
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return servers.Server{}, err
	}
	go func() { // until the process ends
		_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if r.URL.Path == servers.PathOfClients {
				clients = append(clients, c)
				_ = c.WriteMessage(websocket.TextMessage, []byte("{}"))
				return
			}
			if _, _, err := c.ReadMessage(); err == nil {
				fn(clients)
			}
		}))
	}()
	return servers.Server{Address: ln.Addr().String()}, nil
}

func TestTableShowsWhatFails(t *testing.T) {
	peers := slices.Concat(all[:1], failing, all[1:2])
	rows := measureAll(t, peers, 10, 1, time.Millisecond)
	r := newReport(time.Now(), rows)
	var b strings.Builder
	require.NoError(t, r.printTable(&b))
	table := b.String()

	require.Equal(t, []string{nameOfFloor, "absent", "cuts off", "ends", nameOfHub}, namesOf(r.Servers))
	for _, i := range []int{0, 4} {
		require.Empty(t, r.Servers[i].Failure)
		for _, f := range r.Servers[i].Windows {
			require.Positive(t, f.CPUNanos)
			require.Positive(t, f.TimesFloor)
		}
	}
	require.Regexp(t, `\| cuts off +\| - .* messages dropped: 5, clients cut off: 1 \|`, table)
	require.Regexp(t, `\| ends +\| - .* see below +\|`, table)
	require.Contains(t, table, "absent: round 1: ")
	require.Contains(t, table, "cuts off: round 1: ")
	require.Contains(t, table, "ends: round 1: ")
	require.Contains(t, table, r.Machine)
	require.Contains(t, table, "commit "+r.Commit)
	require.Contains(t, table, r.Command)
}

func namesOf(servers []result) (names []string) {
	for _, s := range servers {
		names = append(names, s.Server)
	}
	return names
}
