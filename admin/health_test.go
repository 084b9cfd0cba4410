package admin

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestLivezFailsWhileAShardIsBlocked(t *testing.T) {
	f := start(t, fanout.Config{Shards: 4}, Config{Patience: 50 * time.Millisecond})
	for range 4 {
		f.connect(t, &scriptSink{})
	}
	f.eventually(t, func() bool {
		r := f.get(t, "/livez")
		return r.status == http.StatusOK && r.body == `{"status":"alive"}`+"\n"
	})

	k := scriptSink{gate: make(chan struct{})}
	id := f.connect(t, &k).ID()
	for _, path := range []string{"/livez", "/livez", "/livez", "/v1/spokes", "/v1/spokes/" + id} {
		r := f.get(t, path)
		require.Equal(t, http.StatusServiceUnavailable, r.status, path)
		require.Equal(t, "stuck", r.wrong(t).Error.Code)
	}
	// What does not need an answer from the shards goes on.
	r := f.do(t, http.MethodPost, "/v1/events", `{"type":"tick"}`)
	require.JSONEq(t, answered(1, 5), r.body)
	require.Equal(t, http.StatusOK, f.get(t, "/metrics").status)
	require.Equal(t, http.StatusAccepted, f.do(t, http.MethodDelete, "/v1/spokes/"+id, "").status)

	close(k.gate)
	f.eventually(t, func() bool { return f.get(t, "/livez").status == http.StatusOK })
	require.Equal(t, codec.CloseNormal, (<-k.closed).Code)
}

func TestLineLetsOneWaitForTheRest(t *testing.T) {
	l, gate, ran := newLine(), make(chan struct{}), atomic.Int32{}
	fn := func() {
		ran.Add(1)
		<-gate
	}
	for range 10 {
		require.False(t, l.run(context.Background(), time.Millisecond, fn))
	}
	// The one may not have come to begin within its millisecond.
	require.Eventually(t, func() bool { return ran.Load() == 1 }, patience, time.Millisecond)
	close(gate)
	require.True(t, l.run(context.Background(), patience, fn))
	require.EqualValues(t, 2, ran.Load())
}

func TestReadyzAsksTheLoop(t *testing.T) {
	var ready atomic.Bool
	f := start(t, fanout.Config{}, Config{Loop: Loop{Ready: ready.Load}})
	r := f.get(t, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.Equal(t, "not_ready", r.wrong(t).Error.Code)
	ready.Store(true)
	r = f.get(t, "/readyz")
	require.Equal(t, http.StatusOK, r.status)
	require.JSONEq(t, `{"status":"ready"}`, r.body)

	f = start(t, fanout.Config{}, Config{})
	require.Equal(t, http.StatusOK, f.get(t, "/readyz").status)
}
