package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// byName lets in who gives a name in the query, to receive and send topics of that type.
func byName(r *http.Request) (fanout.Claims, error) {
	name := r.URL.Query().Get("name")
	switch name {
	case "":
		return fanout.Claims{}, errors.New("loop_test: who are you")
	case "later":
		return fanout.Claims{}, fmt.Errorf("no idea: %w", fanout.ErrAuthUnavailable)
	case "panic":
		panic("a bug")
	}
	p, err := codec.ParsePattern(name + ":")
	return fanout.Claims{Subject: name, Topics: []codec.Pattern{p}, Publish: []codec.Pattern{p}}, err
}

// bothWays runs a test against a server of its own port and one behind net/http.
func bothWays(t *testing.T, hc fanout.Config, lc Config, test func(t *testing.T, s *Server, h *fanout.Hub, address, path string)) {
	t.Run("Serve", func(t *testing.T) {
		s, h, address := startServer(t, hc, lc)
		test(t, s, h, address, "/ws")
	})
	t.Run("Handler", func(t *testing.T) {
		s, h, ts := startHandler(t, hc, lc, nil)
		test(t, s, h, addressOf(ts), "/live")
	})
}

func TestWhoIsNotKnownDoesNotBecomeASpoke(t *testing.T) {
	bothWays(t, fanout.Config{}, Config{Authenticate: byName}, func(t *testing.T, s *Server, h *fanout.Hub, address, path string) {
		for _, test := range []struct {
			query  string
			status int
			body   string
			why    RefusalReason
		}{
			{"", 401, "who are you", RefusedUnauthenticated},
			{"?topic=tick:1", 401, "who are you", RefusedUnauthenticated},
			{"?name=later", 503, "not possible at the moment", RefusedAuth},
			{"?name=panic", 500, "internal error", RefusedAuth},
			{"?name=tick&topic=tick:1&topic=order:1", 403, "order:1 is beyond", RefusedForbidden},
			{"?name=tick&topic=*", 403, "* is beyond", RefusedForbidden},
			{"?name=tick&topic=tick", 400, "has no ':'", RefusedBadRequest},
		} {
			p := dialPeer(t, address, from{})
			p.write([]byte(request(path + test.query)))
			resp, err := http.ReadResponse(p.in, nil)
			require.NoError(t, err)
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			_ = p.tcp.Close()
			body := string(b)
			require.Equal(t, test.status, resp.StatusCode, test.query)
			require.Contains(t, body, test.body, test.query)
			require.NotZero(t, s.Stats().Refused[test.why], test.query)
			if test.status == 401 {
				require.Equal(t, `Bearer realm="hub"`, resp.Header.Get("WWW-Authenticate"))
			}
			if test.status == 503 {
				require.NotEmpty(t, resp.Header.Get("Retry-After"))
			}
		}
		require.Zero(t, h.Stats().Opened)
		await(t, func() bool { return s.Stats().Connections == 0 }, "all of them have gone")
	})
}

func TestASpokeIsHeldToItsClaims(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	bothWays(t, hc, Config{Authenticate: byName}, func(t *testing.T, _ *Server, h *fanout.Hub, address, path string) {
		got := listen(t, h)
		c, _, err := websocket.Dial(t.Context(), "ws://"+address+path+"?name=tick", nil)
		require.NoError(t, err)
		defer c.CloseNow()
		require.Equal(t, codec.TypeWelcome, read(t, c).Type)
		require.Equal(t, "tick", receive(t, life.began, "the spoke connects").Subject())
		dispatch(t, h, codec.Envelope{Type: "order"})
		dispatch(t, h, codec.Envelope{Type: "tick"})
		require.Equal(t, "tick:", read(t, c).Topic())
		for _, e := range []string{`{"type":"order","id":"1"}`, `{"type":"__subscribe","id":"*"}`, `{"type":"tick","id":"1"}`} {
			require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(e)))
		}
		require.Equal(t, "tick:1", receive(t, got, "the event").Topic())
		require.Equal(t, "__error:1", read(t, c).Topic())
		require.Equal(t, "__error:*", read(t, c).Topic())
	})
}

func TestWhatComesWhileTheAnswerIsFoundIsKept(t *testing.T) {
	asked, answer := make(chan *http.Request, 1), make(chan struct{})
	s, h, address := startServer(t, fanout.Config{}, Config{Authenticate: func(r *http.Request) (fanout.Claims, error) {
		asked <- r
		return fanout.Claims{Publish: []codec.Pattern{codec.Everything}}, held(r, answer)
	}})
	got := listen(t, h)
	p := dialPeer(t, address, from{})
	first, second := message("ask", "1"), message("ask", "2")
	p.write(append([]byte(request("/ws")), first[:3]...))
	r := receive(t, asked, "the question")
	require.Equal(t, p.tcp.LocalAddr().String(), r.RemoteAddr)
	_, bounded := r.Context().Deadline()
	require.True(t, bounded)
	c := connOf(t, s, p)
	p.write(first[3:])
	p.write(second)
	await(t, func() bool { return kept(c) == len(first)+len(second) }, "it has come")
	close(answer)
	require.Equal(t, "ask:1", receive(t, got, "the first event").Topic())
	require.Equal(t, "ask:2", receive(t, got, "the second event").Topic())
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
}

// kept is how many bytes wait for an answer.
func kept(c *conn) int {
	if !c.beginRead() {
		return -1
	}
	defer c.server.adopting.over()
	defer c.endRead()
	if c.head == nil {
		return 0
	}
	return c.head.Len()
}

// Who asks for a body gets none: what a request announces has not been read, and is no part of a handshake.
func TestWhoAuthenticatesSeesNoBody(t *testing.T) {
	type result struct {
		body string
		err  error
	}
	read := make(chan result, 1)
	_, _, address := startServer(t, fanout.Config{}, Config{Authenticate: func(r *http.Request) (fanout.Claims, error) {
		body, err := io.ReadAll(r.Body)
		read <- result{string(body), err}
		return fanout.Claims{}, err
	}})
	for _, method := range []string{"GET", "POST"} {
		p := dialPeer(t, address, from{})
		p.write([]byte(strings.Replace(also(request("/ws"), "Content-Length: 5"), "GET", method, 1) + "12345"))
		require.Equal(t, result{}, receive(t, read, "it has been asked"))
		resp, _ := p.answer()
		require.GreaterOrEqual(t, resp.StatusCode, 400)
	}
}

func TestTooMuchBeforeTheAnswerIsRefused(t *testing.T) {
	answer, asked := make(chan struct{}), make(chan struct{}, 1)
	s, _, address := startServer(t, fanout.Config{}, Config{Authenticate: func(r *http.Request) (fanout.Claims, error) {
		asked <- struct{}{}
		return fanout.Claims{}, held(r, answer)
	}})
	much := make([]byte, maxHeadBytes+1)
	for _, together := range []bool{false, true} {
		p := dialPeer(t, address, from{})
		if together {
			p.write(append([]byte(request("/ws")), much...))
		} else {
			p.write([]byte(request("/ws")))
			receive(t, asked, "the question")
			p.write(much)
		}
		resp, body := p.answer()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Contains(t, body, "too much")
	}
	close(answer)
	await(t, func() bool { return s.askers.count.Load() == 0 }, "the question is over")
	require.EqualValues(t, 2, s.Stats().Refused[RefusedBadRequest])
}

// held waits for answer, like who looks something up.
func held(r *http.Request, answer <-chan struct{}) error {
	select {
	case <-answer:
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

func TestAnAnswerThatTakesTooLongIsNotWaitedFor(t *testing.T) {
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	defer release()
	s, h, address := startServer(t, fanout.Config{}, Config{HandshakeTimeout: 50 * time.Millisecond, Authenticate: func(r *http.Request) (fanout.Claims, error) {
		<-r.Context().Done()
		<-answer // of one that does not look at its context
		return fanout.Claims{}, nil
	}})
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws")))
	p.requireEnd()
	await(t, func() bool { return s.Stats().Connections == 0 }, "the connection is gone")
	require.EqualValues(t, 1, s.Stats().Refused[RefusedTimeout])
	release()
	await(t, func() bool { return s.askers.count.Load() == 0 }, "the question is over")
	require.Zero(t, h.Stats().Opened)
}

func TestShutdownEndsTheQuestions(t *testing.T) {
	asked := make(chan struct{}, 1)
	s, _, address := startServer(t, fanout.Config{}, Config{Authenticate: func(r *http.Request) (fanout.Claims, error) {
		asked <- struct{}{}
		<-r.Context().Done()
		return fanout.Claims{}, errors.New("too late")
	}})
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws")))
	receive(t, asked, "the question")
	now, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Shutdown(now)
	await(t, func() bool { return s.askers.count.Load() == 0 }, "all questions are over")
}

func TestOnlySoManyAreAskedAtATime(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{Authenticate: byName})
	s.askers.count.Add(maxAskers)
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws?name=tick")))
	resp, _ := p.answer()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.NotEmpty(t, resp.Header.Get("Retry-After"))
	s.askers.count.Add(-maxAskers)
	connectTo(t, address, "/ws?name=tick")
}

// connectTo returns a peer that is a spoke and has had its __welcome.
func connectTo(t testing.TB, address, target string) *peer {
	t.Helper()
	p := dialPeer(t, address, from{})
	p.write([]byte(request(target)))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	return p
}

func TestASpokeIsClosedWhenItsTimeIsUp(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	// One token is good for a moment, the other for as long as the test takes.
	claims := func(token string) (fanout.Claims, error) {
		switch token {
		case "short":
			return fanout.Claims{Expires: time.Now().Add(200 * time.Millisecond)}, nil
		case "long":
			return fanout.Claims{Expires: time.Now().Add(time.Hour)}, nil
		}
		return fanout.Claims{}, errors.New("no such token")
	}
	hc.Renew = claims
	_, h, address := startServer(t, hc, Config{Authenticate: func(*http.Request) (fanout.Claims, error) { return claims("short") }})
	began := time.Now()
	renewed, left := connectTo(t, address, "/ws"), connectTo(t, address, "/ws")
	renewed.write(text(`{"type":"__auth","id":"7","payload":{"token":"none"}}`))
	renewed.write(text(`{"type":"__auth","id":"8","payload":{"token":"long"}}`))
	require.Equal(t, "__error:7", renewed.event().Topic())
	require.Equal(t, "__authed:8", renewed.event().Topic())
	require.Equal(t, "the token has expired", left.requireClose(codec.CloseUnauthenticated))
	require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)
	cause := receive(t, life.ended, "the spoke is gone")
	require.Equal(t, fanout.KindBadToken, cause.Kind)
	dispatch(t, h, codec.Envelope{Type: "tick"})
	require.Equal(t, 1, h.Stats().Spokes)
}

// A peer that goes while the question is asked leaves nothing behind.
func TestPeersThatGoWhileTheyAreAskedAbout(t *testing.T) {
	answer := make(chan struct{})
	s, h, address := startServer(t, fanout.Config{}, Config{Authenticate: func(r *http.Request) (fanout.Claims, error) {
		return fanout.Claims{}, held(r, answer)
	}})
	for range 50 {
		p := dialPeer(t, address, from{})
		p.write([]byte(request("/ws")))
		_ = p.tcp.SetLinger(0)
		await(t, func() bool { return s.askers.count.Load() > 0 }, "the question")
		_ = p.tcp.Close()
	}
	close(answer)
	await(t, func() bool {
		return s.askers.count.Load() == 0 && s.Stats().Connections == 0 && h.Stats().Spokes == 0
	}, "all is over")
}

func TestManyConnectAtOnceWithQuestions(t *testing.T) {
	s, h, address := startServer(t, fanout.Config{}, Config{Authenticate: byName})
	const n = 200
	done := make(chan struct{}, n)
	for range n {
		go func() {
			defer func() { done <- struct{}{} }()
			c, _, err := websocket.Dial(t.Context(), "ws://"+address+"/ws?name=tick", nil)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.CloseNow() })
			if _, b, err := c.Read(t.Context()); err != nil || !strings.Contains(string(b), codec.TypeWelcome) {
				t.Error(string(b), err)
			}
		}()
	}
	for range n {
		receive(t, done, "a connection")
	}
	require.Equal(t, n, h.Stats().Spokes)
	await(t, func() bool { return s.askers.count.Load() == 0 }, "all questions are over")
}

func TestAnswersDoNotQuoteTheRequest(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{Authenticate: byName})
	for _, head := range []string{
		request("/ws?token=s3cret\x7f"), request("/ws?token=%s3cret"), request("/ws?token=s3cret%zz"), "GET/ws?token=s3cret\r\n\r\n",
		"GET /ws?token=s3cret HTTP/9.9.9\r\n\r\n", "s3cret /ws?token=s3cret HTTP/2.0\r\n\r\n", request("/s3cret?token=s3cret"),
		also(request("/ws"), "Authorization s3cret"), also(request("/ws"), "s3cret : x"), request("/ws?token=s3cret"),
	} {
		p := dialPeer(t, address, from{})
		p.write([]byte(head))
		resp, body := p.answer()
		require.GreaterOrEqual(t, resp.StatusCode, 400)
		require.NotContains(t, body, "s3cret", head)
	}
}
