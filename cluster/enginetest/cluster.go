package enginetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// onceWhileSubscriptionsChange: spokes that keep their subscription get everything once and in order, whatever
// others on their hub do, which changes what the hub asks the engine for.
func onceWhileSubscriptionsChange(t *testing.T, b Bed) {
	for name, format := range map[string]cluster.Format{"hub": b.Hub, "yoga": b.Yoga} {
		if format == nil || name == "yoga" && !b.Exact {
			continue
		}
		t.Run(name, func(t *testing.T) {
			nodes := []*node{join(t, b, format), join(t, b, format), join(t, b, format)}
			var steady []*spoke
			for _, n := range nodes {
				steady = append(steady, n.spoke(t, "tick:1", "tick:2"), n.spoke(t, "tick:1", "tick:2", "tick:3"))
			}
			settleSpokes(t, nodes, steady...)
			stopc := make(chan struct{})
			var changing, publishing sync.WaitGroup
			for _, n := range nodes {
				restless := n.spoke(t, "other:1")
				changing.Go(func() {
					for {
						select {
						case <-stopc:
							return
						case <-time.After(time.Duration(rand.IntN(15)) * time.Millisecond):
						}
						p := patterns(t, []string{"*", "tick:*", "tick:1", "tick:9", "other:*"}[rand.IntN(5)])
						if rand.IntN(2) == 0 {
							restless.Spoke().Subscribe(p...)
						} else {
							restless.Spoke().Unsubscribe(p...)
						}
					}
				})
			}
			const events = 800
			for k, n := range nodes {
				publishing.Go(func() {
					for i := range events {
						dispatch(t, n, codec.Envelope{Type: "tick", ID: []string{"1", "2"}[i%2], Payload: number{k, i}.payload()})
						if i%10 == 0 {
							time.Sleep(time.Millisecond) // so that it takes longer than subscriptions linger
						}
					}
				})
			}
			publishing.Wait()
			close(stopc)
			changing.Wait()
			for _, s := range steady {
				for k := range nodes {
					eventually(t, "the last arrives", func() bool { return s.count(string(number{k, events - 1}.payload())) > 0 })
				}
				require.Equal(t, []int{events, events, events}, checkStream(t, s, len(nodes), true))
			}
			for _, n := range nodes {
				info := n.hub.ClusterInfo().Engine
				require.Zero(t, info.Shed+info.NotForwarded+info.Outages+info.Gaps)
			}
		})
	}
}

func anyTopic(t *testing.T, b Bed) {
	formats := []cluster.Format{b.Hub}
	if b.Yoga != nil {
		formats = append(formats, b.Yoga)
	}
	for _, format := range formats {
		nodes := []*node{join(t, b, format), join(t, b, format)}
		all := nodes[1].spoke(t)
		settleSpokes(t, nodes, all)
		topics := []codec.Envelope{
			{Type: "tick"}, {Type: "tick", ID: "42"}, {Type: "a.b", ID: "c.d"}, {Type: "*", ID: "?"}, {Type: "[a]", ID: `\`},
			{Type: "x y", ID: " "}, {Type: ">", ID: "*"}, {Type: "é", ID: "日本:語"}, {Type: `a"b`, ID: "\u0000\r\n"}, {Type: "tick*", ID: "tick:[^a-z]"},
			{Type: "-", ID: "_="}, {Type: "h?llo", ID: "h*llo"},
		}
		var exact []*spoke
		for i, e := range topics {
			topics[i].Payload = fmt.Appendf(nil, `"topic %d"`, i)
			exact = append(exact, nodes[1].spoke(t, e.Type+":"+e.ID))
		}
		all.Close() // from here on it is exact topics
		probe := nodes[1].spoke(t, "probe:1")
		eventually(t, "the subscriptions hold", func() bool {
			dispatch(t, nodes[0], codec.Envelope{Type: "probe", ID: "1", Payload: []byte(`1`)})
			return probe.count(`1`) > 0
		})
		for i, e := range topics {
			if _, ok := format.Subject(e.Type, e.ID); !ok {
				continue
			}
			eventually(t, fmt.Sprintf("%q arrives", e.Topic()), func() bool {
				dispatch(t, nodes[0], e)
				return exact[i].count(string(e.Payload)) > 0
			})
			for _, got := range exact[i].stream() {
				if !got.Reserved() && string(got.Payload) == string(e.Payload) {
					require.Equal(t, [2]string{e.Type, e.ID}, [2]string{got.Type, got.ID})
				}
			}
		}
		for _, n := range nodes {
			n.stop()
		}
	}
}

func targeted(t *testing.T, b Bed) {
	nodes := []*node{join(t, b, b.Hub), join(t, b, b.Hub)}
	s := nodes[1].spoke(t, "tick:1")
	settleSpokes(t, nodes, s)
	id := s.Spoke().ID()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const events = 200
	for i := range events { // broadcasts and targeted events in one order
		dispatch(t, nodes[0], codec.Envelope{Type: "tick", ID: "1", Payload: number{0, 2 * i}.payload()})
		found, err := nodes[0].hub.DispatchTo(id, codec.Envelope{Type: "own", Payload: number{0, 2*i + 1}.payload()})
		require.NoError(t, err)
		require.True(t, found)
	}
	require.NoError(t, nodes[0].hub.Carry(ctx, id, fanout.Order{Events: []codec.Envelope{{Type: "own", Payload: []byte(`"last"`)}}}))
	eventually(t, "the last arrives", func() bool { return s.count(`"last"`) == 1 })
	require.Equal(t, []int{2 * events}, checkStream(t, s, 1, true))
	require.NoError(t, nodes[0].hub.Carry(ctx, id, fanout.Order{}), "it is there")
	require.NoError(t, nodes[0].hub.Carry(ctx, id, fanout.Order{Close: &fanout.CloseOrder{Code: 4000, Reason: "kicked"}}))
	eventually(t, "it has gone", func() bool { return nodes[1].hub.Spoke(id) == nil })
	require.ErrorIs(t, nodes[0].hub.Carry(ctx, id, fanout.Order{Events: []codec.Envelope{{Type: "own"}}}), fanout.ErrNoSpoke)
	require.ErrorIs(t, nodes[0].hub.Carry(ctx, id, fanout.Order{}), fanout.ErrNoSpoke)
}

func takesLeave(t *testing.T, b Bed) {
	nodes := []*node{join(t, b, b.Hub), join(t, b, b.Hub)}
	s := nodes[0].spoke(t)
	settleSpokes(t, nodes, s)
	const events = 500
	for i := range events {
		dispatch(t, nodes[1], codec.Envelope{Type: "tick", ID: "1", Payload: number{0, i}.payload()})
	}
	nodes[1].stop()
	eventually(t, "all of it has arrived", func() bool { return s.count(string(number{0, events - 1}.payload())) == 1 })
	require.Equal(t, []int{events}, checkStream(t, s, 1, true))
	eventually(t, "it is forgotten", func() bool { return len(nodes[0].hub.ClusterInfo().Hubs) == 1 })
	require.Zero(t, s.gaps(t))
}

// notWanted: the engine does not send a hub what no spoke of it wants.
func notWanted(t *testing.T, b Bed) {
	nodes := []*node{join(t, b, b.Hub), join(t, b, b.Hub), join(t, b, b.Hub)}
	wants, other := nodes[1].spoke(t, "tick:1"), nodes[2].spoke(t, "tick:2")
	meet(t, nodes...)
	for i, s := range []*spoke{wants, other} {
		eventually(t, "a first event arrives", func() bool {
			dispatch(t, nodes[0], codec.Envelope{Type: "tick", ID: fmt.Sprint(i + 1), Payload: []byte(`"first"`)})
			return s.count(`"first"`) > 0
		})
	}
	dispatch(t, nodes[0], codec.Envelope{Type: "tick", ID: "2", Payload: []byte(`"all of it"`)})
	eventually(t, "no more is on its way", func() bool { return other.count(`"all of it"`) > 0 })
	before := nodes[2].hub.ClusterInfo().Engine
	for i := range 1000 {
		dispatch(t, nodes[0], codec.Envelope{Type: "tick", ID: "1", Payload: number{0, i}.payload()})
	}
	eventually(t, "the last arrives", func() bool { return wants.count("[0,999]") == 1 })
	after := nodes[2].hub.ClusterInfo().Engine
	require.Equal(t, before.Arrived+before.Foreign+before.Repeated, after.Arrived+after.Foreign+after.Repeated)
}

func lostWithTheServer(t *testing.T, b Bed) {
	underLoad(t, b, func() {
		b.Stop()
		time.Sleep(50 * time.Millisecond) // some events fall into it
		b.Start()
	})
}

// underLoad has a fault happen while events flow, and then holds that streams are in order, that what is missing was
// announced, that it all works again, and that the counters say how much it was.
func underLoad(t *testing.T, b Bed, fault func()) {
	nodes := []*node{join(t, b, b.Hub), join(t, b, b.Hub), join(t, b, b.Hub)}
	var spokes []*spoke
	for _, n := range nodes {
		spokes = append(spokes, n.spoke(t), n.spoke(t, "tick:*"), n.spoke(t, "tick:1"))
	}
	settleSpokes(t, nodes, spokes...)
	stopc := make(chan struct{})
	var publishing sync.WaitGroup
	stop := sync.OnceFunc(func() { close(stopc); publishing.Wait() })
	defer stop()
	published := make([]int, len(nodes))
	for k, n := range nodes {
		publishing.Go(func() {
			for ; ; published[k]++ {
				select {
				case <-stopc:
					return
				default:
				}
				dispatch(t, n, codec.Envelope{Type: "tick", ID: "1", Payload: number{k, published[k]}.payload()})
				if published[k]%2 == 1 {
					time.Sleep(time.Millisecond) // an outage of seconds is not to fill the memory
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	fault()
	for _, n := range nodes {
		eventually(t, "the fault is seen", func() bool { return n.hub.ClusterInfo().Engine.Outages > 0 })
	}
	for _, n := range nodes {
		eventually(t, "the engine is back", n.member.Up)
	}
	for _, s := range spokes {
		eventually(t, "the loss is announced", func() bool { return s.gaps(t) > 0 })
	}
	time.Sleep(100 * time.Millisecond)
	stop()
	for k, n := range nodes {
		for _, s := range spokes {
			last := fmt.Sprintf(`"last %d"`, k)
			eventually(t, "it all works again", func() bool {
				dispatch(t, n, codec.Envelope{Type: "tick", ID: "1", Payload: []byte(last)})
				return s.count(last) > 0
			})
		}
	}
	for i, s := range spokes {
		counts := checkStream(t, s, len(nodes), false)
		require.Equal(t, published[i/3], counts[i/3], "its own hub's events do not depend on the engine")
	}
	for _, n := range nodes {
		info := n.hub.ClusterInfo().Engine
		stats := n.hub.Stats()
		require.Equal(t, info.Forwarded+info.NotForwarded+info.Refused, stats.Dispatched-info.Arrived, "each event that was dispatched here")
		require.Zero(t, info.Shed)
	}
	total := uint64(0)
	for _, n := range nodes {
		total += n.hub.ClusterInfo().Engine.Forwarded
	}
	for _, n := range nodes {
		info := n.hub.ClusterInfo().Engine
		require.LessOrEqual(t, info.Arrived, total-info.Forwarded, "no event comes from nowhere")
	}
}
