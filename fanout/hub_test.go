package fanout

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/alkdev/hub/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDispatchReachesEverySpokeOnceInOrder(t *testing.T) {
	h := newHub(t, Config{Shards: 3})
	var sinks []*scriptSink
	for range 10 {
		_, k := connect(t, h)
		sinks = append(sinks, k)
	}
	var want []string
	for i := range 100 {
		require.Equal(t, 10, dispatch(t, h, event("tick", fmt.Sprint(i), 10)))
		want = append(want, fmt.Sprintf("tick:%d", i))
	}
	h.Flush()
	for _, k := range sinks {
		require.Equal(t, want, k.topics(t))
	}
}

func TestTargetedEventsAndBroadcastsKeepTheirOrder(t *testing.T) {
	h := newHub(t, Config{Shards: 1})
	a, ka := connect(t, h)
	b, kb := connect(t, h, "tick:*")
	_, kc := connect(t, h)
	var wantA, wantB, wantC []string
	for i := range 50 {
		name := fmt.Sprintf("tick:%d", i)
		_, err := h.DispatchExcept(a, event("tick", fmt.Sprint(i), 10))
		require.NoError(t, err)
		wantB, wantC = append(wantB, name), append(wantC, name)
		_, err = b.Dispatch(event("to", "b", 10))
		require.NoError(t, err)
		wantB = append(wantB, "to:b")
		if i%3 == 0 {
			_, err = a.Dispatch(event("to", "a", 10))
			require.NoError(t, err)
			dispatch(t, h, event("other", "", 10))
			wantA, wantC = append(wantA, "to:a", "other:"), append(wantC, "other:")
		}
	}
	h.Flush()
	require.Equal(t, wantA, ka.topics(t))
	require.Equal(t, wantB, kb.topics(t))
	require.Equal(t, wantC, kc.topics(t))
}

func TestWelcomeNamesTheSpoke(t *testing.T) {
	h := newHub(t, Config{Node: "n1"})
	s, k := connect(t, h)
	h.Flush()
	events, _ := k.events(t)
	require.Len(t, events, 1)
	require.Equal(t, codec.TypeWelcome, events[0].Type)
	require.JSONEq(t, `{"spoke":"`+s.ID()+`","node":"n1"}`, string(events[0].Payload))
	require.Same(t, s, h.Spoke(s.ID()))
	s.Detach(Cause{})
	require.Nil(t, h.Spoke(s.ID()))
}
