package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func (f *fixture) dispatch(t testing.TB, typ, payload string) {
	t.Helper()
	_, err := f.hub.Dispatch(codec.Envelope{Type: typ, ID: "1", Payload: []byte(payload)})
	require.NoError(t, err)
}

func TestTailTellsWhatSpokesGet(t *testing.T) {
	f := start(t, fanout.Config{Explicit: true}, Config{})
	all := f.openPath(t, "/v1/events?from=hub")
	some := f.openPath(t, "/v1/events?from=hub&topic=tick:1&topic=order:*")
	f.dispatch(t, "tick", "{\"price\":\n7.00}")
	f.dispatch(t, "other", `1`)
	f.dispatch(t, "order", `"`+strings.Repeat("x", 200<<10)+`"`) // more than one write
	f.dispatch(t, "last", `2`)
	f.dispatch(t, "order", `3`)
	types := func(r *reader, n int) (types []string) {
		for range n {
			rec := r.next(t)
			require.Equal(t, "event", rec.Kind)
			require.Equal(t, "1", rec.Event.ID)
			types = append(types, rec.Event.Type)
		}
		return types
	}
	rec := all.next(t)
	require.Equal(t, `{"price": 7.00}`, string(rec.Event.Payload), "as it was, in one line")
	require.Equal(t, []string{"other", "order", "last", "order"}, types(all, 4))
	require.Equal(t, []string{"tick", "order", "order"}, types(some, 3))
	require.Equal(t, 2, f.hub.Stats().Spokes, "the hub takes them for spokes")
	l := f.list(t, "")
	require.True(t, strings.HasPrefix(l.Spokes[0].Remote, "tail for 127.0.0.1:"), l.Spokes[0].Remote)

	require.NoError(t, all.resp.Body.Close())
	require.NoError(t, some.resp.Body.Close())
	require.Eventually(t, func() bool { return f.hub.Stats().Spokes == 0 }, patience, time.Millisecond)
}

// A gap of the hub's stands in its place, also one of which nobody knows how large it is, and costs no event behind it.
func TestTailShowsTheGapsOfTheHub(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	r := f.openPath(t, "/v1/events?from=hub")
	f.dispatch(t, "before", `1`)
	require.Equal(t, "before", r.next(t).Event.Type)
	require.Equal(t, 1, f.hub.Gap(time.Now().Add(time.Minute), 0, fanout.GapEngine))
	require.Equal(t, 1, f.hub.Gap(time.Now().Add(time.Minute), 3, fanout.GapEngine))
	f.dispatch(t, "behind", `2`)
	dropped := uint64(0)
	rec := r.next(t)
	for ; rec.Kind == fanout.RecordGap; rec = r.next(t) { // one, or two
		require.Equal(t, fanout.GapEngine, rec.Reason)
		dropped += rec.Dropped
	}
	require.EqualValues(t, 3, dropped)
	require.Equal(t, "behind", rec.Event.Type)
}

func TestTailRefuses(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	for path, code := range map[string]string{
		"/v1/events?from=nowhere":         "bad_query",
		"/v1/events?from=hub&topic=a%00b": "bad_topic",
	} {
		r := f.get(t, path)
		require.Equal(t, http.StatusBadRequest, r.status, path)
		require.Equal(t, code, r.wrong(t).Error.Code)
	}
	f.hub.Close()
	r := f.get(t, "/v1/events?from=hub")
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.Equal(t, "closed", r.wrong(t).Error.Code)
}

func TestTailSaysWhyItEnds(t *testing.T) {
	for reason, end := range map[string]func(*fixture){
		"closed":   func(f *fixture) { f.hub.Spokes()[0].Close(codec.CloseNormal, "closed by the operator") },
		"shutdown": func(f *fixture) { f.hub.Close() },
	} {
		t.Run(reason, func(t *testing.T) {
			f := start(t, fanout.Config{}, Config{})
			r := f.openPath(t, "/v1/events?from=hub")
			f.dispatch(t, "last", `1`)
			f.hub.Flush()
			end(f)
			require.Equal(t, "last", r.next(t).Event.Type)
			require.Equal(t, record{Kind: "end", Reason: reason}, r.next(t))
		})
	}
}

// A tail that nobody reads keeps so much and no more, counts the rest, and costs no spoke anything.
func TestTailOfAFloodIsASample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, err := fanout.New(fanout.Config{Shards: 1, Limits: fanout.Limits{SpokeBytes: 1 << 20}})
		require.NoError(t, err)
		defer hub.Close()
		tail, err := newTail(hub, "a test", nil)
		require.NoError(t, err)
		defer tail.Close()
		n := 0
		flood := func(events int, payload string) {
			for range events {
				_, err := hub.Dispatch(codec.Envelope{Type: "tick", ID: fmt.Sprint(n), Payload: []byte(payload)})
				require.NoError(t, err)
				n++
			}
			hub.Flush()
		}
		next := func() (rec record) {
			b, err := tail.Next(t.Context())
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(b, &rec))
			return rec
		}
		flood(2*tailPerSec, `1`)
		for i := range tailPerSec {
			require.Equal(t, fmt.Sprint(i), next().Event.ID)
		}
		began := time.Now()
		done, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = tail.Next(done)
		require.ErrorIs(t, err, context.Canceled, "it is not known yet how much is missing")
		flood(1, `1`)
		require.Equal(t, record{Kind: "gap", Dropped: tailPerSec + 1, Reason: "tail"}, next())
		require.Equal(t, time.Second, time.Since(began))

		n = 0
		flood(10, `"`+strings.Repeat("x", tailBytes/4)+`"`)
		for i := range 3 {
			require.Equal(t, fmt.Sprint(i), next().Event.ID)
		}
		require.Equal(t, record{Kind: "gap", Dropped: 7, Reason: "tail"}, next())
		flood(1, `"`+strings.Repeat("x", tailBytes)+`"`)
		require.Equal(t, "10", next().Event.ID, "one may be larger than all that is kept")
		i := tail.spoke.Info()
		require.Equal(t, i.Offered, i.Delivered, "to the hub it is never slow")
	})
}
