package admin

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

func TestPublishTakesEveryFormOfBody(t *testing.T) {
	const curl = "application/x-www-form-urlencoded"
	one := wire("tick", "1", "null")
	both := []string{one, wire("tick", "2", "null")}
	for _, test := range []struct {
		name, contentType, body string
		want                    []string
	}{
		{"one", "application/json", `{"type":"tick","id":"1"}`, both[:1]},
		{"no content type", "", `{"type":"tick","id":"1"}`, both[:1]},
		{"curl -d", curl, `{"type":"tick","id":"1"}`, both[:1]},
		{"charset", "application/json; charset=utf-8", `{"type":"tick","id":"1"}`, both[:1]},
		{"in several lines", "application/json", "\r\n{\n\t\"type\" : \"tick\",\n\"id\":\"1\"\n}\n\n", both[:1]},
		{"array", "application/json", ` [ {"type":"tick","id":"1"} , {"type":"tick","id":"2"} ] `, both},
		{"array of none", "application/json", `[]`, []string{}},
		{"lines", "application/x-ndjson", "{\"type\":\"tick\",\"id\":\"1\"}\r\n\n{\"type\":\"tick\",\"id\":\"2\"}\n", both},
		{"lines by themselves", "application/json", "{\"type\":\"tick\",\"id\":\"1\"}\n{\"type\":\"tick\",\"id\":\"2\"}", both},
		{"lines that curl -d has joined", curl, `{"type":"tick","id":"1"}{"type":"tick","id":"2"}`, both},
		{"one by lines", "application/x-ndjson", `{"type":"tick","id":"1"}`, both[:1]},
		{"brackets and quotes in strings", "", `[{"type":"tick","id":"1","x":"]},\"{["},{"type":"tick","id":"2"}]`, both},
		{"digits", "", `{"type":"p","payload":{"a": 1.000000000000000000000000001, "b":-0.0, "c":12345678901234567890e+400}}`,
			[]string{wire("p", "", `{"a": 1.000000000000000000000000001, "b":-0.0, "c":12345678901234567890e+400}`)}},
		{"digits in an array", "", `[{"type":"p","payload":1.10},{"type":"p","payload":[1E2 ,"\u00e9/"]}]`,
			[]string{wire("p", "", `1.10`), wire("p", "", `[1E2 ,"\u00e9/"]`)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := start(t, fanout.Config{}, Config{})
			var a, b, c scriptSink
			f.connect(t, &a)
			f.connect(t, &b)
			f.connect(t, &c, "something:else")
			var header []string
			if test.contentType != "" {
				header = []string{"Content-Type", test.contentType}
			}
			r := f.do(t, http.MethodPost, "/v1/events", test.body, header...)
			require.Equal(t, http.StatusOK, r.status, r.body)
			require.JSONEq(t, answered(len(test.want), 2*len(test.want)), r.body)
			require.Equal(t, test.want, f.events(&a))
			require.Equal(t, test.want, f.events(&b))
			require.Empty(t, f.events(&c))
		})
	}
}

func TestPublishToOneSpoke(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	var a, b scriptSink
	spoke := f.connect(t, &a, "something:else")
	f.connect(t, &b)
	path := "/v1/spokes/" + spoke.ID() + "/events"
	r := f.do(t, http.MethodPost, path, `[{"type":"to","id":"1"},{"type":"to","id":"2","payload":7}]`)
	require.Equal(t, http.StatusOK, r.status, r.body)
	require.JSONEq(t, answered(2, 2), r.body)
	require.Equal(t, []string{wire("to", "1", "null"), wire("to", "2", "7")}, f.events(&a))
	require.Empty(t, f.events(&b))

	r = f.do(t, http.MethodPost, path, `[{"type":"to"},{"type":"__welcome"}]`)
	require.Equal(t, http.StatusUnprocessableEntity, r.status)
	require.Equal(t, "reserved", r.wrong(t).Error.Code)
	require.Len(t, f.events(&a), 2)

	spoke.Detach(fanout.Cause{})
	r = f.do(t, http.MethodPost, path, `{"type":"to"}`)
	require.Equal(t, http.StatusNotFound, r.status)
	require.Equal(t, "no_spoke", r.wrong(t).Error.Code)
}

func TestPublishRefuses(t *testing.T) {
	f := start(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 2 << 10, TotalBytes: 8 << 10}}, Config{MaxBodyBytes: 16 << 10})
	var k scriptSink
	f.connect(t, &k)
	const none = -1
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		code, message           string
		index                   int
	}{
		{"nothing", "", " \n", 400, "not_json", "empty", none},
		{"nothing by lines", mediaNDJSON, "", 400, "not_json", "empty", none},
		{"not JSON", "", `{"type":"a"`, 400, "not_json", "at byte 11: the text ends", 0},
		{"a form", "", `type=a`, 400, "not_json", "at byte 1: 'y'", 0},
		{"invalid UTF-8", "", "{\"type\":\"a\xff\"}", 400, "not_json", "at byte 10: invalid UTF-8", 0},
		{"second is not JSON", "", `[{"type":"a"},{"type":01}]`, 400, "not_json", "at byte 9", 1},
		{"third line is not JSON", mediaNDJSON, "{\"type\":\"a\"}\n\n{\"type\":\"b\"}\n{\"type\":\"c\"", 400, "not_json", "the text ends", 2},
		{"two in a line", mediaNDJSON, `{"type":"a"}{"type":"b"}`, 400, "not_json", "at byte 12: '{'", 0},
		{"array without end", "", `[{"type":"a"},{"type":"b"}`, 400, "not_json", "at byte 26: the text ends", none},
		{"array without comma", "", `[{"type":"a"}{"type":"b"}]`, 400, "not_json", "at byte 13: '{'", none},
		{"array with a comma too many", "", `[{"type":"a"},]`, 400, "not_json", "at byte 0: the text ends where a value", 1},
		{"more behind the array", "", `[{"type":"a"}] x`, 400, "not_json", "at byte 15: 'x'", none},
		{"brackets mixed up", "", `[{"type":"a"]}`, 400, "not_json", "at byte 12", none},
		{"a bracket alone", "", `{"type":"a"}]`, 400, "not_json", "at byte 0: ']'", 1},
		{"not an object", "", `"tick"`, 422, "bad_envelope", "an envelope", 0},
		{"no type", "", `{"id":"1"}`, 422, "bad_envelope", "type is missing", 0},
		{"null", "", `[null]`, 422, "bad_envelope", "an envelope", 0},
		{"wrong type of type", "", `[{"type":"a"},{"type":7}]`, 422, "bad_envelope", "at byte 8: type must be a string, not a number", 1},
		{"wrong type of id", mediaNDJSON, "{\"type\":\"a\"}\n{\"type\":\"a\",\"id\":null}", 422, "bad_envelope", "id must be a string", 1},
		{"reserved", "", `[{"type":"a"},{"type":"b"},{"type":"__drain"}]`, 422, "reserved", "reserved", 2},
		{"an event too large", "", `[{"type":"a"},` + large(2<<10) + `]`, 413, "too_large", "larger than the spoke buffer", 1},
		{"a batch too large", "", strings.Repeat(large(1<<10), 9), 413, "too_large", "larger than the total buffer", none},
		{"a body too large", "", large(16 << 10), 413, "body_too_large", "16384 bytes", none},
		{"content type", "text/plain", `{"type":"a"}`, 415, "unsupported_media_type", `"text/plain"`, none},
		{"broken content type", "json;;", `{"type":"a"}`, 415, "unsupported_media_type", "application/json", none},
	} {
		t.Run(test.name, func(t *testing.T) {
			var header []string
			if test.contentType != "" {
				header = []string{"Content-Type", test.contentType}
			}
			r := f.do(t, http.MethodPost, "/v1/events", test.body, header...)
			require.Equal(t, test.status, r.status, r.body)
			e := r.wrong(t).Error
			require.Equal(t, test.code, e.Code)
			require.Contains(t, e.Message, test.message)
			if test.index == none {
				require.Nil(t, e.Index)
			} else {
				require.Equal(t, test.index, *e.Index)
			}
			require.Empty(t, f.events(&k), "a part of a batch was published")
		})
	}
	r := f.do(t, http.MethodPost, "/v1/events", `{"type":"a"}`, "Content-Encoding", "gzip")
	require.Equal(t, http.StatusUnsupportedMediaType, r.status)
}

// large is an event with a payload of about n bytes.
func large(n int) string { return `{"type":"large","payload":"` + strings.Repeat("x", n) + `"}` }

func TestPublishToAnOverloadedHubIsForLater(t *testing.T) {
	f := start(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 2 << 10, TotalBytes: 4 << 10}}, Config{})
	k := scriptSink{gate: make(chan struct{})}
	spoke := f.connect(t, &k) // its shard writes __welcome, and waits
	r := f.do(t, http.MethodPost, "/v1/events", "["+large(1500)+`,{"type":"b"}]`)
	require.Equal(t, http.StatusOK, r.status, r.body)
	for _, path := range []string{"/v1/events", "/v1/spokes/" + spoke.ID() + "/events"} {
		r = f.do(t, http.MethodPost, path, `[{"type":"c"},`+large(1500)+","+large(1500)+"]")
		require.Equal(t, http.StatusServiceUnavailable, r.status, r.body)
		require.Equal(t, "1", r.header.Get("Retry-After"))
		e := r.wrong(t).Error
		require.Equal(t, "overloaded", e.Code)
		require.Nil(t, e.Index)
	}
	close(k.gate)
	require.Len(t, f.events(&k), 2)

	f.hub.Close()
	r = f.do(t, http.MethodPost, "/v1/events", `{"type":"a"}`)
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.Equal(t, "closed", r.wrong(t).Error.Code)
}
