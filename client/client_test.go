package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestEventsArriveInOrder(t *testing.T) {
	got := make(chan codec.Envelope, 1000)
	h := newHub(t)
	_, s := h.dial(Options{OnEvent: func(_ *Client, e codec.Envelope) { got <- e }})
	for i := range 500 {
		s.send(wire("tick", fmt.Sprint(i), fmt.Sprintf(`{"n":%d}`, i)))
	}
	for i := range 500 {
		require.Equal(t, event("tick", fmt.Sprint(i), fmt.Sprintf(`{"n":%d}`, i)), receive(t, got))
	}
}

func TestBinaryMessagesAreEvents(t *testing.T) {
	got := make(chan codec.Envelope, 1)
	_, s := newHub(t).dial(Options{OnEvent: func(_ *Client, e codec.Envelope) { got <- e }})
	require.NoError(t, s.ws.Write(t.Context(), websocket.MessageBinary, []byte(wire("tick", "1", "null"))))
	require.Equal(t, codec.Envelope{Type: "tick", ID: "1"}, receive(t, got))
}

func TestWhatIsNotAnEventIsIgnored(t *testing.T) {
	got := make(chan codec.Envelope, 10)
	_, s := newHub(t).dial(Options{OnEvent: func(_ *Client, e codec.Envelope) { got <- e }})
	s.send("", "hello", `{"type":""}`, `{"type":"__welcome","payload":7}`, wire("tick", "1", "1"))
	require.Equal(t, event("tick", "1", "1"), receive(t, got))
	require.Empty(t, got)
}

func TestDispatchKeepsOrderAndCopies(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	e := event("tick", "1", `"a"`)
	require.NoError(t, c.Dispatch(e))
	copy(e.Payload, `"b"`)
	require.NoError(t, c.Dispatch(e))
	require.NoError(t, c.Dispatch(event("tick", "é:<2>", "")))
	s.expect(wire("tick", "1", `"a"`), wire("tick", "1", `"b"`), wire("tick", "é:<2>", "null"))
}

func TestDispatchRefusesWhatTheHubWouldRefuse(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	require.ErrorContains(t, c.Dispatch(event("__subscribe", "", `"tick:1"`)), "reserved")
	bad := (*codec.EnvelopeError)(nil)
	require.ErrorAs(t, c.Dispatch(event("", "1", "")), &bad)
	require.ErrorAs(t, c.Dispatch(event("tick", "1", `{"a":`)), &bad)
	require.NoError(t, c.Dispatch(event("tick", "1", "")))
	s.expect(wire("tick", "1", "")) // and nothing before it
}

func TestDispatchFromManyGoroutinesKeepsEachOnesOrder(t *testing.T) {
	const goroutines, events = 8, 200
	c, s := newHub(t).dial(Options{})
	var senders sync.WaitGroup
	for g := range goroutines {
		senders.Go(func() {
			for i := range events {
				if err := c.Dispatch(event("g", fmt.Sprint(g), fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	next := map[string]int{}
	for range goroutines * events {
		message, err := s.next()
		require.NoError(t, err)
		e, err := codec.ParseEnvelope([]byte(message))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(next[e.ID]), string(e.Payload), "goroutine %s", e.ID)
		next[e.ID]++
	}
	senders.Wait()
}

func TestDispatchInsideAListener(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	_, err := c.AddListener("ask:", func(e codec.Envelope) {
		if err := c.Dispatch(codec.Envelope{Type: "answer", ID: e.ID, Payload: e.Payload}); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, err)
	s.send(wire("ask", "1", `"x"`), wire("ask", "2", `"y"`))
	s.expect(wire("answer", "1", `"x"`), wire("answer", "2", `"y"`))
}

func TestReservedEventsReachTheirCallbacksInOrder(t *testing.T) {
	got := make(chan string, 10)
	_, s := newHub(t).dial(Options{
		OnEvent: func(_ *Client, e codec.Envelope) { got <- "event " + e.Topic() },
		OnWelcome: func(c *Client, w codec.Welcome) {
			got <- fmt.Sprintf("%+v %s %s", w, c.SpokeID(), c.Node())
		},
		OnGap:      func(_ *Client, g codec.Gap) { got <- fmt.Sprintf("%+v", g) },
		OnError:    func(_ *Client, id string, e codec.Error) { got <- fmt.Sprintf("%s %+v", id, e) },
		OnDrain:    func(_ *Client, d codec.Drain) { got <- fmt.Sprintf("%+v", d) },
		OnReserved: func(_ *Client, e codec.Envelope) { got <- fmt.Sprintf("%s %s %s", e.Type, e.ID, e.Payload) },
	})
	s.send(
		wire("__welcome", "", `{"spoke":"s1","node":"n1"}`),
		wire("tick", "1", ""),
		wire("__gap", "", `{"dropped":3,"conflated":2,"reason":"slow"}`),
		wire("__error", "7", `{"code":"bad_envelope","message":"no"}`),
		wire("__drain", "", `{"reconnectAfterMs":50}`),
		wire("__subscribed", "", `{"topics":["tick:*"]}`),
		wire("__later", "", "1"),
	)
	for _, want := range []string{
		"{Spoke:s1 Node:n1 ExpiresInMs:0} s1 n1",
		"event tick:1",
		"{Dropped:3 Conflated:2 Reason:slow}",
		"7 {Code:bad_envelope Message:no Refused:0 RetryAfterMs:0}",
		"{ReconnectAfterMs:50}",
		`__subscribed  {"topics":["tick:*"]}`,
		"__later  1",
	} {
		require.Equal(t, want, receive(t, got))
	}
}

func TestSpokeIDIsEmptyBeforeWelcome(t *testing.T) {
	c, _ := newHub(t).dial(Options{})
	require.Empty(t, c.SpokeID())
	require.Empty(t, c.Node())
}

func TestHandshakeCarriesHeaderAndURL(t *testing.T) {
	h := newHub(t)
	h.url += "/ws?topic=tick:42&token=a"
	header := http.Header{"Authorization": {"Bearer x"}}
	_, s := h.dial(Options{Header: header})
	require.Equal(t, "/ws?topic=tick:42&token=a", s.r.URL.String())
	require.Equal(t, "Bearer x", s.r.Header.Get("Authorization"))
}

func TestDialRefusesArgumentsThatMakeNoSense(t *testing.T) {
	for _, c := range []struct {
		url  string
		opts Options
		want string
	}{
		{"ftp://host/", Options{}, "scheme"},
		{"ws:///path", Options{}, "no host"},
		{"ws://a b/", Options{}, "dial"},
		{"ws://host/?topic=nocolon", Options{}, "nocolon"},
		{"ws://host/?topic=__gap:", Options{}, "hub"},
		{"ws://host/", Options{QueueBytes: -1}, "QueueBytes"},
		{"ws://host/", Options{Ping: -1}, "Ping"},
		{"ws://host/", Options{BackoffMin: -1}, "BackoffMin"},
		{"ws://host/", Options{BackoffMin: time.Second, BackoffMax: time.Millisecond}, "BackoffMax"},
	} {
		_, err := Dial(t.Context(), c.url, c.opts)
		require.ErrorContains(t, err, c.want, c.url)
	}
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	h := newHub(t)
	h.refuseWith(http.StatusServiceUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	opts := h.options(Options{BackoffMin: time.Millisecond})
	opts.OnStatus = func(_ *Client, s Status) {
		if s.Failures == 3 {
			cancel()
		}
	}
	_, err := Dial(ctx, h.url, opts)
	require.ErrorIs(t, err, context.Canceled)
	refused := (*RefusedError)(nil)
	require.ErrorAs(t, err, &refused) // why it took so long
	require.Equal(t, 503, refused.StatusCode)
	require.True(t, strings.HasPrefix(err.Error(), "client: dial: "), err)
}

func TestErrorsDoNotShowTheQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		h.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("connection refused")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Dial(ctx, h.url+"?token=secret", h.options(Options{}))
		require.ErrorContains(t, err, "connection refused")
		require.NotContains(t, err.Error(), "secret")
	})
}
