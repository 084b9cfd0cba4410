package loop

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// startGroup starts servers that share a port, and returns the listener of each.
func startGroup(t *testing.T, address string, n int) ([]*Server, []*listener) {
	t.Helper()
	servers, listeners := make([]*Server, n), make([]*listener, n)
	for i := range servers {
		ln, err := ListenShared(address)
		require.NoError(t, err)
		address = ln.Addr().String()
		s, _ := newServer(t, fanout.Config{}, Config{DrainTimeout: 4 * time.Second})
		servers[i] = s
		go func() { _ = s.Serve(ln) }() // ends with Shutdown
		await(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.listeners) == 1 {
				listeners[i] = s.listeners[0]
			}
			return listeners[i] != nil && listeners[i].accepting.Load()
		}, "serving")
	}
	return servers, listeners
}

func TestEachListenerOfAPortFindsItsPlace(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", ":0", "[::1]:0"} {
		_, listeners := startGroup(t, address, 4)
		for i, l := range listeners {
			require.True(t, l.shared)
			require.Equal(t, 3, l.others(), address)
			place, err := l.place()
			require.NoError(t, err)
			require.Equal(t, i, place, "%s: the kernel numbers them as they come", address)
		}
	}
}

func TestWhoLeavesAPortIsChosenNoMore(t *testing.T) {
	servers, listeners := startGroup(t, "127.0.0.1:0", 3)
	address := listeners[0].tcp.Addr().String()
	arrivals := func(n int) (at [3]int) {
		t.Helper()
		for range n {
			conn, err := net.Dial("tcp", address)
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
			defer conn.Close()
		}
		await(t, func() bool {
			sum := 0
			for i, s := range servers {
				at[i] = s.Stats().Connections
				sum += at[i]
			}
			return sum == n
		}, "%d connections", n)
		return at
	}
	require.NoError(t, listeners[1].steerAway())
	at := arrivals(60)
	require.Zero(t, at[1], at)
	require.Positive(t, at[0], at)
	require.Positive(t, at[2], at)
}

func TestSpokesThatCameBeforeAreDrainedWhenThePortIsLeft(t *testing.T) {
	servers, listeners := startGroup(t, "127.0.0.1:0", 1)
	address := listeners[0].tcp.Addr().String()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+address+"/ws", nil)
	require.NoError(t, err)
	defer func() { _ = conn.CloseNow() }()
	next, _ := startGroup(t, address, 1)
	closed := make(chan websocket.StatusCode, 1)
	go func() { // ends with the connection
		for {
			if _, _, err := conn.Read(context.Background()); err != nil {
				closed <- websocket.CloseStatus(err)
				return
			}
		}
	}()
	require.True(t, servers[0].Ready())
	require.NoError(t, servers[0].Shutdown(t.Context()))
	require.Equal(t, websocket.StatusGoingAway, receive(t, closed, "the close frame"))
	require.False(t, servers[0].Ready())

	again, _, err := websocket.Dial(t.Context(), "ws://"+address+"/ws", nil)
	require.NoError(t, err)
	defer func() { _ = again.CloseNow() }()
	require.Equal(t, 1, next[0].Stats().Connections)
}

func TestWhoHasAPortAloneDoesNotWaitForOthers(t *testing.T) {
	servers, listeners := startGroup(t, "127.0.0.1:0", 1)
	require.Zero(t, listeners[0].others())
	began := time.Now()
	require.NoError(t, servers[0].Shutdown(t.Context()))
	require.Less(t, time.Since(began), lingering)
}

func TestAPortThatIsNotSharedIsNotOpenToOthers(t *testing.T) {
	ln, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, err = ListenShared(ln.Addr().String())
	require.Error(t, err)
}
