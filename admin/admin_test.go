package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

// fixture is a hub and its operator's side at a loopback address.
type fixture struct {
	hub    *fanout.Hub
	server *Server
	ln     net.Listener
	url    string
	client *http.Client
}

// start serves until the end of the test. prepare may change the server before.
func start(t testing.TB, hc fanout.Config, c Config, prepare ...func(*Server)) *fixture {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	hc.Logger = quiet
	hub, err := fanout.New(hc)
	require.NoError(t, err)
	t.Cleanup(hub.Close)
	c.Hub = hub
	if c.Logger == nil {
		c.Logger = quiet
	}
	s, err := New(c)
	require.NoError(t, err)
	for _, fn := range prepare {
		fn(s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(smallBuffers{ln}) }()
	f := &fixture{
		hub: hub, server: s, ln: ln, url: "http://" + ln.Addr().String(),
		client: &http.Client{Transport: &http.Transport{}, Timeout: patience},
	}
	t.Cleanup(func() {
		f.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
		require.NoError(t, <-served)
	})
	return f
}

// smallBuffers is a listener whose connections fill up soon.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request. header holds names and values in turn.
func (f *fixture) do(t testing.TB, method, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, f.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := f.client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return reply{resp.StatusCode, resp.Header, string(b)}
}

func (f *fixture) get(t testing.TB, path string, header ...string) reply {
	t.Helper()
	return f.do(t, http.MethodGet, path, "", header...)
}

// wrong is the body of an error.
type wrong struct {
	Error struct {
		Code    string
		Message string
		Index   *int
	}
}

func (r reply) wrong(t testing.TB) wrong {
	t.Helper()
	require.Equal(t, "application/json", r.header.Get("Content-Type"))
	var e wrong
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&e), r.body)
	require.NotEmpty(t, e.Error.Code)
	require.NotEmpty(t, e.Error.Message)
	return e
}

// scriptSink is a spoke's connection that takes everything, keeps everything, or blocks.
type scriptSink struct {
	gate   chan struct{} // if not nil, Write waits until it is closed
	keep   bool          // what is written stays in flight for ever
	spoke  *fanout.Spoke
	closed chan closing // 1 deep

	mu    sync.Mutex
	taken bytes.Buffer
}

func (k *scriptSink) Write(b []byte) (kept int, err error) {
	if k.gate != nil {
		<-k.gate
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.taken.Write(b)
	if k.keep {
		return len(b), nil
	}
	return 0, nil
}

func (k *scriptSink) Close(cause fanout.Cause) {
	select {
	case k.closed <- closing{k.spoke.ID(), cause.Code, cause.Reason}:
	default:
	}
}

func (k *scriptSink) Remote() string { return "192.0.2.1:1234" }

// connect attaches a spoke to the hub.
func (f *fixture) connect(t testing.TB, k *scriptSink, topics ...string) *fanout.Spoke {
	t.Helper()
	var patterns []codec.Pattern
	for _, topic := range topics {
		p, err := codec.ParsePattern(topic)
		require.NoError(t, err)
		patterns = append(patterns, p)
	}
	k.closed = make(chan closing, 1)
	k.spoke = f.hub.NewSpoke(k)
	require.NoError(t, k.spoke.Attach(patterns...))
	return k.spoke
}

// events returns the envelopes that the spoke got, after its __welcome, as they were on the wire.
func (f *fixture) events(k *scriptSink) (got []string) {
	f.hub.Flush()
	k.mu.Lock()
	defer k.mu.Unlock()
	codec.EachMessage(k.taken.Bytes(), func(payload []byte) { got = append(got, string(payload)) })
	return got[1:]
}

// wire is an event as a spoke gets it.
func wire(typ, id, payload string) string {
	return `{"type":"` + typ + `","id":"` + id + `","payload":` + payload + `}`
}
