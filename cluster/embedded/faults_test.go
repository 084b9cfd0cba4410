package embedded_test

import (
	"errors"
	"fmt"
	"io"
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
	"github.com/alkdev/hub/internal/faulty"
)

// faultyDialer connects through a proxy, the first connection by a script.
type faultyDialer struct {
	proxy *faulty.Proxy
	mu    sync.Mutex
	first *faulty.Script
}

func (d *faultyDialer) Dial(string, string) (net.Conn, error) {
	d.mu.Lock()
	var script faulty.Script
	if d.first != nil {
		script, d.first = *d.first, nil
	}
	d.mu.Unlock()
	return d.proxy.Dial(script)
}

// ledger holds what one spoke has got of a counted stream against what was dispatched: every event once and in
// order, and a gap wherever some are missing.
func ledger(t *testing.T, s *spoke, events int) (missing int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	next, gap := 0, false
	for _, e := range s.got {
		if e.Type == codec.TypeGap {
			gap = true
			continue
		}
		var n int
		if e.Type != "n" {
			continue
		}
		_, err := fmt.Sscanf(string(e.Payload), "[%d", &n)
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, next, "once, and in order")
		missing += n - next
		next = n + 1
	}
	require.Equal(t, events, next)
	require.True(t, gap || missing == 0, "%d are missing and no gap was announced", missing)
	return missing
}

// TestConnectionsToTheEngineAreCutAndStall: while a stream of events is dispatched at one hub the other's connection
// is cut, stalls for longer than pings take, or stalls until the server cuts the hub off as a slow consumer.
func TestConnectionsToTheEngineAreCutAndStall(t *testing.T) {
	for name, tt := range map[string]struct {
		script faulty.Script
		change func(*server.Options)
		size   int
	}{
		"cut":   {script: faulty.Script{Down: []faulty.Step{{After: 40_000, Fault: faulty.Cut}}}},
		"reset": {script: faulty.Script{Up: []faulty.Step{{After: 600, Fault: faulty.Reset}}}},
		"stall": {script: faulty.Script{Down: []faulty.Step{{After: 40_000, Fault: faulty.Pause, Pause: time.Minute}}}},
		"slow consumer": {
			script: faulty.Script{Down: []faulty.Step{{After: 40_000, Fault: faulty.Pause, Pause: time.Minute}}},
			change: func(o *server.Options) { o.MaxPending, o.MaxPayload = 64<<10, 32<<10 },
			size:   8 << 10,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.change == nil {
				tt.change = func(*server.Options) {}
			}
			nats := startServer(t, 0, tt.change)
			proxy, err := faulty.New(nats.Addr().String())
			require.NoError(t, err)
			defer proxy.Close()
			a := join(t, nats.ClientURL())
			b := joinBy(t, cluster.NATSConfig{
				Servers: []string{nats.ClientURL()}, Dialer: &faultyDialer{proxy: proxy, first: &tt.script},
				PingInterval: 200 * time.Millisecond, WriteTimeout: time.Second,
			})
			defer b.stop() // before its proxy
			ofA, ofB := a.spoke(t, "n:*"), b.spoke(t, "n:*")
			meet(t, a, b)
			time.Sleep(100 * time.Millisecond) // the server knows what b wants
			events := 0
			next := func() {
				payload := fmt.Appendf(nil, `[%d]`, events)
				if tt.size > 0 {
					payload = fmt.Appendf(nil, `[%d,"%s"]`, events, strings.Repeat("x", tt.size))
				}
				_, err := a.hub.Dispatch(codec.Envelope{Type: "n", ID: "1", Payload: payload})
				require.NoError(t, err)
				events++
			}
			eventually(t, "the connection is lost", func() bool {
				for range 20 {
					next()
				}
				eventually(t, "they are with those of the same hub", func() bool { return ofA.lastIs(events - 1) })
				return b.hub.ClusterInfo().Engine.Outages > 0
			})
			tt.size = 0
			eventually(t, "it is back", b.member.Up)
			eventually(t, "and the loss announced", func() bool { return ofB.gaps(t) > 0 })
			eventually(t, "events arrive again", func() bool {
				next()
				return ofB.lastIs(events - 1)
			})
			for range 50 {
				next()
			}
			eventually(t, "the rest arrives", func() bool { return ofA.lastIs(events-1) && ofB.lastIs(events-1) })
			require.Zero(t, ledger(t, ofA, events))
			t.Logf("%d of %d events were missing and announced", ledger(t, ofB, events), events)
			require.Zero(t, a.hub.ClusterInfo().Engine.NotForwarded)
		})
	}
}

// lastIs reports whether the last event of the counted stream is number n.
func (s *spoke) lastIs(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.got) - 1; i >= 0; i-- {
		if s.got[i].Type == "n" {
			p := string(s.got[i].Payload)
			return strings.HasPrefix(p, fmt.Sprintf("[%d]", n)) || strings.HasPrefix(p, fmt.Sprintf("[%d,", n))
		}
	}
	return false
}

// cable connects to an address until it is pulled.
type cable struct {
	ln     net.Listener
	target string
	mu     sync.Mutex
	pulled bool
	conns  []net.Conn
	wg     sync.WaitGroup
}

func newCable(t *testing.T, target string) *cable {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cable{ln: ln, target: target}
	c.wg.Go(func() {
		for {
			near, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			far, err := net.Dial("tcp", target)
			c.mu.Lock()
			if err != nil || c.pulled {
				_ = near.Close()
				if far != nil {
					_ = far.Close()
				}
			} else {
				c.conns = append(c.conns, near, far)
				c.wg.Go(func() { _, _ = io.Copy(near, far); _ = near.Close(); _ = far.Close() })
				c.wg.Go(func() { _, _ = io.Copy(far, near); _ = near.Close(); _ = far.Close() })
			}
			c.mu.Unlock()
		}
	})
	t.Cleanup(func() { _ = ln.Close(); c.pull(true); c.wg.Wait() })
	return c
}

// pull cuts what is connected, and, unless it is only for a moment, refuses what comes.
func (c *cable) pull(stay bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = stay
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cable) plug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = false
}

func TestAHubIsPartitionedFromTheOthers(t *testing.T) {
	a := start(t)
	cable := newCable(t, a.engine.Addr().String())
	b := start(t, cable.ln.Addr().String())
	ofA, ofB := a.spoke(t, "n:*"), b.spoke(t, "n:*")
	meet(t, a, b)
	events := 0
	next := func() {
		_, err := a.hub.Dispatch(codec.Envelope{Type: "n", ID: "1", Payload: fmt.Appendf(nil, `[%d]`, events)})
		require.NoError(t, err)
		events++
	}
	eventually(t, "events arrive", func() bool { next(); return ofB.lastIs(events - 1) })

	cable.pull(false) // for a moment, between two beats perhaps
	eventually(t, "the broken route is announced to both", func() bool { next(); return ofA.gaps(t) > 0 && ofB.gaps(t) > 0 })
	eventually(t, "events arrive again", func() bool { next(); return ofB.lastIs(events - 1) })

	before := ofB.gaps(t)
	cable.pull(true)
	eventually(t, "each counts the other as lost", func() bool {
		next()
		return state(a, b) == "lost" && state(b, a) == "lost"
	})
	require.True(t, a.member.Up(), "its own engine is there")
	id := ofB.Spoke().ID()
	_, err := a.hub.DispatchTo(id, codec.Envelope{Type: "own"})
	require.ErrorIs(t, err, fanout.ErrUnanswered, "b may have it still")
	cable.plug()
	eventually(t, "they are back", func() bool { next(); return state(a, b) == "live" && state(b, a) == "live" })
	// Once at least: a route that was back for less than half a second is not seen to break again.
	eventually(t, "and say so", func() bool { return ofB.gaps(t) > before })
	eventually(t, "events arrive again", func() bool { next(); return ofB.lastIs(events - 1) })
	eventually(t, "the rest arrives", func() bool { return ofA.lastIs(events - 1) })
	require.Zero(t, ledger(t, ofA, events))
	t.Logf("%d of %d events were missing and announced", ledger(t, ofB, events), events)
}

// state is what one hub says of another.
func state(of, other *node) string {
	for _, h := range of.hub.ClusterInfo().Hubs {
		if h.ID == other.member.ID() {
			return h.State
		}
	}
	return ""
}
