package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestTailSaysWhatIsNewAboutItsConnection(t *testing.T) {
	now := time.Unix(1000, 0)
	u := upsAndDowns{now: func() time.Time { return now }}
	next := func(s client.Status, after time.Duration, want string, awayMs int64) {
		t.Helper()
		now = now.Add(after)
		said, gap := u.next(s)
		require.Equal(t, want, said)
		if awayMs == 0 {
			require.Nil(t, gap)
			return
		}
		require.Equal(t, &awayGap{codec.Gap{Reason: "reconnect"}, awayMs}, gap)
	}
	up := client.Status{State: client.Connected}
	down := func(why string) client.Status { return client.Status{State: client.Waiting, Err: errors.New(why)} }

	next(down("client: no route"), 0, "waiting: no route", 0)
	next(down("client: no route"), time.Second, "", 0) // once is enough
	next(up, time.Second, "connected", 0)              // nothing is missing that it could have had
	next(down("client: gone"), time.Hour, "waiting: gone", 0)
	next(down("client: refused"), time.Second, "waiting: refused", 0)
	next(down("client: refused"), time.Second, "", 0)
	next(up, 1500*time.Millisecond, "connected again after 3.5s: what was published meanwhile is missing", 3500)
	next(down("client: gone"), time.Minute, "waiting: gone", 0)
	next(up, 20*time.Millisecond, "connected again after 20ms: what was published meanwhile is missing", 20)
}

// Who has no token is told the flag for it, and who gives up before there is a connection that this is so.
func TestTailSaysWhyThereWasNoConnection(t *testing.T) {
	spokes, _, _ := startHub(t, "--auth-jwt-key="+strings.Repeat("k", 32))
	require.ErrorContains(t, runTail(t.Context(), spokes, "", nil, 0, false, newLines()), "here it is --token TOKEN")
	err := runTail(t.Context(), spokes, "not.a.token", nil, 0, false, newLines())
	require.ErrorContains(t, err, "401 Unauthorized")
	require.NotContains(t, err.Error(), "--token")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	time.AfterFunc(100*time.Millisecond, cancel)
	saidBy(t, func() {
		require.EqualError(t, runTail(ctx, "ws://127.0.0.1:1/ws", "", nil, 0, false, newLines()), "ended before there was a connection")
	})
}

// A script that reads what a tail prints finds a gap where a connection was lost and made again.
func TestTailPrintsAGapWhereItWasAway(t *testing.T) {
	spokes, admin, _ := startHub(t)
	out := newLines()
	tailed := make(chan error, 1)
	said := saidBy(t, func() {
		go func() { tailed <- runTail(t.Context(), spokes+"?topic=tick:*", "", nil, 2, false, out) }()
		connected(t, admin, 1)
		require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "tick:1"}))
		var list struct{ Spokes []fanout.SpokeInfo }
		getJSON(t, admin+"/v1/spokes", &list)
		req, err := http.NewRequest(http.MethodDelete, admin+"/v1/spokes/"+list.Spokes[0].ID+"?code=4000", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Eventually(t, func() bool { return strings.Contains(out.String(), codec.TypeGap) }, time.Minute, time.Millisecond)
		require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "tick:2"}))
		require.NoError(t, <-tailed)
	})
	require.Regexp(t, `^\{"type":"tick","id":"1","payload":null}
\{"type":"__gap","id":"","payload":\{"dropped":0,"conflated":0,"reason":"reconnect","awayMs":\d+}}
\{"type":"tick","id":"2","payload":null}
$`, out.String())
	require.Regexp(t, `(?m)^hub tail: connected again after [^:]+: what was published meanwhile is missing$`, said)
	require.NotContains(t, said, "client:")
}
