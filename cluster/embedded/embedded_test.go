package embedded_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/cluster/embedded"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/leak"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { leak.Main(m) }

// node is one hub of a cluster.
type node struct {
	hub    *fanout.Hub
	member *cluster.Member
	engine *embedded.Engine
}

func start(t *testing.T, peers ...string) *node {
	t.Helper()
	return startAs(t, embedded.Config{Peers: peers}, 200*time.Millisecond)
}

func startAs(t *testing.T, c embedded.Config, beat time.Duration) *node {
	t.Helper()
	id := fmt.Sprintf("h%x", time.Now().UnixNano())
	c.ID, c.Listen, c.Logger = id, "127.0.0.1:0", quiet
	engine, err := embedded.New(c)
	require.NoError(t, err)
	format, err := cluster.NATSHub("hub")
	require.NoError(t, err)
	member, err := cluster.New(cluster.Config{ID: id, Engine: engine, Format: format, Node: id, Logger: quiet, Beat: beat, Linger: 50 * time.Millisecond})
	require.NoError(t, err)
	hub, err := fanout.New(fanout.Config{Cluster: member, Logger: quiet})
	require.NoError(t, err)
	require.NoError(t, member.Start(hub))
	n := &node{hub: hub, member: member, engine: engine}
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	n.member.Close()
	n.hub.Close()
}

// spoke is a part of the test that takes part in a hub.
type spoke struct {
	*fanout.Local
	mu  sync.Mutex
	got []codec.Envelope
}

func (n *node) spoke(t *testing.T, topics ...string) *spoke {
	t.Helper()
	s := &spoke{}
	var patterns []codec.Pattern
	for _, text := range topics {
		p, err := codec.ParsePattern(text)
		require.NoError(t, err)
		patterns = append(patterns, p)
	}
	l, err := n.hub.Connect(func(e codec.Envelope) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, e)
	}, patterns...)
	require.NoError(t, err)
	s.Local = l
	t.Cleanup(l.Close)
	return s
}

// ids returns the ids of the events of a type, in their order.
func (s *spoke) ids(typ string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, e := range s.got {
		if e.Type == typ {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func meet(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		require.Eventually(t, func() bool { return len(n.hub.ClusterInfo().Hubs) == len(nodes) }, patience, 5*time.Millisecond)
	}
}

func TestAnEventReachesSpokesOfAllHubsOnceAndInOrder(t *testing.T) {
	a := start(t)
	b := start(t, a.engine.Addr().String())
	c := start(t, a.engine.Addr().String())
	meet(t, a, b, c)
	const events = 500
	var spokes []*spoke
	for _, n := range []*node{a, b, c} {
		for _, topics := range [][]string{nil, {"tick:*"}, {"tick:7", "tick:8"}} {
			spokes = append(spokes, n.spoke(t, topics...))
		}
	}
	for _, s := range spokes {
		for _, n := range []*node{a, b, c} {
			require.Eventually(t, func() bool {
				_, err := n.hub.Dispatch(codec.Envelope{Type: "tick", ID: "7"})
				require.NoError(t, err)
				return len(s.ids("tick")) > 0
			}, patience, 5*time.Millisecond)
		}
	}
	var publishing sync.WaitGroup
	for k, n := range []*node{a, b, c} {
		publishing.Go(func() {
			for i := range events {
				e := codec.Envelope{Type: "tick", ID: []string{"7", "8"}[i%2], Payload: fmt.Appendf(nil, `[%d,%d]`, k, i)}
				for {
					_, err := n.hub.Dispatch(e)
					if err == nil {
						break
					}
					require.ErrorIs(t, err, fanout.ErrOverloaded)
				}
			}
		})
	}
	publishing.Wait()
	for n, s := range spokes {
		require.Eventually(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.got) > 0 && count(s.got, 0)+count(s.got, 1)+count(s.got, 2) == 3*events
		}, patience, 5*time.Millisecond, "spoke %d", n)
		for k := range 3 {
			next := 0
			for _, e := range s.got {
				var from, i int
				if _, err := fmt.Sscanf(string(e.Payload), "[%d,%d]", &from, &i); err == nil && from == k {
					require.Equal(t, next, i, "spoke %d, from hub %d", n, k)
					next++
				}
			}
		}
	}
	for _, n := range []*node{a, b, c} {
		info := n.hub.ClusterInfo()
		require.Zero(t, info.Engine.Shed)
		require.Zero(t, info.Engine.NotForwarded)
		require.Zero(t, info.Engine.Foreign)
	}
}

func count(events []codec.Envelope, from int) (n int) {
	prefix := fmt.Sprintf("[%d,", from)
	for _, e := range events {
		if len(e.Payload) > len(prefix) && string(e.Payload[:len(prefix)]) == prefix {
			n++
		}
	}
	return n
}
