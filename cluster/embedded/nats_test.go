package embedded_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// startServer runs a NATS server of its own; port 0 is any.
func startServer(t *testing.T, port int, change ...func(*server.Options)) *server.Server {
	t.Helper()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	o := &server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true}
	for _, fn := range change {
		fn(o)
	}
	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(patience))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func portOf(s *server.Server) int { return s.Addr().(*net.TCPAddr).Port }

// join starts a hub that is joined to others by the server at an address.
func join(t *testing.T, url string, change ...func(*cluster.Config)) *node {
	t.Helper()
	return joinBy(t, cluster.NATSConfig{Servers: []string{url}, PingInterval: 200 * time.Millisecond, WriteTimeout: time.Second}, change...)
}

func joinBy(t *testing.T, nc cluster.NATSConfig, change ...func(*cluster.Config)) *node {
	t.Helper()
	nc.Logger = quiet
	engine, err := cluster.NATS(nc)
	require.NoError(t, err)
	format, err := cluster.NATSHub("hub")
	require.NoError(t, err)
	c := cluster.Config{Engine: engine, Format: format, Logger: quiet, Beat: 200 * time.Millisecond, Linger: 50 * time.Millisecond, Timeout: patience}
	for _, fn := range change {
		fn(&c)
	}
	member, err := cluster.New(c)
	require.NoError(t, err)
	hub, err := fanout.New(fanout.Config{Cluster: member, Logger: quiet})
	require.NoError(t, err)
	require.NoError(t, member.Start(hub))
	n := &node{hub: hub, member: member}
	t.Cleanup(n.stop)
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 2*time.Millisecond, what)
}

// settle dispatches at each hub until every spoke has had something from each.
func settle(t *testing.T, nodes []*node, spokes []*spoke) {
	t.Helper()
	meet(t, nodes...)
	for k, n := range nodes {
		for _, s := range spokes {
			eventually(t, "a first event arrives", func() bool {
				_, err := n.hub.Dispatch(codec.Envelope{Type: "tick", ID: "1", Payload: fmt.Appendf(nil, `"settle %d"`, k)})
				require.NoError(t, err)
				return s.has(fmt.Sprintf(`"settle %d"`, k))
			})
		}
	}
	for _, n := range nodes {
		n.hub.Flush()
	}
}

func (s *spoke) has(payload string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.got {
		if string(e.Payload) == payload {
			return true
		}
	}
	return false
}

// gaps returns how many gaps for the engine the spoke has been told of.
func (s *spoke) gaps(t *testing.T) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.got {
		var gap codec.Gap
		if e.Type == codec.TypeGap {
			require.NoError(t, e.Decode(&gap))
			require.Equal(t, fanout.GapEngine, gap.Reason)
			n++
		}
	}
	return n
}

func dispatch(t *testing.T, n *node, payload string) fanout.Receipt {
	t.Helper()
	r, err := n.hub.Dispatch(codec.Envelope{Type: "tick", ID: "1", Payload: []byte(payload)})
	require.NoError(t, err)
	return r
}

func TestWhenTheEngineIsAwayLocalEventsGoOnAndTheRestIsAnnounced(t *testing.T) {
	nats := startServer(t, 0)
	port, url := portOf(nats), nats.ClientURL()
	a, b := join(t, url), join(t, url)
	ofA, ofB, idle := a.spoke(t, "tick:1"), b.spoke(t), a.spoke(t)
	idle.Spoke().Unsubscribe(codec.Everything)
	settle(t, []*node{a, b}, []*spoke{ofA, ofB})
	// A spoke that is there as soon as its hub may have been told that the engine has come.
	first, firstOfB, firstIdle := ofA.gaps(t), ofB.gaps(t), idle.gaps(t)

	nats.Shutdown()
	nats.WaitForShutdown()
	eventually(t, "both know", func() bool { return !a.member.Up() && !b.member.Up() })
	require.True(t, dispatch(t, a, `"alone"`).NotForwarded)
	eventually(t, "local events go on", func() bool { return ofA.has(`"alone"`) })
	info := a.hub.ClusterInfo().Engine
	require.Equal(t, "away", info.State)
	require.EqualValues(t, 1, info.Outages)
	require.EqualValues(t, 1, info.NotForwarded)
	require.Equal(t, first, ofA.gaps(t), "it is not over yet")

	startServer(t, port)
	eventually(t, "both are back", func() bool { return a.member.Up() && b.member.Up() })
	eventually(t, "both are told", func() bool { return ofA.gaps(t) > first && ofB.gaps(t) > firstOfB })
	told := time.Now()
	eventually(t, "each has heard that the other was cut off as well", func() bool { return lastSeen(a, b).After(told) && lastSeen(b, a).After(told) })
	later := a.spoke(t)
	eventually(t, "what was asked for is asked for again", func() bool {
		dispatch(t, b, `"again"`)
		return ofA.has(`"again"`) && later.has(`"again"`)
	})
	require.False(t, ofB.has(`"alone"`))
	require.Zero(t, later.gaps(t), "it came afterwards")
	require.Equal(t, firstIdle, idle.gaps(t), "it is subscribed to nothing")
}

// lastSeen is when one hub has last heard of another.
func lastSeen(of, other *node) time.Time {
	for _, h := range of.hub.ClusterInfo().Hubs {
		if h.ID == other.member.ID() {
			return h.LastSeen
		}
	}
	return time.Time{}
}

func TestWhileTheEngineIsAwayPublishersCanBeRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := ln.Addr().(*net.TCPAddr).Port
	require.NoError(t, ln.Close())
	a := join(t, fmt.Sprintf("nats://127.0.0.1:%d", port), func(c *cluster.Config) { c.Refuse = true })
	s := a.spoke(t)
	_, err = a.hub.Dispatch(codec.Envelope{Type: "tick"})
	require.ErrorIs(t, err, fanout.ErrNotForwarded)
	_, err = a.hub.DispatchBatch([]codec.Envelope{{Type: "tick"}, {Type: "tick"}})
	require.ErrorIs(t, err, fanout.ErrNotForwarded)
	require.EqualValues(t, 3, a.hub.ClusterInfo().Engine.Refused)
	require.Zero(t, a.hub.Stats().PendingBytes)
	startServer(t, port) // an engine that comes later than the hub
	eventually(t, "it is taken", func() bool {
		_, err := a.hub.Dispatch(codec.Envelope{Type: "tick", Payload: []byte(`1`)})
		return err == nil
	})
	eventually(t, "it arrives", func() bool { return s.has(`1`) })
}

func TestASpokeIsReachedFromAnyHub(t *testing.T) {
	nats := startServer(t, 0)
	a, b := join(t, nats.ClientURL()), join(t, nats.ClientURL())
	s := b.spoke(t, "tick:1")
	settle(t, []*node{a, b}, []*spoke{s})
	id := s.Spoke().ID()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range 200 { // broadcasts and targeted events in one order
		dispatch(t, a, fmt.Sprint(2*i))
		found, err := a.hub.DispatchTo(id, codec.Envelope{Type: "own", Payload: fmt.Append(nil, 2*i+1)})
		require.NoError(t, err)
		require.True(t, found)
	}
	require.NoError(t, a.hub.Carry(ctx, id, fanout.Order{Events: []codec.Envelope{{Type: "own", Payload: []byte(`"last"`)}}}))
	eventually(t, "the last arrives", func() bool { return s.has(`"last"`) })
	next := 0
	s.mu.Lock()
	for _, e := range s.got {
		var n int
		if _, err := fmt.Sscan(string(e.Payload), &n); err == nil {
			require.Equal(t, next, n)
			next++
		}
	}
	s.mu.Unlock()
	require.Equal(t, 400, next)

	// Who is not there is known at once, whatever it was.
	gone := b.spoke(t)
	gone.Close()
	eventually(t, "it has gone", func() bool { return b.hub.Spoke(gone.Spoke().ID()) == nil })
	require.ErrorIs(t, a.hub.Carry(ctx, gone.Spoke().ID(), fanout.Order{Events: []codec.Envelope{{Type: "own"}}}), fanout.ErrNoSpoke)
	eventually(t, "there is no such hub", func() bool {
		return fanout.ErrNoSpoke == a.hub.Carry(ctx, "0000000000000000-nobody", fanout.Order{Events: []codec.Envelope{{Type: "own"}}})
	})
	large := fmt.Appendf(nil, `"%s"`, strings.Repeat("x", fanout.DefaultSpokeBytes))
	err := a.hub.Carry(ctx, id, fanout.Order{Events: []codec.Envelope{{Type: "own"}, {Type: "own", Payload: large}}})
	var one *fanout.BatchError
	require.ErrorAs(t, err, &one, "what the other hub says is passed on")
	require.Equal(t, 1, one.Index)
	require.ErrorIs(t, err, fanout.ErrTooLarge)

	// It can be closed from elsewhere, behind what was sent to it before.
	require.NoError(t, a.hub.Carry(ctx, id, fanout.Order{Close: &fanout.CloseOrder{Code: 4000, Reason: "kicked"}}))
	eventually(t, "it has gone", func() bool { return b.hub.Spoke(id) == nil })

	// A hub that falls silent without a word leaves the question open.
	lost := b.spoke(t)
	eventually(t, "it is there", func() bool {
		return a.hub.Carry(ctx, lost.Spoke().ID(), fanout.Order{Events: []codec.Envelope{{Type: "own"}}}) == nil
	})
	nats.Shutdown()
	eventually(t, "nobody knows", func() bool {
		_, err := a.hub.DispatchTo(lost.Spoke().ID(), codec.Envelope{Type: "own"})
		return err != nil
	})
	require.ErrorIs(t, a.hub.Carry(ctx, lost.Spoke().ID(), fanout.Order{Events: []codec.Envelope{{Type: "own"}}}), fanout.ErrUnanswered)
}

func TestAHubThatTakesItsLeaveIsMissedByNobody(t *testing.T) {
	a := start(t)
	b := start(t, a.engine.Addr().String())
	s := a.spoke(t)
	settle(t, []*node{a, b}, []*spoke{s})
	var publishing sync.WaitGroup
	const events = 500
	publishing.Go(func() {
		for i := range events {
			dispatch(t, b, fmt.Sprint(i))
		}
	})
	publishing.Wait()
	b.stop()
	eventually(t, "all of it has arrived", func() bool { return s.has(fmt.Sprint(events - 1)) })
	eventually(t, "it is forgotten", func() bool { return len(a.hub.ClusterInfo().Hubs) == 1 })
	c := start(t, a.engine.Addr().String()) // and another one comes
	eventually(t, "what it dispatches arrives", func() bool { dispatch(t, c, `"new"`); return s.has(`"new"`) })
	time.Sleep(600 * time.Millisecond) // two looks at the routes: nothing is to happen
	require.Zero(t, s.gaps(t))
	require.Zero(t, a.hub.ClusterInfo().Engine.Gaps)
}
