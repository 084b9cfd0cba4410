package embedded_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// TestAnEventThatNATSDoesNotTakeIsNotForwarded: its publisher is told, as are the spokes of other hubs.
func TestAnEventThatNATSDoesNotTakeIsNotForwarded(t *testing.T) {
	const most = 4 << 10
	url := startServer(t, 0, func(o *server.Options) { o.MaxPayload = most }).ClientURL()
	a, b := join(t, url), join(t, url)
	strict := join(t, url, func(c *cluster.Config) { c.Refuse = true })
	ofA, ofB := a.spoke(t, "tick:1"), b.spoke(t, "tick:1")
	settle(t, []*node{a, b, strict}, []*spoke{ofA, ofB})
	before := ofB.gaps(t)

	fits := fmt.Sprintf(`"%s"`, strings.Repeat("x", most-200))
	require.False(t, dispatch(t, a, fits).NotForwarded)
	eventually(t, "what fits arrives", func() bool { return ofB.has(fits) })
	for size := most - 150; size < most+10; size++ { // wherever the limit is for what is beside the payload, it is said
		payload := fmt.Sprintf(`"%d%s"`, size, strings.Repeat("x", size))
		r := dispatch(t, a, payload)
		eventually(t, "it is delivered here", func() bool { return ofA.has(payload) })
		if r.NotForwarded {
			require.False(t, ofB.has(payload))
			continue
		}
		eventually(t, "what is said to be forwarded arrives", func() bool { return ofB.has(payload) })
	}
	large := codec.Envelope{Type: "tick", ID: "1", Payload: fmt.Appendf(nil, `"%s"`, strings.Repeat("x", most))}
	require.True(t, dispatch(t, a, string(large.Payload)).NotForwarded)
	require.NotZero(t, a.hub.ClusterInfo().Engine.NotForwarded)
	require.Zero(t, a.hub.ClusterInfo().Engine.Outages)
	eventually(t, "the others are told", func() bool { return ofB.gaps(t) > before })

	_, err := strict.hub.Dispatch(large)
	require.ErrorIs(t, err, fanout.ErrTooLarge)
	require.Zero(t, strict.hub.Stats().PendingBytes)
	_, err = strict.hub.DispatchBatch([]codec.Envelope{{Type: "tick", ID: "1"}, large})
	require.ErrorIs(t, err, fanout.ErrTooLarge)
	_, err = a.hub.DispatchTo(ofB.Spoke().ID(), large)
	require.ErrorIs(t, err, fanout.ErrTooLarge)
	require.ErrorIs(t, a.hub.Carry(t.Context(), ofB.Spoke().ID(), fanout.Order{Events: []codec.Envelope{large}}), fanout.ErrTooLarge)
}

// asked is a cluster.Handler that notes how many subscriptions the server has when it is told of the connection.
type asked struct {
	server *server.Server
	ups    atomic.Int64
	last   atomic.Int64
}

func (a *asked) Receive(string, string, []byte) {}
func (a *asked) Down(error)                     {}
func (a *asked) Lost(uint64, string)            {}
func (a *asked) Met()                           {}
func (a *asked) Up()                            { a.last.Store(int64(a.server.NumSubscriptions())); a.ups.Add(1) }

// TestTheEngineIsBackWhenEverythingIsAskedForAgain: what is dispatched elsewhere until then is lost, and who is told that
// the engine is back is told of it.
func TestTheEngineIsBackWhenEverythingIsAskedForAgain(t *testing.T) {
	s := startServer(t, 0)
	h := &asked{server: s}
	e, err := cluster.NATS(cluster.NATSConfig{Servers: []string{s.ClientURL()}, Logger: quiet})
	require.NoError(t, err)
	require.NoError(t, e.Start(h))
	defer e.Close()
	eventually(t, "it is there", func() bool { return h.ups.Load() == 1 })
	const topics = 30_000
	for i := range topics {
		e.Subscribe(cluster.Subject{Name: fmt.Sprint("topic.", i)})
	}
	eventually(t, "everything is asked for", func() bool { return s.NumSubscriptions() >= topics })
	own := h.last.Load() // what the server has for itself
	conns, err := s.Connz(nil)
	require.NoError(t, err)
	for _, c := range conns.Conns {
		require.NoError(t, s.DisconnectClientByID(c.Cid))
	}
	eventually(t, "it is back", func() bool { return h.ups.Load() == 2 })
	require.EqualValues(t, topics, h.last.Load()-own)
}
