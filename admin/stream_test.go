package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// record is a line of a stream.
type record struct {
	Kind, Spoke, Remote, Side, Reason, Cause string
	Code                                     int
	Event                                    *struct {
		Type, ID string
		Payload  json.RawMessage
	}
	Dropped, Conflated uint64
}

// reader reads a stream.
type reader struct {
	resp *http.Response
	*bufio.Reader
}

// open starts to read events. What happens after it has returned is in the stream.
func (f *fixture) open(t testing.TB, topics []string, accept ...string) *reader {
	t.Helper()
	return f.openPath(t, "/v1/events?"+url.Values{"topic": topics}.Encode(), accept...)
}

// openPath starts to read a stream.
func (f *fixture) openPath(t testing.TB, path string, accept ...string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path, nil)
	require.NoError(t, err)
	req.Header["Accept"] = accept
	resp, err := (&http.Client{Transport: f.client.Transport}).Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return &reader{resp, bufio.NewReader(resp.Body)}
}

// next returns the next record of an NDJSON stream.
func (r *reader) next(t testing.TB) record {
	t.Helper()
	for {
		line, err := r.ReadBytes('\n')
		require.NoError(t, err)
		if len(line) == 1 {
			continue
		}
		var rec record
		require.NoError(t, json.Unmarshal(line, &rec), "%s", line)
		return rec
	}
}

func TestStreamTellsWhatSpokesDo(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	r := f.open(t, nil)
	require.Equal(t, "application/x-ndjson", r.resp.Header.Get("Content-Type"))
	require.Equal(t, "no-store", r.resp.Header.Get("Cache-Control"))
	require.Equal(t, "no", r.resp.Header.Get("X-Accel-Buffering"))

	spoke := f.connect(t, &scriptSink{})
	require.Equal(t, record{Kind: "connected", Spoke: spoke.ID(), Remote: "192.0.2.1:1234"}, r.next(t))
	spoke.Receive([]byte("{\"type\":\"ask\",\"id\":\"1\",\"payload\":{\n\"n\":\r\n1.00}}"))
	got := r.next(t)
	require.Equal(t, "event", got.Kind)
	require.Equal(t, spoke.ID(), got.Spoke)
	require.Equal(t, "ask", got.Event.Type)
	require.Equal(t, "1", got.Event.ID)
	require.Equal(t, "{ \"n\":  1.00}", string(got.Event.Payload), "a record is one line")
	spoke.Receive([]byte(`{"type":"none"}`))
	require.Equal(t, "null", string(r.next(t).Event.Payload))
	spoke.Detach(fanout.CauseOf(fanout.PeerSide, 4321, "bye"))
	require.Equal(t, record{
		Kind: "disconnected", Spoke: spoke.ID(), Remote: "192.0.2.1:1234",
		Side: "peer", Code: 4321, Reason: "bye", Cause: "other",
	}, r.next(t))
}

func TestStreamSelectsTopics(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	spoke := f.connect(t, &scriptSink{})
	r := f.open(t, []string{"ask:1", "say:*"}, "application/x-ndjson")
	for _, e := range []string{`{"type":"ask","id":"2"}`, `{"type":"ask","id":"1"}`, `{"type":"tell"}`, `{"type":"say","id":"x"}`} {
		spoke.Receive([]byte(e))
	}
	require.Equal(t, "ask", r.next(t).Event.Type)
	require.Equal(t, "say", r.next(t).Event.Type)
}

func TestStreamAsServerSentEvents(t *testing.T) {
	f := start(t, fanout.Config{}, Config{Heartbeat: 20 * time.Millisecond})
	r := f.open(t, nil, "text/event-stream")
	require.Equal(t, "text/event-stream", r.resp.Header.Get("Content-Type"))
	line := func() string {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		return line
	}
	require.Equal(t, ": heartbeat\n", line())
	require.Equal(t, "\n", line())
	spoke := f.connect(t, &scriptSink{})
	spoke.Receive([]byte("{\"type\":\"ask\",\"payload\":[\n1\n]}"))
	var got []string
	for len(got) < 6 {
		if s := line(); s == ": heartbeat\n" {
			require.Equal(t, "\n", line())
		} else {
			got = append(got, s)
		}
	}
	require.Equal(t, []string{
		"event: connected\n", `data: {"kind":"connected","spoke":"` + spoke.ID() + `","remote":"192.0.2.1:1234"}` + "\n", "\n",
		"event: event\n", `data: {"kind":"event","spoke":"` + spoke.ID() + `","event":{"type":"ask","id":"","payload":[ 1 ]}}` + "\n", "\n",
	}, got)
}

// The times that an ordinary request may take are over long before this stream is.
func TestStreamOutlivesTheTimeoutsOfRequests(t *testing.T) {
	f := start(t, fanout.Config{}, Config{Heartbeat: 10 * time.Millisecond}, func(s *Server) {
		s.http.ReadTimeout, s.http.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	r := f.open(t, nil)
	for range 20 {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "\n", line)
	}
}

func TestStreamFormats(t *testing.T) {
	for accept, want := range map[string]*format{
		"":                                    nil,
		"*/*":                                 ndjson,
		"text/event-stream":                   sse,
		"application/x-ndjson":                ndjson,
		"text/html, */*;q=0.8":                ndjson, // a browser's address line
		"text/event-stream, */*":              sse,
		"*/*;q=0.1, text/event-stream;q=0.2":  sse,
		"text/event-stream;q=0, */*;q=0.5":    ndjson,
		"text/html":                           nil,
		"application/x-ndjson;q=no, text/css": nil,
		";;, text/*":                          sse,
	} {
		require.Same(t, want, acceptable([]string{accept}), "%q", accept)
	}
	require.Same(t, ndjson, acceptable(nil))
	require.Same(t, sse, acceptable([]string{"text/html", "text/event-stream"}))
}

func TestStreamRefuses(t *testing.T) {
	f := start(t, fanout.Config{}, Config{MaxStreams: 1})
	for _, test := range []struct {
		query, accept string
		status        int
		code          string
	}{
		{"?topic=tick", "", 400, "bad_topic"},
		{"?topic=ok:1&topic=__gap:", "", 400, "bad_topic"},
		{"?topic=%zz", "", 400, "bad_query"},
		{"", "text/html", 406, "not_acceptable"},
	} {
		r := f.get(t, "/v1/events"+test.query, "Accept", test.accept)
		if test.accept == "" {
			r = f.get(t, "/v1/events"+test.query)
		}
		require.Equal(t, test.status, r.status)
		require.Equal(t, test.code, r.wrong(t).Error.Code)
	}
	r := f.do(t, http.MethodHead, "/v1/events", "")
	require.Equal(t, http.StatusOK, r.status, "the head alone, at once")

	first := f.open(t, nil)
	r = f.get(t, "/v1/events")
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.Equal(t, "too_many_streams", r.wrong(t).Error.Code)
	require.NoError(t, first.resp.Body.Close())
	f.eventually(t, func() bool { return f.server.streams.Load() == 0 })
	f.open(t, nil)
}

func TestStreamEndsWithTheServerAndWithTheHub(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *fixture){
		"server": func(t *testing.T, f *fixture) { require.NoError(t, f.server.Shutdown(context.Background())) },
		"hub":    func(_ *testing.T, f *fixture) { f.hub.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, fanout.Config{}, Config{})
			lines, events := f.open(t, nil), f.open(t, nil, "text/event-stream")
			end(t, f)
			require.Equal(t, record{Kind: "end", Reason: "shutdown"}, lines.next(t))
			_, err := lines.ReadByte()
			require.ErrorIs(t, err, io.EOF)
			rest, err := io.ReadAll(events)
			require.NoError(t, err)
			require.Equal(t, "event: end\ndata: {\"kind\":\"end\",\"reason\":\"shutdown\"}\n\n", string(rest))
		})
	}
}

// eventually waits for a condition.
func (f *fixture) eventually(t testing.TB, fn func() bool) {
	t.Helper()
	require.Eventually(t, fn, patience, time.Millisecond)
}

// receive makes the hub receive an event of about n bytes.
func receive(t testing.TB, s *fanout.Spoke, id string, n int) {
	t.Helper()
	b, err := codec.AppendEnvelope(nil, codec.Envelope{
		Type: "up", ID: id, Payload: []byte(`"` + strings.Repeat("x", n) + `"`),
	})
	require.NoError(t, err)
	s.Receive(b)
}
