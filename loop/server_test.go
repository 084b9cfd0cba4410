package loop

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/leak"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	leak.Main(m)
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// await waits until cond is true.
func await(t testing.TB, cond func() bool, what string, args ...any) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); !cond(); <-ticker.C {
		if time.Since(began) > patience {
			require.FailNow(t, "never: "+fmt.Sprintf(what, args...))
		}
	}
}

// receive returns what comes from the channel.
func receive[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		require.FailNow(t, "never: "+what)
	}
	return v
}

// newServer returns a server without a port, and its hub. Both end with the test, and must then hold
// nothing.
func newServer(t testing.TB, hc fanout.Config, lc Config) (*Server, *fanout.Hub) {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	if hc.Logger == nil {
		hc.Logger = quiet
	}
	if lc.Logger == nil {
		lc.Logger = quiet
	}
	if overTLS && lc.TLS == nil {
		lc.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS}}
	}
	h, err := fanout.New(hc)
	require.NoError(t, err)
	lc.Hub = h
	s, err := New(lc)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		requireEmpty(t, s, h)
		h.Close()
	})
	return s, h
}

// requireEmpty waits until nothing is left of any connection.
func requireEmpty(t testing.TB, s *Server, h *fanout.Hub) {
	t.Helper()
	await(t, func() bool { return s.Stats().Connections == 0 }, "the registry is empty")
	if h.Stats().Spokes > 0 {
		await(t, func() bool { return h.Stats().Spokes == 0 }, "the hub has no spokes")
	}
	h.Flush()
	st := h.Stats()
	require.Zero(t, st.QueuedSpokes, "spokes with an outbox")
	require.Zero(t, st.QueuedBytes, "queued")
	require.Zero(t, st.HeldBytes, "held")
	require.Zero(t, st.PendingBytes, "pending")
	require.Zero(t, st.InFlightBytes, "in flight")
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	require.Empty(t, s.conns.perIP)
}

// startServer returns a server on a loopback port, and its hub. Spokes may use as much of a core as they
// like, unless lc says otherwise: with the race detector a message takes ten times as long.
func startServer(t testing.TB, hc fanout.Config, lc Config) (*Server, *fanout.Hub, string) {
	t.Helper()
	def(&lc.SpokeCPU, -1)
	s, h := newServer(t, hc, lc)
	return s, h, serveOn(t, s)
}

// serveOn has s serve on a loopback port, and returns its address.
func serveOn(t testing.TB, s *Server) (address string) {
	t.Helper()
	ln, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() { // before that of newServer
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		require.NoError(t, receive(t, served, "Serve returns"))
	})
	return ln.Addr().String()
}

// lives are the connections and disconnections of a hub's spokes.
type lives struct {
	began chan *fanout.Spoke
	ended chan fanout.Cause
}

// watch makes the hub of hc tell of its spokes.
func watch(hc *fanout.Config) lives {
	l := lives{make(chan *fanout.Spoke, 10_000), make(chan fanout.Cause, 10_000)}
	hc.OnConnection = func(s *fanout.Spoke) { l.began <- s }
	hc.OnDisconnection = func(_ *fanout.Spoke, c fanout.Cause) { l.ended <- c }
	return l
}

// listen returns the events from all spokes, in order.
func listen(t testing.TB, h *fanout.Hub) <-chan codec.Envelope {
	t.Helper()
	got := make(chan codec.Envelope, 100_000)
	_, err := h.AddListener("*", func(_ *fanout.Spoke, e codec.Envelope) { got <- e })
	require.NoError(t, err)
	return got
}

func dispatch(t testing.TB, h *fanout.Hub, e codec.Envelope) {
	t.Helper()
	_, err := h.Dispatch(e)
	require.NoError(t, err)
}

// event returns an event with a payload of the given length.
func event(typ, id string, length int) codec.Envelope {
	return codec.Envelope{Type: typ, ID: id, Payload: fmt.Appendf(nil, `"%0*d"`, max(1, length-2), 0)}
}

func dial(t testing.TB, address string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+address+"/ws", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(1 << 20)
	return c
}

func read(t testing.TB, c *websocket.Conn) codec.Envelope {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := c.Read(ctx)
	require.NoError(t, err)
	e, err := codec.ParseEnvelope(b)
	require.NoError(t, err)
	return e
}

func TestEventsGoBothWays(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{})
	got := listen(t, h)
	c := dial(t, address)
	require.Equal(t, codec.TypeWelcome, read(t, c).Type)
	for i := range 100 {
		dispatch(t, h, codec.Envelope{Type: "tick", ID: fmt.Sprint(i)})
	}
	for i := range 100 {
		require.Equal(t, fmt.Sprint("tick:", i), read(t, c).Topic())
	}
	require.NoError(t, c.Write(context.Background(), websocket.MessageText, []byte(`{"type":"ask","id":"1","payload":[1]}`)))
	require.Equal(t, codec.Envelope{Type: "ask", ID: "1", Payload: []byte("[1]")}, receive(t, got, "the event arrives"))
	require.NoError(t, c.Close(websocket.StatusNormalClosure, "bye"))
}
