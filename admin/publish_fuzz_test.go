package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// FuzzPublish looks for a request that publishes something else than it was answered, or part of it, to
// all or to one spoke.
func FuzzPublish(f *testing.F) {
	for body, contentType := range map[string]string{
		`{"type":"tick","id":"1","payload":{"price":7.0}}`:       "application/json",
		`[{"type":"a"},{"type":"b","payload":[1, 2]}]`:           "",
		"{\"type\":\"a\"}\n\n{\"type\":\"b\",\"id\":\"\\n\"}":    mediaNDJSON,
		`{"type":"a"}{"type":"b"} {"type":"c"}`:                  "application/x-www-form-urlencoded",
		`[{"type":"a"},{"type":"__welcome"}]`:                    "application/json; charset=utf-8",
		`[{"type":"a"},{"type":"b:c"}]`:                          "text/plain",
		`{"type":"a","payload":` + string(make([]byte, 5)) + `}`: "application/json",
		`[[[[`: "", `[]`: "", ` `: "", "\xff": "",
		`{"type":"a","payload":"` + string(bytes.Repeat([]byte("x"), 2000)) + `"}`: "",
	} {
		f.Add([]byte(body), contentType, false)
		f.Add([]byte(body), contentType, true)
	}
	quiet := slog.New(slog.DiscardHandler)
	hub, err := fanout.New(fanout.Config{Shards: 1, Logger: quiet, Limits: fanout.Limits{SpokeBytes: 1 << 10, TotalBytes: 64 << 10}})
	require.NoError(f, err)
	f.Cleanup(hub.Close)
	server, err := New(Config{Hub: hub, Logger: quiet, MaxBodyBytes: 32 << 10})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, body []byte, contentType string, toOne bool) {
		fix := &fixture{hub: hub}
		one, other := &scriptSink{}, &scriptSink{}
		defer fix.connect(t, one).Detach(fanout.Cause{})
		defer fix.connect(t, other).Detach(fanout.Cause{})
		path := "/v1/events"
		if toOne {
			path = "/v1/spokes/" + one.spoke.ID() + "/events"
		}
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, r)
		answer, err := io.ReadAll(w.Result().Body)
		require.NoError(t, err)
		got, ofOther := fix.events(one), fix.events(other)
		if toOne {
			require.Empty(t, ofOther)
		} else {
			require.Equal(t, got, ofOther)
		}
		if w.Code != http.StatusOK {
			require.Contains(t, []int{400, 413, 415, 422}, w.Code, "%s", answer)
			require.NotEmpty(t, reply{w.Code, w.Header(), string(answer)}.wrong(t).Error.Message)
			require.Empty(t, got, "all of it or nothing")
			return
		}
		var said published
		require.NoError(t, json.Unmarshal(answer, &said))
		require.Len(t, got, said.Accepted)
		spokes := 2
		if toOne {
			spokes = 1
		}
		require.Equal(t, spokes*said.Accepted, said.Matched)
		lines, problem := byLine(r)
		require.Nil(t, problem)
		events, problem := parseBody(body, lines)
		require.Nil(t, problem)
		for i, e := range events {
			passed, err := codec.ParseEnvelope([]byte(got[i]))
			require.NoError(t, err)
			require.Equal(t, e, passed)
		}
	})
}
