package fanout

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestHistogramBucketsArePowersOfTwo(t *testing.T) {
	for nanos, bucket := range map[int64]int{
		-1: 0, 0: 0, 1: 0, // the clock is monotonic, but two goroutines read it
		1 << 16: 0, 1<<16 + 1: 1,
		1 << 17: 1, 1<<17 + 1: 2,
		1 << 34: 18, 1<<34 + 1: 19, 1 << 62: 19, // above all bounds
	} {
		var h histogram
		h.observe(nanos, 3)
		require.EqualValues(t, 3, h.buckets[bucket], nanos)
	}
	var h histogram
	h.observe(1<<16, 2)
	h.observe(1<<20, 3)
	h.observe(1<<40, 5)
	out := h.export()
	require.Len(t, out.Bounds, latencyBuckets)
	require.Len(t, out.Counts, latencyBuckets)
	require.Equal(t, 65536*time.Nanosecond, out.Bounds[0])
	require.Equal(t, 1<<34*time.Nanosecond, out.Bounds[latencyBuckets-1])
	require.EqualValues(t, 2, out.Counts[0])
	require.EqualValues(t, 2, out.Counts[3])
	require.EqualValues(t, 5, out.Counts[4])
	require.EqualValues(t, 5, out.Counts[latencyBuckets-1], "what is above counts only in all")
	require.EqualValues(t, 10, out.Count)
	require.Equal(t, float64(2<<16+3<<20+5<<40)/1e9, out.Sum)
}

func TestLatencyIsFromDispatchToWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 1})
		for range stampEvery + 8 { // more than share one look at the clock
			connect(t, h)
		}
		_, k := stall(t, h)
		require.Zero(t, h.Stats().Latency.Count, "the hub's own events do not count")
		send(t, h, "a1 a2")
		l := h.Stats().Latency
		require.EqualValues(t, 2*(stampEvery+8), l.Count)
		require.Zero(t, l.Sum, "fake time stands still")
		after(3 * time.Second)
		k.resume()
		synctest.Wait()
		l = h.Stats().Latency
		require.EqualValues(t, 2*(stampEvery+9), l.Count)
		require.Equal(t, 6.0, l.Sum)
		require.Equal(t, h.Stats().Deliveries, l.Count)
	})
}

func TestStatsCountWhatHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 2, Policy: DropOldest, Limits: Limits{SpokeBytes: 300}})
		healthy, _ := connect(t, h)
		stalled, k := stall(t, h)
		synctest.Wait()
		before := h.Stats()
		require.Equal(t, 2, before.Spokes)
		require.EqualValues(t, 2, before.Opened)
		require.EqualValues(t, 2, before.InFlightBytes, "the ping")

		send(t, h, "a1 a2 a3 a4 a5")
		say(healthy, "b:1")
		healthy.Receive([]byte("nonsense"))
		_, _ = h.Dispatch(codec.Envelope{})
		synctest.Wait()
		s := h.Stats()
		require.EqualValues(t, 5, s.Dispatched)
		require.EqualValues(t, 1, s.Received)
		require.EqualValues(t, 1, s.Refused)
		require.EqualValues(t, 5, s.Deliveries)
		require.EqualValues(t, 2, s.Dropped[OverSpokeBytes])
		require.EqualValues(t, 300, s.QueuedBytes)
		require.EqualValues(t, 3*(100+itemBytes), s.HeldBytes)
		require.EqualValues(t, 1, s.QueuedSpokes)
		require.EqualValues(t, 2, s.InFlightBytes)

		after(time.Second)
		i := stalled.Info()
		require.Equal(t, SpokeInfo{
			ID: stalled.ID(), Remote: "192.0.2.1:1234", ConnectedAt: i.ConnectedAt, Topics: []string{}, Everything: true,
			Queued: 300, InFlight: 2, Age: time.Second, Offered: 5, QueuedCount: 3, Dropped: 2,
		}, i)
		require.WithinDuration(t, time.Now().Add(-time.Second), i.ConnectedAt, joinedUnit)
		k.resume()
		synctest.Wait()
		s = h.Stats()
		require.EqualValues(t, 8, s.Deliveries)
		require.Equal(t, len(k.taken), bytesOf(t, k))
		require.Zero(t, s.QueuedBytes+s.HeldBytes+s.InFlightBytes)
		require.Zero(t, s.QueuedSpokes)

		// What was written is what was taken, by both.
		_, kh := healthy, healthy.sink.(*scriptSink)
		require.EqualValues(t, len(k.taken)+len(kh.taken), s.DeliveredBytes)
		require.EqualValues(t, k.writes+kh.writes, s.Writes)
	})
}

func bytesOf(t *testing.T, k *scriptSink) int {
	all, inFlight := k.written(0)
	require.False(t, inFlight)
	return len(all)
}

func TestEndingsAreCountedByCodeAndKind(t *testing.T) {
	h := newHub(t, Config{})
	for _, c := range []Cause{
		CauseOf(PeerSide, codec.CloseNormal, "bye"),
		CauseOf(PeerSide, codec.CloseNormal, "good bye"),
		CauseOf(PeerSide, codec.CloseNoStatus, ""),
		CauseOf(PeerSide, codec.CloseGoingAway, ""),
		CauseOf(LocalSide, codec.CloseGoingAway, ""),
		CauseOf(PeerSide, codec.CloseAbnormal, ""),
		CauseOf(LocalSide, codec.CloseSlow, ""),
		CauseOf(LocalSide, codec.ClosePolicy, ""),
		CauseOf(LocalSide, codec.CloseTooBig, ""),
		CauseOf(LocalSide, codec.CloseProtocolError, ""),
		CauseOf(LocalSide, codec.CloseInvalidUTF8, ""),
		CauseOf(LocalSide, codec.CloseUnauthenticated, ""),
		CauseOf(PeerSide, 3000, ""), CauseOf(PeerSide, 4999, ""), // a peer may choose among thousands
		{Side: LocalSide, Code: codec.ClosePolicy, Kind: KindPingTimeout},
	} {
		s, _ := connect(t, h)
		s.Detach(c)
	}
	require.Equal(t, map[Ending]uint64{
		{1000, KindNormal}: 2, {1005, KindNormal}: 1, {1001, KindNormal}: 1, {1001, KindDrain}: 1, {1006, KindGone}: 1,
		{4008, KindSlow}: 1, {1008, KindPolicy}: 1, {1009, KindTooBig}: 1, {1002, KindProtocol}: 1, {1007, KindBadData}: 1,
		{4001, KindBadToken}: 1, {0, KindOther}: 2, {1008, KindPingTimeout}: 1,
	}, h.Stats().Closed)
	require.EqualValues(t, 15, h.Stats().Opened)
	require.Zero(t, h.Stats().Spokes)
}

func TestSlowIsSlowByAnyCode(t *testing.T) {
	const words = "slow: queued=1 age=2s"
	for kind, end := range map[CauseKind]func(h *Hub, s *Spoke){
		KindSlow: func(h *Hub, _ *Spoke) {
			dispatch(t, h, sized(t, "tick:1", 1, 600))
			dispatch(t, h, sized(t, "tick:1", 2, 600))
		},
		KindPolicy: func(_ *Hub, s *Spoke) { s.Fail(codec.ClosePolicy, words) },
	} {
		h := newHub(t, Config{SlowCloseCode: codec.ClosePolicy, Limits: Limits{SpokeBytes: 1 << 10}})
		s, k := stall(t, h, "tick:*")
		end(h, s)
		h.Flush()
		closed, code, _ := k.ending()
		require.True(t, closed)
		require.Equal(t, codec.ClosePolicy, code)
		require.Equal(t, kind, k.cause.Kind)
	}
	require.Equal(t, KindPolicy, CauseOf(PeerSide, codec.ClosePolicy, words).Kind)
}

func TestCausesReadWell(t *testing.T) {
	require.Equal(t, "slow by local: 4008 slow: queued=1 age=2s", CauseOf(LocalSide, codec.CloseSlow, "slow: queued=1 age=2s").String())
	require.Equal(t, "gone by peer: 1006 reset", CauseOf(PeerSide, codec.CloseAbnormal, "reset").String())
}
