package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// list returns the spokes that a request lists.
func (f *fixture) list(t testing.TB, query string) listed {
	t.Helper()
	r := f.get(t, "/v1/spokes"+query)
	require.Equal(t, http.StatusOK, r.status, r.body)
	var l listed
	require.NoError(t, json.Unmarshal([]byte(r.body), &l))
	return l
}

func TestSpokesAreListedByWhatAilsThem(t *testing.T) {
	f := start(t, fanout.Config{Shards: 1, Limits: fanout.Limits{SpokeBytes: 1 << 10}, Policy: fanout.DropNewest}, Config{})
	require.Equal(t, listed{0, []fanout.SpokeInfo{}}, f.list(t, ""))
	idle := f.connect(t, &scriptSink{}, "none:*").ID()
	late := f.connect(t, &scriptSink{keep: true}, "early:*").ID()
	full := f.connect(t, &scriptSink{keep: true}, "tick:*").ID()
	dispatch := func(typ string, n int) {
		_, err := f.hub.Dispatch(codec.Envelope{Type: typ, Payload: []byte(`"` + strings.Repeat("x", n) + `"`)})
		require.NoError(t, err)
	}
	f.hub.Flush()         // __welcome is in flight, all else queues behind it
	dispatch("early", 10) // queued for longest
	dispatch("tick", 500) // queues most
	for range 3 {
		dispatch("tick", 700) // dropped
	}
	ids := func(query string) (ids []string) {
		l := f.list(t, query)
		require.Equal(t, 3, l.Total)
		for _, i := range l.Spokes {
			ids = append(ids, i.ID)
		}
		return ids
	}
	require.Equal(t, []string{full, late, idle}, ids(""))
	require.Equal(t, []string{full, late, idle}, ids("?sort=queued"))
	require.Equal(t, []string{late, full, idle}, ids("?sort=age"))
	require.Equal(t, full, ids("?sort=dropped")[0])
	require.Equal(t, []string{full, late}, ids("?sort=queued&limit=2"))
	require.Len(t, ids("?limit=10000"), 3)

	r := f.get(t, "/v1/spokes/"+full)
	require.Equal(t, http.StatusOK, r.status)
	var info fanout.SpokeInfo
	require.NoError(t, json.Unmarshal([]byte(r.body), &info))
	require.Equal(t, full, info.ID)
	require.Equal(t, "192.0.2.1:1234", info.Remote)
	require.Equal(t, []string{"tick:*"}, info.Topics)
	require.EqualValues(t, 3, info.Dropped)
	require.EqualValues(t, 4, info.Offered)
	require.Greater(t, info.Queued, int64(500))
	require.Positive(t, info.Age)
}

func TestSpokesRefuse(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	var k scriptSink
	id := f.connect(t, &k).ID()
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v1/spokes?sort=name", 400, "bad_query"},
		{"GET", "/v1/spokes?limit=0", 400, "bad_query"},
		{"GET", "/v1/spokes?limit=10001", 400, "bad_query"},
		{"GET", "/v1/spokes?limit=many", 400, "bad_query"},
		{"GET", "/v1/spokes?a;b", 400, "bad_query"},
		{"GET", "/v1/spokes/0000000000000000", 404, "no_spoke"},
		{"GET", "/v1/spokes/what", 404, "no_spoke"},
		{"POST", "/v1/spokes/0000000000000000/events", 404, "no_spoke"},
		{"DELETE", "/v1/spokes/0000000000000000", 404, "no_spoke"},
		{"DELETE", "/v1/spokes/" + id + "?code=1005", 400, "bad_query"},
		{"DELETE", "/v1/spokes/" + id + "?code=70000", 400, "bad_query"},
		{"DELETE", "/v1/spokes/" + id + "?code=%zz", 400, "bad_query"},
		{"DELETE", "/v1/spokes/" + id + "?reason=" + strings.Repeat("x", 124), 400, "bad_query"},
		{"DELETE", "/v1/spokes/" + id + "?reason=%ff", 400, "bad_query"},
	} {
		r := f.do(t, test.method, test.path, "{}")
		require.Equal(t, test.status, r.status, test.path)
		require.Equal(t, test.code, r.wrong(t).Error.Code, test.path)
	}
	f.hub.Flush()
	require.Empty(t, k.closed)
}

func TestDeleteClosesASpokeBehindWhatWasDispatched(t *testing.T) {
	for query, want := range map[string]closing{
		"":                             {Code: codec.CloseNormal, Reason: "closed by the operator"},
		"?code=4001&reason=come+again": {Code: 4001, Reason: "come again"},
	} {
		f := start(t, fanout.Config{}, Config{})
		var k, other scriptSink
		spoke := f.connect(t, &k)
		f.connect(t, &other)
		_, err := f.hub.Dispatch(codec.Envelope{Type: "last"})
		require.NoError(t, err)
		r := f.do(t, http.MethodDelete, "/v1/spokes/"+spoke.ID()+query, "")
		require.Equal(t, http.StatusAccepted, r.status)
		var got closing
		require.NoError(t, json.Unmarshal([]byte(r.body), &got))
		want.Spoke = spoke.ID()
		require.Equal(t, want, got)
		require.Equal(t, want, <-k.closed)
		require.Equal(t, []string{wire("last", "", "null")}, f.events(&k))
		require.Empty(t, other.closed)

		spoke.Detach(fanout.CauseOf(fanout.LocalSide, want.Code, want.Reason))
		r = f.do(t, http.MethodDelete, "/v1/spokes/"+spoke.ID(), "")
		require.Equal(t, http.StatusNotFound, r.status)
	}
}
