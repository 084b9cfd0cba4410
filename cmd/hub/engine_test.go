package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// TestThreeHubsActAsOne: events published at each hub by HTTP, and by a spoke that is relayed, reach the spokes of
// all of them once, and each publisher's in its order; a spoke is addressed and closed through another hub.
func TestThreeHubsActAsOne(t *testing.T) {
	const hubs, events = 3, 200
	addresses := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	var spokes, admins [hubs]string
	for i := range hubs {
		spokes[i], admins[i], _ = startHub(t, "--relay=others", "--engine=embedded", "--engine-beat=200ms", "--cluster-auth=hub:secret",
			"--cluster-listen="+addresses[i], "--cluster-peers="+strings.Join(addresses, ","))
	}
	var info fanout.ClusterInfo
	for i := range hubs {
		require.Eventually(t, func() bool {
			getJSON(t, admins[i]+"/v1/cluster", &info)
			return len(info.Hubs) == hubs && info.Engine.State == "up"
		}, 20*time.Second, 10*time.Millisecond)
	}
	var mu sync.Mutex
	var got [hubs]map[string][]int // by publisher
	var clients [hubs]*client.Client
	for i := range hubs {
		got[i] = make(map[string][]int)
		c, err := client.Dial(t.Context(), spokes[i], client.Options{})
		require.NoError(t, err)
		clients[i] = c
		t.Cleanup(func() { _ = c.Close(codec.CloseNormal, "") })
		_, err = c.AddListener("*", func(e codec.Envelope) {
			var n int
			if e.Decode(&n) == nil {
				mu.Lock()
				defer mu.Unlock()
				got[i][e.Type] = append(got[i][e.Type], n)
			}
		})
		require.NoError(t, err)
	}
	publish := func(i int, typ string, n int) {
		body := fmt.Sprintf(`{"type":%q,"id":"1","payload":%d}`, typ, n)
		resp, err := http.Post(admins[i]+"/v1/events", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	count := func(at int, typ string) int {
		mu.Lock()
		defer mu.Unlock()
		return len(got[at][typ])
	}
	for i := range hubs { // until each hub knows what the others want
		for at := range hubs {
			typ := fmt.Sprintf("probe-%d-%d", i, at)
			require.Eventually(t, func() bool { publish(i, typ, 0); return count(at, typ) > 0 }, 20*time.Second, 10*time.Millisecond)
		}
	}
	var publishing sync.WaitGroup
	for i := range hubs {
		publishing.Go(func() {
			for n := range events {
				publish(i, fmt.Sprintf("http-%d", i), n)
			}
		})
		publishing.Go(func() {
			for n := range events {
				e, err := codec.NewEnvelope(fmt.Sprintf("spoke-%d", i), "1", n)
				require.NoError(t, err)
				require.NoError(t, clients[i].Dispatch(e))
			}
		})
	}
	publishing.Wait()
	want := make([]int, events)
	for n := range want {
		want[n] = n
	}
	for at := range hubs {
		for i := range hubs {
			for _, typ := range []string{fmt.Sprintf("http-%d", i), fmt.Sprintf("spoke-%d", i)} {
				if typ == fmt.Sprintf("spoke-%d", at) {
					continue // its own
				}
				require.Eventually(t, func() bool { return count(at, typ) >= events }, 20*time.Second, 5*time.Millisecond)
				mu.Lock()
				require.Equal(t, want, got[at][typ], "at hub %d", at)
				mu.Unlock()
			}
		}
	}
	var list struct{ Spokes []fanout.SpokeInfo }
	getJSON(t, admins[2]+"/v1/spokes", &list)
	require.Len(t, list.Spokes, 1)
	to := admins[0] + "/v1/spokes/" + list.Spokes[0].ID
	resp, err := http.Post(to+"/events", "application/json", strings.NewReader(`{"type":"own","payload":1}`))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Eventually(t, func() bool { return count(2, "own") == 1 }, 20*time.Second, 5*time.Millisecond)
	req, err := http.NewRequest(http.MethodDelete, to, nil)
	require.NoError(t, err)
	resp, err = http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.Eventually(t, func() bool {
		resp, err := http.Post(to+"/events", "application/json", strings.NewReader(`{"type":"own"}`))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode == http.StatusNotFound
	}, 20*time.Second, 10*time.Millisecond)
}

func getJSON(t *testing.T, url string, v any) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(v))
}

func TestEngineFlagsThatDoNotGoTogether(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--engine=redis"}, "an engine is off, embedded, or addresses"},
		{[]string{"--engine=nats://user:secret@"}, "an engine is off, embedded, or addresses"},
		{[]string{"--engine=embedded", "--echo"}, "--echo"},
		{[]string{"--engine=embedded", "--engine-format=yoga"}, "--engine-format"},
		{[]string{"--cluster-peers=a:6222"}, "--cluster-peers: no effect without --engine embedded; set that, or leave this out"},
		{[]string{"--engine=embedded", "--cluster-auth=secret"}, "user:password"},
		{[]string{"--engine-required"}, "--engine-required: no effect without an --engine: embedded, or servers of NATS or Redis"},
		{[]string{"--engine=nats://a:1", "--engine-cert=x"}, "--engine-key"},
	} {
		_, err := parseServe(t, tt.args...)
		require.ErrorContains(t, err, tt.want, "%v", tt.args)
		require.NotContains(t, err.Error(), "secret", "no secret is repeated")
	}
}

// TestAHubWaitsForThoseThatItIsToldOf: within bounds, for they may not be there.
func TestAHubWaitsForThoseThatItIsToldOf(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		state string
		peers int
		hubs  int
		since time.Duration
		want  bool
	}{
		{"away", 0, 1, time.Hour, false},
		{"away", 3, 3, time.Hour, false},
		{"up", 0, 1, 0, true}, // of NATS and Redis nobody knows who is to be there
		{"up", 3, 1, 0, false},
		{"up", 3, 2, 0, false},
		{"up", 3, 3, 0, true}, // it is one of the three
		{"up", 1, 1, 0, false},
		{"up", 1, 2, 0, true},
		{"up", 3, 1, meetWait, true},
	} {
		c := engineConfig{required: true, peers: make([]string, test.peers)}
		info := fanout.ClusterInfo{Engine: fanout.EngineInfo{State: test.state, Since: now.Add(-test.since)}, Hubs: make([]fanout.HubInfo, test.hubs)}
		require.Equal(t, test.want, c.joined(info, now), "%+v", test)
	}
}

// TestHubsAreReadyWhenTheyHaveMet: at both ports, and they need no beat for it.
func TestHubsAreReadyWhenTheyHaveMet(t *testing.T) {
	peers := []string{freeAddress(t), freeAddress(t)}
	start := func(i int) (spokes, admin string) {
		spokes, admin, _ = startHub(t, "--engine=embedded", "--engine-required", "--engine-beat=1h", "--cluster-listen="+peers[i], "--cluster-peers="+strings.Join(peers, ","))
		u, err := url.Parse(spokes)
		require.NoError(t, err)
		return "http://" + u.Host, admin
	}
	ready := func(base string) int {
		resp, err := http.Get(base + "/readyz")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	began := time.Now()
	spokes, admin := start(0)
	if first := []int{ready(spokes), ready(admin)}; time.Since(began) < meetWait {
		require.Equal(t, []int{503, 503}, first, "it is alone")
	}
	spokes2, admin2 := start(1)
	var one, two fanout.ClusterInfo
	require.Eventually(t, func() bool {
		getJSON(t, admin+"/v1/cluster", &one)
		getJSON(t, admin2+"/v1/cluster", &two)
		return len(one.Hubs) == 2 && len(two.Hubs) == 2
	}, 20*time.Second, 10*time.Millisecond)
	for _, base := range []string{spokes, admin, spokes2, admin2} {
		require.Equal(t, 200, ready(base))
	}
}
