package loop

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// startHandler returns a server behind a net/http server, at /live.
func startHandler(t testing.TB, hc fanout.Config, lc Config, wrap func(http.Handler) http.Handler) (*Server, *fanout.Hub, *httptest.Server) {
	t.Helper()
	s, h := newServer(t, hc, lc)
	mux := http.NewServeMux()
	live := s.Handler()
	if wrap != nil {
		live = wrap(live)
	}
	mux.Handle("/live", live)
	mux.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("other")) })
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	return s, h, ts
}

func addressOf(ts *httptest.Server) string { return ts.Listener.Addr().String() }

func TestHandlerUpgradesAmongOtherRoutes(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	s, h, ts := startHandler(t, hc, Config{SendBufferBytes: 10_000}, nil)
	got := listen(t, h)
	c, resp, err := websocket.Dial(t.Context(), ts.URL+"/live?topic=tick:*", &websocket.DialOptions{Subprotocols: []string{Subprotocol}})
	require.NoError(t, err)
	defer c.CloseNow()
	require.Equal(t, Subprotocol, resp.Header.Get("Sec-WebSocket-Protocol"))
	require.Equal(t, codec.TypeWelcome, read(t, c).Type)
	dispatch(t, h, codec.Envelope{Type: "other"})
	dispatch(t, h, codec.Envelope{Type: "tick"})
	require.Equal(t, "tick:", read(t, c).Topic())
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"ask"}`)))
	require.Equal(t, "ask:", receive(t, got, "the event").Topic())
	spoke := receive(t, life.began, "the spoke connects")
	require.True(t, strings.HasPrefix(spoke.Remote(), "127.0.0.1:"), spoke.Remote())

	resp, err = ts.Client().Get(ts.URL + "/other")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, 1, s.Stats().Connections)
	require.NoError(t, c.Close(4000, "bye"))
	require.EqualValues(t, 4000, receive(t, life.ended, "the spoke is gone").Code)
}

func TestHandlerReadsWhatCameWithTheRequest(t *testing.T) {
	_, h, ts := startHandler(t, fanout.Config{}, Config{}, nil)
	got := listen(t, h)
	p := dialPeer(t, addressOf(ts), from{})
	second := message("ask", "2")
	p.write(append(append([]byte(request("/live")), message("ask", "1")...), second[:5]...))
	require.Equal(t, "ask:1", receive(t, got, "the event that came with the request").Topic())
	p.write(second[5:])
	require.Equal(t, "ask:2", receive(t, got, "the event of which half came with the request").Topic())
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
}

// The engine closes a socket that has hung up when its callback returns. While OnConnection runs, on
// the goroutine of the net/http server, nobody reads yet.
func TestHandlerLosesNothingOfAPeerThatHangsUpAtOnce(t *testing.T) {
	const total = 100
	began, ended := make(chan struct{}), make(chan struct{})
	counts := make(chan int, 1)
	n := 0
	s, h, ts := startHandler(t, fanout.Config{
		OnConnection:    func(*fanout.Spoke) { close(began); <-ended },
		OnDisconnection: func(*fanout.Spoke, fanout.Cause) { counts <- n },
	}, Config{}, nil)
	_, err := h.AddListener("*", func(*fanout.Spoke, codec.Envelope) { n++ })
	require.NoError(t, err)
	p := dialPeer(t, addressOf(ts), from{})
	p.write([]byte(request("/live")))
	p.upgraded()
	receive(t, began, "OnConnection runs")
	c := connOf(t, s, p)
	p.write(bytes.Repeat(message("ask", ""), total))
	_ = p.tcp.CloseWrite()
	await(t, func() bool { return hungUp(c.sock) }, "the hang-up has arrived")
	close(ended)
	require.Equal(t, total, receive(t, counts, "the spoke is gone"))
}

func TestHandlerRefusesAsTheServerDoes(t *testing.T) {
	for _, c := range []struct {
		name, request string
		status        int
		header        string
		why           RefusalReason
	}{
		{"no upgrade", request("/live", "Upgrade:"), 426, "Sec-Websocket-Version", RefusedBadRequest},
		{"other method", strings.Replace(request("/live"), "GET", "PUT", 1), 405, "Allow", RefusedBadRequest},
		{"old version", request("/live", "Sec-WebSocket-Version: 8"), 426, "Sec-Websocket-Version", RefusedBadRequest},
		{"two keys", also(request("/live"), "Sec-WebSocket-Key: "+sampleKey), 400, "", RefusedBadRequest},
		{"two hosts", also(request("/live"), "Host: a"), 400, "", numRefusalReasons}, // net/http does
		{"body", also(request("/live"), "Content-Length: 4") + "\x81\x80\x00\x00", 400, "", RefusedBadRequest},
		{"bad topic", request("/live?topic=tick"), 400, "", RefusedBadRequest},
		{"foreign origin", request("/live", "Origin: https://evil.example"), 403, "", RefusedOrigin},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, ts := startHandler(t, fanout.Config{}, Config{}, nil)
			p := dialPeer(t, addressOf(ts), from{})
			p.write([]byte(also(c.request, "Connection: close")))
			resp, err := http.ReadResponse(p.in, nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, c.status, resp.StatusCode)
			if c.header != "" {
				require.NotEmpty(t, resp.Header.Get(c.header))
			}
			for why, n := range s.Stats().Refused {
				require.Equal(t, why == c.why, n == 1, why)
			}
			require.Zero(t, s.Stats().Connections)
		})
	}
}

func TestHandlerTakesOverTCPOnly(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{})

	ts := httptest.NewTLSServer(s.Handler())
	defer ts.Close()
	_, resp, err := websocket.Dial(t.Context(), ts.URL, &websocket.DialOptions{HTTPClient: ts.Client()})
	require.Error(t, err)
	require.Equal(t, http.StatusNotImplemented, resp.StatusCode, "TLS")

	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": sampleKey,
	} {
		r.Header.Set(name, value)
	}
	s.Handler().ServeHTTP(w, r)
	require.Equal(t, http.StatusNotImplemented, w.Code, "no connection at all")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	wrapped := httptest.Server{Listener: wrappingListener{ln}, Config: &http.Server{Handler: s.Handler()}}
	wrapped.Start()
	defer wrapped.Close()
	p := dialPeer(t, ln.Addr().String(), from{})
	p.write([]byte(request("/")))
	resp, body := p.answer()
	require.Equal(t, http.StatusNotImplemented, resp.StatusCode, "a connection in a wrapper")
	require.Contains(t, body, "wrappedConn")

	require.EqualValues(t, 3, s.Stats().Refused[RefusedBadRequest])
	require.Zero(t, s.Stats().Connections)
}

type wrappingListener struct{ net.Listener }

type wrappedConn struct{ net.Conn }

func (l wrappingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return wrappedConn{c}, err
}

// dialMany dials so many times at once. It returns the connections, and how many got which status.
func dialMany(t *testing.T, url string, n int) (conns []*websocket.Conn, statuses map[int]int) {
	t.Helper()
	statuses = make(map[int]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c, resp, err := websocket.Dial(ctx, url, nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				conns = append(conns, c)
			}
			if resp != nil {
				statuses[resp.StatusCode]++
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.CloseNow()
		}
	})
	return conns, statuses
}

func TestHandlerKeepsTheLimitsWhenManyConnectAtOnce(t *testing.T) {
	s, _, ts := startHandler(t, fanout.Config{}, Config{MaxSpokes: 10}, nil)
	conns, statuses := dialMany(t, ts.URL+"/live", 50)
	require.Equal(t, map[int]int{101: 10, 503: 40}, statuses)
	require.Equal(t, 10, s.Stats().Connections)
	require.EqualValues(t, 40, s.Stats().Refused[RefusedFull])
	for _, c := range conns {
		require.Equal(t, codec.TypeWelcome, read(t, c).Type)
		require.NoError(t, c.Close(websocket.StatusNormalClosure, ""))
	}
	await(t, func() bool { return s.Stats().Connections == 0 }, "all have left")
	_, statuses = dialMany(t, ts.URL+"/live", 10)
	require.Equal(t, map[int]int{101: 10}, statuses)
}

func TestHandlerCountsPerAddressAsTheRequestHasIt(t *testing.T) {
	behindProxy := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = r.URL.Query().Get("ip")
			next.ServeHTTP(w, r)
		})
	}
	s, _, ts := startHandler(t, fanout.Config{}, Config{MaxSpokesPerIP: 5}, behindProxy)
	for _, ip := range []string{"192.0.2.1", "192.0.2.2:80", "[2001:db8::1]:80", "2001:db8:0:1::1"} {
		_, statuses := dialMany(t, ts.URL+"/live?ip="+ip, 7)
		require.Equal(t, map[int]int{101: 5, 503: 2}, statuses, ip)
	}
	_, statuses := dialMany(t, ts.URL+"/live?ip=2001:db8::2", 1)
	require.Equal(t, map[int]int{503: 1}, statuses, "of the same /64 as the third")
	_, statuses = dialMany(t, ts.URL+"/live?ip=nonsense", 7)
	require.Equal(t, map[int]int{101: 7}, statuses, "without an address nobody can be counted")
	require.Equal(t, 27, s.Stats().Connections)
}

func TestHandlerIsFreeOfTheDeadlinesOfItsServer(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{Ping: 30 * time.Millisecond})
	ts := httptest.NewUnstartedServer(s.Handler())
	ts.Config.ReadTimeout, ts.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	ts.Start()
	defer ts.Close()
	p := dialPeer(t, addressOf(ts), from{})
	p.write([]byte(request("/")))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	for range 5 {
		op, _ := p.next()
		require.Equal(t, ws.OpPing, op)
		p.write(whole(ws.OpPong, nil))
	}
}

// A peer that goes before it has its answer is no sign that descriptors run out.
func TestHandlerTellsAPeerThatIsGoneFromALackOfDescriptors(t *testing.T) {
	asked, gone, handled := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s, _, ts := startHandler(t, fanout.Config{}, Config{HandshakeTimeout: time.Minute, Authenticate: func(*http.Request) (fanout.Claims, error) {
		close(asked)
		<-gone
		return fanout.Claims{}, nil
	}}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(handled)
			next.ServeHTTP(w, r)
		})
	})
	p := dialPeer(t, addressOf(ts), from{})
	p.write([]byte(request("/live")))
	receive(t, asked, "it is asked about")
	p.vanish() // a reset, which the kernel delivers before it returns
	close(gone)
	receive(t, handled, "it has been handled")
	await(t, func() bool { return s.Stats().Connections == 0 }, "it is gone")
	require.Zero(t, s.Stats().Refused[RefusedDescriptors])
}

func TestHandlerIsClosedWithTheServer(t *testing.T) {
	s, h, ts := startHandler(t, fanout.Config{}, Config{}, nil)
	p := dialPeer(t, addressOf(ts), from{})
	p.write([]byte(request("/live")))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	require.Equal(t, codec.TypeDrain, p.event().Type)
	p.requireClose(codec.CloseGoingAway)
	p.write(closing(codec.CloseGoingAway, ""))
	p.requireEnd()
	require.NoError(t, receive(t, done, "Shutdown returns"))
	_, statuses := dialMany(t, ts.URL+"/live", 1)
	require.Equal(t, map[int]int{503: 1}, statuses)

	// A request that was past the refusals when the server ended.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	late := dialPeer(t, ln.Addr().String(), from{})
	accepted, err := ln.Accept()
	require.NoError(t, err)
	c, _ := s.enter(addrIn(""), false)
	require.ErrorIs(t, s.handOver(c, accepted.(*net.TCPConn), []byte("hello"), nil, nil), net.ErrClosed)
	rest, err := late.in.ReadString('x')
	require.Error(t, err)
	require.Equal(t, "hello", rest)
	require.Zero(t, s.Stats().Connections)
	require.EqualValues(t, 1, h.Stats().Opened)
}
