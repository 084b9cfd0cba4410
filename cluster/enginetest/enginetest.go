// Package enginetest is what every engine of a cluster has to pass, with a real server. Its tests run from those
// of the engines.
package enginetest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/fanout"
)

// Bed is a server that a test has for itself.
type Bed struct {
	// Engine returns a new engine that is to connect to the server. It gives a silent one up after a second or so.
	Engine func(t *testing.T) cluster.Engine
	// Hub and Yoga are the formats of the engine. Yoga may be nil.
	Hub, Yoga cluster.Format
	// Exact: also without numbers in the messages no event comes twice.
	Exact bool

	Stop  func() // ends the server, at once
	Start func() // has it run again, at the same address
	// What else can happen to the connections that there are: each by name.
	Faults map[string]Fault
}

// Fault is what breaks every engine's connection.
type Fault struct {
	Engine func(t *testing.T) cluster.Engine // in place of that of the Bed; nil for that
	Do     func(t *testing.T)                // nil if it comes by itself
}

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// Run runs all tests, each with a server of its own.
func Run(t *testing.T, newBed func(t *testing.T) Bed) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, b Bed)
	}{
		{"what an engine publishes does not come back to it", doesNotComeBack},
		{"messages of one engine come in their order", inOrder},
		{"an engine that is away takes nothing, and asks again for everything", asksAgain},
		{"an event reaches every spoke that wants it once while subscriptions change", onceWhileSubscriptionsChange},
		{"any topic arrives as what it is", anyTopic},
		{"a spoke is reached from any hub", targeted},
		{"a hub that takes its leave is missed by nobody", takesLeave},
		{"what nobody on a hub wants does not come there", notWanted},
		{"what is lost with the server is announced", lostWithTheServer},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, newBed(t))
		})
	}
	t.Run("faults", func(t *testing.T) {
		for name := range newBed(t).Faults {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				f := b.Faults[name]
				if f.Engine != nil {
					b.Engine = f.Engine
				}
				underLoad(t, b, func() {
					if f.Do != nil {
						f.Do(t)
					}
				})
			})
		}
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 2*time.Millisecond, what)
}

// node is one hub of a cluster.
type node struct {
	hub    *fanout.Hub
	member *cluster.Member
}

func (n *node) stop() {
	n.member.Close()
	n.hub.Close()
}

// join starts a hub with the bed's server as its engine.
func join(t *testing.T, b Bed, f cluster.Format) *node {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	member, err := cluster.New(cluster.Config{
		Engine: b.Engine(t), Format: f, Logger: quiet,
		Beat: time.Second, Linger: 20 * time.Millisecond, Timeout: patience,
	})
	require.NoError(t, err)
	hub, err := fanout.New(fanout.Config{Cluster: member, Logger: quiet})
	require.NoError(t, err)
	require.NoError(t, member.Start(hub))
	n := &node{hub, member}
	t.Cleanup(n.stop)
	eventually(t, "the engine is there", member.Up) // who comes from now on is not told of it
	return n
}

// meet waits until the hubs know each other.
func meet(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, "the hubs meet", func() bool { return len(n.hub.ClusterInfo().Hubs) == len(nodes) })
	}
}
