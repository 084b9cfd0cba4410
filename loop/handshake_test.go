package loop

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestRefusalsSayWhy(t *testing.T) {
	good := request("/ws")
	post := strings.Replace(good, "GET", "POST", 1)
	for _, c := range []struct {
		name, request string
		status        int
		body          string // is contained in it
		why           RefusalReason
	}{
		{"not HTTP", "hello\r\n\r\n", 400, "malformed HTTP request", RefusedBadRequest},
		{"unknown version of HTTP", strings.Replace(good, "HTTP/1.1", "HTTP/9.9", 1), 400, "malformed", RefusedBadRequest},
		{"HTTP/1.0", strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), 505, "protocol version", RefusedBadRequest},
		{"bad header name", also(good, "A B: c"), 400, "malformed", RefusedBadRequest},
		{"bad header value", also(good, "A: b\x00c"), 400, "malformed", RefusedBadRequest},
		{"no host", request("/ws", "Host:"), 400, "Host", RefusedBadRequest},
		{"two hosts", also(good, "host: other.example"), 400, "too many Host headers", RefusedBadRequest},
		{"other path", request("/"), 404, "WebSockets are at /ws", RefusedBadRequest},
		{"path with a tail", request("/ws/"), 404, "", RefusedBadRequest},
		{"other method", post, 405, "method POST, a WebSocket is opened with GET", RefusedBadRequest},
		{"other method, no upgrade", "POST /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405, "", RefusedBadRequest},
		{"no upgrade", request("/ws", "Upgrade:"), 426, "WebSocket endpoint", RefusedBadRequest},
		{"upgrade to something else", request("/ws", "Upgrade: h2c"), 400, "Upgrade", RefusedBadRequest},
		{"connection is not upgraded", request("/ws", "Connection: close"), 400, "Connection", RefusedBadRequest},
		{"no connection header", request("/ws", "Connection:"), 400, "Connection", RefusedBadRequest},
		{"no version", request("/ws", "Sec-WebSocket-Version:"), 400, "Version", RefusedBadRequest},
		{"old version", request("/ws", "Sec-WebSocket-Version: 8"), 426, "Sec-WebSocket-Version must be 13", RefusedBadRequest},
		{"two versions", also(good, "Sec-WebSocket-Version: 13"), 400, "2 Sec-Websocket-Version", RefusedBadRequest},
		{"no key", request("/ws", "Sec-WebSocket-Key:"), 400, "Key", RefusedBadRequest},
		{"short key", request("/ws", "Sec-WebSocket-Key: AAAA"), 400, "Key", RefusedBadRequest},
		{"key of 24 characters that is no base64", request("/ws", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="), 400, "base64", RefusedBadRequest},
		{"key of 24 characters for 18 bytes", request("/ws", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"), 400, "16 bytes", RefusedBadRequest},
		{"two keys", also(good, "sec-websocket-key: "+sampleKey), 400, "2 Sec-Websocket-Key", RefusedBadRequest},
		{"subprotocol that is no token", also(good, "Sec-WebSocket-Protocol: a b;"), 400, "malformed", RefusedBadRequest},
		{"body", also(good, "Content-Length: 4") + "\x81\x80\x00\x00", 400, "body", RefusedBadRequest},
		{"body in chunks", also(good, "Transfer-Encoding: chunked") + "0\r\n\r\n", 400, "body", RefusedBadRequest},
		{"head that ends before its end", strings.TrimSuffix(good, "\r\n\r\n") + "\n\nA: b\r\n\r\n", 400, "an empty line", RefusedBadRequest},
		{"the same, with one CRLF", strings.TrimSuffix(good, "\r\n\r\n") + "\n\r\nA: b\r\n\r\n", 400, "an empty line", RefusedBadRequest},
		{"foreign origin", also(good, "Origin: https://evil.example"), 403, `"https://evil.example" is not allowed`, RefusedOrigin},
		{"no topic", request("/ws?topic=tick"), 400, "has no ':'", RefusedBadRequest},
		{"reserved topic", request("/ws?topic=__gap:"), 400, "__gap", RefusedBadRequest},
		{"bad query", request("/ws?topic=%zz"), 400, "malformed query", RefusedBadRequest},
		{"head over 8 KiB", also(good, "A: "+strings.Repeat("a", 8<<10)), 431, "8192 bytes", RefusedBadRequest},
		{"head over 8 KiB and no end of it", strings.Repeat("a", 9<<10), 431, "8192 bytes", RefusedBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h, address := startServer(t, fanout.Config{}, Config{})
			p := dialPeer(t, address, from{})
			p.write([]byte(c.request))
			resp, body := p.answer()
			require.Equal(t, c.status, resp.StatusCode, body)
			require.Contains(t, body, c.body)
			require.True(t, resp.Close, "Connection: close")
			for status, header := range map[int]string{405: "Allow", 426: "Sec-Websocket-Version"} {
				require.Equal(t, c.status == status, resp.Header.Get(header) != "", header)
			}
			for why, n := range s.Stats().Refused {
				require.Equal(t, why == c.why, n == 1, why)
			}
			require.Zero(t, h.Stats().Opened)
		})
	}
}

func TestAnswersToHEADHaveNoBody(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{})
	for _, target := range []string{"/ws", "/", "/readyz"} {
		p := dialPeer(t, address, from{})
		p.write([]byte(strings.Replace(request(target), "GET", "HEAD", 1)))
		b, err := io.ReadAll(p.in)
		require.NoError(t, err)
		_, body, found := strings.Cut(string(b), "\r\n\r\n")
		require.True(t, found)
		require.Empty(t, body, target)
	}
	require.EqualValues(t, 2, s.Stats().Refused[RefusedBadRequest])
}

// Who sends Upgrade names it in Connection, RFC 9110 section 7.8.
func TestUpgradeRequiredNamesTheConnectionOption(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{})
	for _, r := range []string{request("/ws", "Upgrade:"), request("/ws", "Sec-WebSocket-Version: 8")} {
		p := dialPeer(t, address, from{})
		p.write([]byte(r))
		b, err := io.ReadAll(p.in)
		require.NoError(t, err)
		require.Contains(t, string(b), "\r\nUpgrade: websocket\r\n")
		require.Contains(t, string(b), "\r\nConnection: Upgrade\r\n")
		require.Contains(t, string(b), "\r\nConnection: close\r\n")
	}
}

func TestHeadOf8KiBIsTaken(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{})
	empty := also(request("/ws"), "A: ")
	p := dialPeer(t, address, from{})
	p.write([]byte(also(request("/ws"), "A: "+strings.Repeat("a", maxHeadBytes-len(empty)))))
	p.upgraded()
}

func TestOriginsThatMayConnect(t *testing.T) {
	for _, c := range []struct {
		name, origin string
		allowed      []string
		ok           bool
	}{
		{"none: not a browser", "", nil, true},
		{"the hub's own", "http://hub.example", nil, true},
		{"the hub's own, any case, TLS in front", "HTTPS://Hub.Example", nil, true},
		{"own host, other port", "http://hub.example:81", nil, false},
		{"foreign", "http://other.example", nil, false},
		{"listed", "https://other.example", []string{"https://a.example", "https://other.example"}, true},
		{"listed with another scheme", "http://other.example", []string{"https://other.example"}, false},
		{"pattern", "https://x.other.example", []string{"https://*.other.example"}, true},
		{"pattern, another domain with the same end", "https://x-other.example", []string{"https://*.other.example"}, false},
		{"everybody", "https://any.example", []string{"*"}, true},
		{"a sandboxed page", "null", nil, false},
		{"a sandboxed page, everybody allowed", "null", []string{"*"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, address := startServer(t, fanout.Config{}, Config{Origins: c.allowed})
			p := dialPeer(t, address, from{})
			p.write([]byte(request("/ws", "Origin: "+c.origin)))
			if c.ok {
				p.upgraded()
				return
			}
			resp, _ := p.answer()
			require.Equal(t, http.StatusForbidden, resp.StatusCode)
			require.EqualValues(t, 1, s.Stats().Refused[RefusedOrigin])
		})
	}
}

func TestRefusalArrivesWholeWhileThePeerStillSends(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{})
	p := dialPeer(t, address, from{})
	const length = 4 << 20
	p.write(fmt.Appendf(nil, "POST /ws HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", length))
	p.write(make([]byte, length)) // more than any buffer: a connection closed with bytes unread is reset
	resp, body := p.answer()
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	require.NotEmpty(t, body)
}

func TestHeadMayArriveAByteAtATime(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{})
	got := listen(t, h)
	p := dialPeer(t, address, from{})
	for _, b := range append([]byte(request("/ws")), message("ask", "1")...) {
		p.write([]byte{b})
	}
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	require.Equal(t, "ask:1", receive(t, got, "the event").Topic())
}

func TestFramesMayComeWithTheHead(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{})
	got := listen(t, h)
	p := dialPeer(t, address, from{})
	second := message("ask", "2")
	p.write(append(append([]byte(request("/ws")), message("ask", "1")...), second[:5]...))
	require.Equal(t, "ask:1", receive(t, got, "the event that came with the head").Topic())
	p.write(second[5:])
	require.Equal(t, "ask:2", receive(t, got, "the event of which half came with the head").Topic())
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
}

func TestHandshakeThatTakesTooLongIsCutOffAndCountedOnce(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{HandshakeTimeout: 50 * time.Millisecond})
	silent, half := dialPeer(t, address, from{}), dialPeer(t, address, from{})
	half.write([]byte("GET /ws HTTP/1.1\r\n"))
	silent.requireEnd()
	half.requireEnd()
	await(t, func() bool { return s.Stats().Connections == 0 }, "both are forgotten")
	require.EqualValues(t, 2, s.Stats().Refused[RefusedTimeout])
}

func TestReadinessIsTheHubsAsWell(t *testing.T) {
	var wants atomic.Bool
	_, _, address := startServer(t, fanout.Config{}, Config{Ready: wants.Load})
	ask := func() (int, string) {
		p := dialPeer(t, address, from{})
		p.write([]byte("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"))
		resp, body := p.answer()
		return resp.StatusCode, body
	}
	status, body := ask()
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "not ready\n", body)
	_ = connect(t, address) // who comes all the same is let in
	wants.Store(true)
	status, _ = ask()
	require.Equal(t, http.StatusOK, status)
}

func TestReadinessFailsWhileDraining(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{CloseTimeout: time.Minute, DrainTimeout: time.Minute})
	ask := func(method string) (int, string) {
		p := dialPeer(t, address, from{})
		p.write([]byte(method + " /readyz HTTP/1.1\r\nHost: a\r\n\r\n"))
		resp, body := p.answer()
		if method == http.MethodHead {
			require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
			require.Empty(t, body)
		}
		return resp.StatusCode, body
	}
	status, body := ask(http.MethodGet)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ready\n", body)
	status, _ = ask(http.MethodHead)
	require.Equal(t, http.StatusOK, status)

	_ = connect(t, address) // does not answer the close frame, so draining goes on
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	await(t, func() bool { return !s.Ready() }, "the server drains")
	status, body = ask(http.MethodGet)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "draining\n", body)
	status, _ = ask(http.MethodHead)
	require.Equal(t, http.StatusServiceUnavailable, status)
	cancel()
	require.ErrorIs(t, receive(t, done, "Shutdown returns"), context.Canceled)
	for why, n := range s.Stats().Refused {
		require.Zero(t, n, "a probe is not a refused spoke: %v", why)
	}
}

func TestSubprotocolIsChosenIfOffered(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{})
	for offer, want := range map[string]string{
		"":                             "",
		"chat":                         "",
		Subprotocol:                    Subprotocol,
		"chat, " + Subprotocol + ", x": Subprotocol,
		strings.ToUpper(Subprotocol):   "", // they are compared byte by byte
	} {
		p := dialPeer(t, address, from{})
		p.write([]byte(request("/ws", "Sec-WebSocket-Protocol:"+offer)))
		require.Equal(t, want, p.upgraded().Header.Get("Sec-WebSocket-Protocol"), "offered %q", offer)
	}
	p := dialPeer(t, address, from{})
	p.write([]byte(also(request("/ws"), "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: "+Subprotocol)))
	require.Equal(t, Subprotocol, p.upgraded().Header.Get("Sec-WebSocket-Protocol"), "offered in two headers")
}

func TestExtensionsAreNotNegotiated(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{})
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws", "Sec-WebSocket-Extensions: permessage-deflate")))
	require.Empty(t, p.upgraded().Header.Get("Sec-WebSocket-Extensions"))
}

func TestTopicsOfTheQueryAreSubscribedFromTheBeginning(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	_, h, address := startServer(t, hc, Config{Path: "/live"})
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/live?topic=tick:42&other=1&topic=order:*&topic=" + "b%C3%A9:1")))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	topics, everything := receive(t, life.began, "the spoke connects").Topics()
	require.False(t, everything)
	require.Equal(t, "[bé:1 order:* tick:42]", fmt.Sprint(topics))
	for _, topic := range []string{"tick:1", "tick:42", "other:1", "order:7", "bé:2", "bé:1"} {
		typ, id, _ := codec.SplitTopic(topic)
		dispatch(t, h, codec.Envelope{Type: typ, ID: id})
	}
	for _, want := range []string{"tick:42", "order:7", "bé:1"} {
		require.Equal(t, want, p.event().Topic())
	}
}

func TestTooManyTopicsAreRefusedBeforeTheUpgrade(t *testing.T) {
	s, h, address := startServer(t, fanout.Config{MaxTopics: 2, MaxTopicBytes: 300}, Config{})
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws?topic=tick:1&topic=tick:2&topic=tick:3")))
	resp, body := p.answer()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Equal(t, "3 topics, a spoke has at most 2\n", body)

	p = dialPeer(t, address, from{})
	p.write([]byte(request("/ws?topic=tick:1&topic=tick:" + strings.Repeat("x", 200))))
	resp, body = p.answer()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "5", resp.Header.Get("Retry-After"))
	require.Equal(t, "the hub has no room for more subscriptions at the moment\n", body)
	require.EqualValues(t, 1, s.Stats().Refused[RefusedTopicMemory])
	require.Zero(t, h.Stats().Opened)
	require.Zero(t, h.Stats().TopicBytes)
	await(t, func() bool { return s.Stats().Connections == 0 }, "they are forgotten")

	p = dialPeer(t, address, from{})
	p.write([]byte(request("/ws?topic=tick:1&topic=tick:2")))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
}

func TestFullHubSays503WithRetryAfter(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{MaxSpokes: 2})
	kept := []*peer{connect(t, address), connect(t, address)}
	p := dialPeer(t, address, from{})
	p.requireBusy("the hub is full\n")
	require.EqualValues(t, 1, s.Stats().Refused[RefusedFull])
	_ = p.tcp.Close()
	kept[0].write(whole(ws.OpClose, nil))
	await(t, func() bool { return s.Stats().Connections == 1 }, "one has left")
	connect(t, address)
}

func TestConnectionOnAClosedHubIsTurnedAway(t *testing.T) {
	s, h, address := startServer(t, fanout.Config{}, Config{CloseTimeout: 50 * time.Millisecond})
	h.Close()
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws")))
	p.upgraded()
	p.requireClose(codec.CloseGoingAway)
	p.write(closing(codec.CloseGoingAway, ""))
	p.requireEnd()
	_ = p.tcp.Close()
	await(t, func() bool { return s.Stats().Connections == 0 }, "it is forgotten")
}
