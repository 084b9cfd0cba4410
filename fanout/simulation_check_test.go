package fanout

import (
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// settle lets the hub do everything there is to do, and compares.
func (sim *simulation) settle() {
	synctest.Wait()
	for _, m := range sim.spokes {
		sim.settleSpoke(m)
	}
	clear(sim.burst)
	sim.resumed = nil
}

func (sim *simulation) settleSpoke(m *modelSpoke) {
	burst, idle, wasClosed := sim.burst[m], !m.inFlight, m.closed
	if !idle || wasClosed || m.closing {
		for _, e := range burst {
			m.offer(e)
		}
		burst = nil
	}
	m.passTime(sim.now())
	m.read(func() int {
		switch {
		case len(m.queue) > 0 && (m == sim.resumed && !wasClosed || m.closed):
			i := m.queue[0]
			m.queue = m.queue[1:]
			return i
		case idle && len(burst) > 0:
			m.offered, m.fates = append(m.offered, burst[0]), append(m.fates, waiting)
			burst = burst[1:]
			return len(m.offered) - 1
		}
		return -1
	})
	for _, e := range burst {
		m.offer(e)
	}
	if m.closing && !m.inFlight {
		m.closed = true
	}
	if m.closed && !wasClosed {
		// What a slow spoke has in part, it was given with the close frame.
		m.read(func() int {
			require.NotEmpty(sim.t, m.queue)
			i := m.queue[0]
			m.queue = m.queue[1:]
			return i
		})
		require.Zero(sim.t, m.sent, "%v", m)
		if m.code == codec.CloseSlow && !m.closing {
			sim.slow++
		}
	}
	closed, code, reason := m.sink.ending()
	require.Equal(sim.t, m.closed, closed, "%v", m)
	if closed {
		require.Equal(sim.t, m.code, code)
		require.Equal(sim.t, m.reason, reason)
		require.Empty(sim.t, m.queue, "%v", m)
		return
	}
	require.LessOrEqual(sim.t, m.queuedBytes(), sim.config.Limits.SpokeBytes)
	require.True(sim.t, m.inFlight || len(m.queue) == 0, "%v", m)
}

// checkBooks compares what the hub has counted with what the model has.
func (sim *simulation) checkBooks() {
	require.Equal(sim.t, countedTopics(sim.hub), sim.hub.Stats().TopicBytes)
	held := make(map[*modelEvent]bool)
	var queued, heldBytes int64
	var fates [numFates]uint64
	busy := 0
	for _, m := range sim.all {
		for f, n := range m.counts() {
			fates[f] += n
		}
		queued += m.queuedBytes()
		if m.inFlight && !m.closed {
			busy++
		}
		for _, i := range m.queue {
			if e := m.offered[i].uncompressed(); !held[e] { // the hub holds both as one
				held[e] = true
				heldBytes += e.len() + itemBytes
			}
		}
	}
	s := sim.hub.Stats()
	require.Equal(sim.t, len(sim.spokes), s.Spokes)
	require.Equal(sim.t, fates[delivered], s.Deliveries)
	require.Equal(sim.t, fates[lost], sum(s.Dropped))
	require.Equal(sim.t, fates[merged], sum(s.Conflated))
	require.Equal(sim.t, queued, s.QueuedBytes)
	require.Equal(sim.t, heldBytes, s.HeldBytes)
	require.Equal(sim.t, busy, s.QueuedSpokes)
	require.Equal(sim.t, sim.slow, sum(s.Disconnected))
	require.Zero(sim.t, s.PendingBytes)
	for _, m := range sim.spokes {
		i, counts := m.spoke.Info(), m.counts()
		require.EqualValues(sim.t, len(m.offered), i.Offered, "%v", m)
		require.Equal(sim.t, m.queuedBytes(), i.Queued)
		require.EqualValues(sim.t, len(m.queue), i.QueuedCount)
		require.Equal(sim.t, counts[delivered], i.Delivered)
		require.Equal(sim.t, counts[lost], i.Dropped)
		require.Equal(sim.t, counts[merged], i.Conflated)
	}
}

func sum(counts map[LossReason]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}
