package fanout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// TestNothingIsLostUnsaidWhateverTheTiming drives hubs at random without waiting for them, and with
// little memory for all spokes together. What then happens depends on the scheduler, but at the end
// every stream has to account for every event that its spoke was to get.
func TestNothingIsLostUnsaidWhateverTheTiming(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { newSimulation(t, seed, 2+int64(seed%3)).rush(250) })
		})
	}
}

// rush is run without waiting after every step.
func (sim *simulation) rush(steps int) {
	sim.take = func(m *modelSpoke, e *modelEvent) { m.offered = append(m.offered, e.as(m)) }
	for range 4 {
		sim.connect()
	}
	for range steps {
		sim.step()
		switch sim.rng.IntN(12) {
		case 0:
			sim.hub.Flush()
		case 1:
			synctest.Wait()
			require.LessOrEqual(sim.t, sim.hub.Stats().HeldBytes, sim.config.Limits.TotalBytes)
			sim.hub.Inspect(func(i SpokeInfo) {
				require.LessOrEqual(sim.t, i.Queued, sim.config.Limits.SpokeBytes)
				require.Equal(sim.t, i.Offered, i.Delivered+i.QueuedCount+i.Dropped+i.Conflated)
			})
		}
	}
	for _, m := range sim.spokes {
		m.sink.resume()
	}
	synctest.Wait()
	var total SpokeInfo
	for _, m := range sim.all {
		i := m.spoke.Info()
		total.Delivered += i.Delivered
		total.Dropped += i.Dropped
		total.Conflated += i.Conflated
		sim.account(m, i)
	}
	s := sim.hub.Stats()
	require.Equal(sim.t, total.Delivered, s.Deliveries)
	require.Equal(sim.t, total.Dropped, sum(s.Dropped))
	require.Equal(sim.t, total.Conflated, sum(s.Conflated))
	require.Zero(sim.t, s.QueuedSpokes)
	require.Zero(sim.t, s.HeldBytes+s.PendingBytes+s.QueuedBytes+s.InFlightBytes)
}

// account reads the stream of m from its beginning. i is what the hub says of it.
func (sim *simulation) account(m *modelSpoke, i SpokeInfo) {
	position := make(map[int]int) // of an event in m.offered, by its number
	for n, e := range m.offered {
		position[number(sim.t, e.uncompressed().frame)] = n
	}
	var told, gap codec.Gap // in all, and since the last event
	var events uint64
	next := 0 // of m.offered
	missing := func(end int) {
		require.GreaterOrEqual(sim.t, end, next, "out of order")
		require.EqualValues(sim.t, end-next, gap.Dropped+gap.Conflated, "told of %+v, %d are missing", gap, end-next)
		require.LessOrEqual(sim.t, gap.Conflated, m.replaceable(next, end))
		for _, e := range m.offered[next:end] {
			require.NotEqual(sim.t, Disconnect, e.policy, "dropped from an open stream")
		}
		gap = codec.Gap{}
	}
	stream, _ := m.sink.written(0)
	for len(stream) > 0 {
		src := bytes.NewReader(stream)
		h, err := ws.ReadHeader(src)
		if err != nil || int64(src.Len()) < h.Length {
			require.True(sim.t, m.spoke.detached.Load(), "half a frame")
			break
		}
		size := len(stream) - src.Len() + int(h.Length)
		frame := stream[:size]
		stream = stream[size:]
		message := inflated(sim.t, h, frame[size-int(h.Length):])
		switch e, err := codec.ParseEnvelope(message); {
		case h.OpCode.IsControl():
		case e.Type == codec.TypeGap:
			var g codec.Gap
			require.NoError(sim.t, json.Unmarshal(e.Payload, &g))
			gap = codec.Gap{Dropped: gap.Dropped + g.Dropped, Conflated: gap.Conflated + g.Conflated}
			told = codec.Gap{Dropped: told.Dropped + g.Dropped, Conflated: told.Conflated + g.Conflated}
		case !e.Reserved():
			require.NoError(sim.t, err)
			n, ok := position[number(sim.t, message)]
			require.True(sim.t, ok, "an event that was not for it")
			require.True(sim.t, bytes.Equal(m.offered[n].frame, frame))
			missing(n)
			events, next = events+1, n+1
		}
	}
	require.Equal(sim.t, i.Offered, i.Delivered+i.Dropped+i.Conflated)
	if closed, _, _ := m.sink.ending(); closed || m.spoke.detached.Load() {
		require.LessOrEqual(sim.t, i.Offered, uint64(len(m.offered)))
		require.LessOrEqual(sim.t, told.Dropped, i.Dropped)
		return
	}
	missing(len(m.offered))
	require.EqualValues(sim.t, len(m.offered), i.Offered)
	require.Equal(sim.t, events, i.Delivered)
	require.Equal(sim.t, codec.Gap{Dropped: i.Dropped, Conflated: i.Conflated}, told)
}

// replaceable counts the events between two positions that a newer one of the same topic may have
// replaced.
func (m *modelSpoke) replaceable(from, to int) (n uint64) {
	for i, e := range m.offered[from:to] {
		for _, newer := range m.offered[from+i+1:] {
			if e.policy == Conflate && newer.typ == e.typ && newer.id == e.id {
				n++
				break
			}
		}
	}
	return n
}

// number reads what dispatch has put at the beginning of a payload.
func number(t testing.TB, frame []byte) int {
	_, rest, ok := bytes.Cut(frame, []byte(`"payload":"`))
	require.True(t, ok)
	n, err := strconv.Atoi(string(rest[:8]))
	require.NoError(t, err)
	return n
}
