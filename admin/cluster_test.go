package admin

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// scriptCluster is another hub that answers as the test says.
type scriptCluster struct {
	answer  error // of Send, by the other hub
	refuses error // of Send at once, and of Forward
	alone   bool  // Forward does not forward
	orders  []fanout.Order
	spokes  []string
}

func (*scriptCluster) ID() string              { return "here" }
func (*scriptCluster) Want(codec.Pattern, int) {}
func (c *scriptCluster) Forward(...*codec.Frame) (bool, error) {
	return !c.alone && c.refuses == nil, c.refuses
}

func (c *scriptCluster) Send(id string, o fanout.Order, answer func(error)) error {
	if c.refuses != nil {
		return c.refuses
	}
	c.orders, c.spokes = append(c.orders, o), append(c.spokes, id)
	answer(c.answer)
	return nil
}

func (*scriptCluster) Info() fanout.ClusterInfo {
	return fanout.ClusterInfo{
		Engine: fanout.EngineInfo{Kind: "script", State: "up", Forwarded: 7, Refusals: 3},
		Hubs:   []fanout.HubInfo{{ID: "here", State: "live"}, {ID: "there", Node: "b", State: "lost"}},
	}
}

func TestASpokeOfAnotherHubIsReachedThroughAnyHub(t *testing.T) {
	c := &scriptCluster{}
	f := start(t, fanout.Config{Cluster: c}, Config{})
	const id = "00000000deadbeef-there"
	r := f.do(t, "POST", "/v1/spokes/"+id+"/events", `{"type":"tick","id":"1"}`)
	require.Equal(t, http.StatusOK, r.status)
	require.JSONEq(t, `{"accepted":1,"matched":1}`, r.body)
	r = f.do(t, "DELETE", "/v1/spokes/"+id+"?code=4000&reason=gone", "")
	require.Equal(t, http.StatusAccepted, r.status)
	require.JSONEq(t, `{"spoke":"`+id+`","code":4000,"reason":"gone"}`, r.body)
	require.Equal(t, []string{id, id}, c.spokes)
	require.Equal(t, []fanout.Order{
		{Events: []codec.Envelope{{Type: "tick", ID: "1"}}},
		{Close: &fanout.CloseOrder{Code: 4000, Reason: "gone"}},
	}, c.orders)
}

func TestASpokeThatNoHubHasIsNotFoundAndOneThatNobodyKnowsOfIsATimeout(t *testing.T) {
	c := &scriptCluster{}
	f := start(t, fanout.Config{Cluster: c}, Config{})
	for _, tt := range []struct {
		answer, refuses error
		status          int
		code            string
	}{
		{fanout.ErrNoSpoke, nil, http.StatusNotFound, "no_spoke"},
		{nil, fanout.ErrNoSpoke, http.StatusNotFound, "no_spoke"},
		{fanout.ErrUnanswered, nil, http.StatusGatewayTimeout, "unanswered"},
		{nil, fanout.ErrUnanswered, http.StatusGatewayTimeout, "unanswered"},
		{nil, fanout.ErrNotForwarded, http.StatusServiceUnavailable, "not_forwarded"},
		{fanout.ErrOverloaded, nil, http.StatusServiceUnavailable, codec.CodeOverloaded},
		{&fanout.BatchError{Index: 0, Err: fanout.ErrTooLarge}, nil, http.StatusRequestEntityTooLarge, codec.CodeTooLarge},
		{errors.New("other"), nil, http.StatusUnprocessableEntity, codec.CodeBadEnvelope},
	} {
		c.answer, c.refuses = tt.answer, tt.refuses
		r := f.do(t, "POST", "/v1/spokes/00000000deadbeef-there/events", `{"type":"tick"}`)
		require.Equal(t, tt.status, r.status, "%v %v", tt.answer, tt.refuses)
		require.Equal(t, tt.code, r.wrong(t).Error.Code)
	}
	for _, id := range []string{"00000000deadbeef-here", "00000000deadbeef", "x"} {
		require.Equal(t, http.StatusNotFound, f.do(t, "POST", "/v1/spokes/"+id+"/events", `{"type":"tick"}`).status, "%s would be this hub's", id)
	}
}

func TestASpokeOfAnotherHubIsNotShownAsGone(t *testing.T) {
	c := &scriptCluster{}
	f := start(t, fanout.Config{Cluster: c}, Config{})
	for _, tt := range []struct {
		answer, refuses error
		status          int
		code            string
	}{
		{nil, nil, http.StatusMisdirectedRequest, "elsewhere"},
		{fanout.ErrNoSpoke, nil, http.StatusNotFound, "no_spoke"},
		{nil, fanout.ErrNoSpoke, http.StatusNotFound, "no_spoke"}, // no such hub
		{fanout.ErrUnanswered, nil, http.StatusGatewayTimeout, "unanswered"},
		{nil, fanout.ErrNotForwarded, http.StatusServiceUnavailable, "not_forwarded"},
	} {
		c.answer, c.refuses = tt.answer, tt.refuses
		r := f.get(t, "/v1/spokes/00000000deadbeef-there")
		require.Equal(t, tt.status, r.status, "%v %v", tt.answer, tt.refuses)
		require.Equal(t, tt.code, r.wrong(t).Error.Code)
		if tt.code == "elsewhere" {
			require.Contains(t, r.wrong(t).Error.Message, `at the hub "b"`)
		}
	}
	require.Equal(t, http.StatusNotFound, f.get(t, "/v1/spokes/00000000deadbeef-here").status)
	for _, o := range c.orders {
		require.Equal(t, fanout.Order{}, o, "who looks changes nothing")
	}
}

func TestPublishSaysWhatOtherHubsDoNotGet(t *testing.T) {
	c := &scriptCluster{}
	f := start(t, fanout.Config{Cluster: c}, Config{})
	publish := func() reply { return f.do(t, "POST", "/v1/events", `{"type":"tick"}`) }
	require.JSONEq(t, `{"accepted":1,"matched":0}`, publish().body)
	c.alone = true
	require.JSONEq(t, `{"accepted":1,"matched":0,"notForwarded":true}`, publish().body)
	c.refuses = fanout.ErrNotForwarded
	r := publish()
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.Equal(t, "not_forwarded", r.wrong(t).Error.Code)
	require.Zero(t, f.hub.Stats().PendingBytes, "what was refused waits for nothing")
}

func TestTheClusterIsShown(t *testing.T) {
	f := start(t, fanout.Config{Cluster: &scriptCluster{}}, Config{})
	r := f.get(t, "/v1/cluster")
	require.Equal(t, http.StatusOK, r.status)
	require.Contains(t, r.body, `"forwarded":7`)
	metrics := f.get(t, "/metrics").body
	for _, line := range []string{
		`hub_engine_up{engine="script"} 1`, `hub_engine_forwarded_events_total 7`, `hub_engine_refusals_total 3`,
		`hub_cluster_hubs{state="live"} 1`, `hub_cluster_hubs{state="lost"} 1`,
	} {
		require.Contains(t, metrics, line+"\n")
	}
	alone := start(t, fanout.Config{Node: "a"}, Config{})
	require.JSONEq(t, `{"engine":{"kind":"off","state":"off","topics":0,"forwarded":0,"notForwarded":0,"refused":0,"arrived":0,
		"repeated":0,"shed":0,"foreign":0,"gaps":0,"outages":0,"refusals":0,"outgoingBytes":0,"incomingBytes":0},
		"hubs":[{"id":"","node":"a","state":"live","spokes":0,"dispatchedPerSec":0,"deliveriesPerSec":0}]}`, alone.get(t, "/v1/cluster").body)
	require.NotContains(t, alone.get(t, "/metrics").body, "hub_engine")
}
