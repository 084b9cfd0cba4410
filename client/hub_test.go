package client

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/alkdev/hub/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is scripted: it hands every connection to the test, or refuses it.
type hub struct {
	t      *testing.T
	url    string
	client *http.Client // nil: the client's own
	conns  chan *spoke
	dials  atomic.Int64
	mute   atomic.Bool // pings go unanswered

	mu     sync.Mutex
	refuse http.HandlerFunc // answers instead of a handshake; nil to take connections
}

// newHub listens on loopback.
func newHub(t *testing.T) *hub {
	h := &hub{t: t, conns: make(chan *spoke, 100)}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	h.url = "ws" + strings.TrimPrefix(server.URL, "http")
	return h
}

// newPipeHub needs no network, for a bubble of testing/synctest. Its connections hold no bytes: a write
// waits for its reader.
func newPipeHub(t *testing.T) *hub {
	h := &hub{t: t, url: "ws://hub.test/ws", conns: make(chan *spoke, 100)}
	l := &pipeListener{conns: make(chan net.Conn), closedc: make(chan struct{})}
	server := &http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	h.client = &http.Client{Transport: &http.Transport{DialContext: l.dial, DisableKeepAlives: true}}
	return h
}

type pipeListener struct {
	conns   chan net.Conn
	closedc chan struct{}
	once    sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closedc:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closedc:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closedc) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.dials.Add(1)
	h.mu.Lock()
	refuse := h.refuse
	h.mu.Unlock()
	if refuse != nil {
		refuse(w, r)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		OnPingReceived: func(context.Context, []byte) bool { return !h.mute.Load() },
	})
	if err != nil {
		h.t.Errorf("handshake: %v", err)
		return
	}
	h.conns <- &spoke{h.t, ws, r}
}

// refuseWith answers every handshake from now on with a status; 0 takes connections again.
func (h *hub) refuseWith(status int, header ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if status == 0 {
		h.refuse = nil
		return
	}
	h.refuse = func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		http.Error(w, "not now", status)
	}
}

// dial returns a client and the hub's side of its first connection. Both are closed with the test.
func (h *hub) dial(opts Options) (*Client, *spoke) {
	h.t.Helper()
	c, err := Dial(h.t.Context(), h.url, h.options(opts))
	require.NoError(h.t, err)
	s := h.accept()
	h.t.Cleanup(func() {
		s.ws.CloseNow()
		c.stop(codec.CloseNoStatus, "", ErrClosed)
		<-c.Done()
	})
	return c, s
}

func (h *hub) options(opts Options) Options {
	opts.HTTPClient = h.client
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return opts
}

// accept returns the next connection.
func (h *hub) accept() *spoke {
	h.t.Helper()
	s := receive(h.t, h.conns)
	h.t.Cleanup(func() { s.ws.CloseNow() })
	return s
}

// spoke is the hub's side of a connection.
type spoke struct {
	t  *testing.T
	ws *websocket.Conn
	r  *http.Request
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// next returns the next message, or the error that ended the connection.
func (s *spoke) next() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, message, err := s.ws.Read(ctx)
	return string(message), err
}

// expect requires the next messages to be these.
func (s *spoke) expect(messages ...string) {
	s.t.Helper()
	for _, want := range messages {
		got, err := s.next()
		require.NoError(s.t, err)
		require.Equal(s.t, want, got)
	}
}

// expectClose requires the next thing to be a close frame.
func (s *spoke) expectClose(code codec.CloseCode, reason string) {
	s.t.Helper()
	message, err := s.next()
	require.Error(s.t, err, "message %s", message)
	closed := websocket.CloseError{}
	require.ErrorAs(s.t, err, &closed)
	require.Equal(s.t, websocket.CloseError{Code: websocket.StatusCode(code), Reason: reason}, closed)
}

// drainUntilClosed reads and forgets everything, so that pings and close frames are answered.
func (s *spoke) drainUntilClosed() {
	for {
		_, r, err := s.ws.Reader(context.Background())
		if err != nil {
			return
		}
		io.Copy(io.Discard, r)
	}
}

func (s *spoke) send(messages ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, message := range messages {
		require.NoError(s.t, s.ws.Write(ctx, websocket.MessageText, []byte(message)))
	}
}

// receive waits for a value.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	return receiveWithin(t, patience, c)
}

// receiveWithin is for fake time, in which what must happen may take long.
func receiveWithin[T any](t *testing.T, d time.Duration, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(d):
		require.FailNow(t, "nothing came")
	}
	return v
}

// statuses returns a channel of everything that OnStatus is told, and sets it in opts.
func statuses(opts *Options) <-chan Status {
	c := make(chan Status, 1000)
	opts.OnStatus = func(_ *Client, s Status) { c <- s }
	return c
}

func event(typ, id, payload string) codec.Envelope {
	return codec.Envelope{Type: typ, ID: id, Payload: []byte(payload)}
}

func wire(typ, id, payload string) string {
	b, err := codec.AppendEnvelope(nil, event(typ, id, payload))
	if err != nil {
		panic(err)
	}
	return string(b)
}
