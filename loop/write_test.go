package loop

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// tight makes kernels hold little: what does not fit has to wait in the hub.
var tight = Config{SendBufferBytes: 4 << 10, NotSentLowatBytes: 4 << 10}

// slowly connects a peer that reads nothing by itself, and whose kernel takes little for it.
func slowly(t testing.TB, address string) *peer {
	t.Helper()
	return connectFrom(t, address, from{receiveBytes: 4 << 10})
}

// numbered is the i-th event of a stream of ten topics.
func numbered(i, length int) codec.Envelope {
	return codec.Envelope{Type: "tick", ID: fmt.Sprint(i % 10), Payload: fmt.Appendf(nil, `{"n":%d,"fill":"%0*d"}`, i, length, 0)}
}

// story is what a peer got: the numbers of its events, with a gap where some are missing.
type story struct {
	numbers []int
	gaps    []codec.Gap
	after   []int // how many events came before each gap
}

// add notes an event. Numbers must rise.
func (s *story) add(t testing.TB, e codec.Envelope) {
	if e.Type == codec.TypeGap {
		var g codec.Gap
		require.NoError(t, json.Unmarshal(e.Payload, &g))
		s.gaps, s.after = append(s.gaps, g), append(s.after, len(s.numbers))
		return
	}
	var number int
	if _, err := fmt.Sscanf(string(e.Payload), `{"n":%d,`, &number); err != nil || e.Type != "tick" {
		require.FailNow(t, "not an event of the stream", "%s: %v", e.Payload, err)
	}
	if n := len(s.numbers); n > 0 && s.numbers[n-1] >= number {
		require.FailNow(t, "not in order", "%d after %d", number, s.numbers[n-1])
	}
	s.numbers = append(s.numbers, number)
}

func (s *story) missing() (n uint64) {
	for _, g := range s.gaps {
		n += g.Dropped + g.Conflated
	}
	return n
}

// requireInPlace checks that every gap stands where its events are missing, and that total events are told of. There
// may be several: a kernel takes another bite during a stall when the acknowledgement comes that its
// peer had delayed.
func (s *story) requireInPlace(t testing.TB, total int) {
	t.Helper()
	next, gap := 0, 0
	skip := func(events int) {
		for ; gap < len(s.gaps) && s.after[gap] == events; gap++ {
			next += int(s.gaps[gap].Dropped)
		}
	}
	for i, number := range s.numbers {
		skip(i)
		require.Equal(t, next, number, "event %d, with %d gaps before it", i, gap)
		next++
	}
	skip(len(s.numbers))
	require.Equal(t, total, next)
}

// readAll reads events until the one with the number last has come, or been told missing.
func (p *peer) readAll(last int) (s story) {
	p.t.Helper()
	for uint64(len(s.numbers))+s.missing() <= uint64(last) {
		s.add(p.t, p.event())
	}
	return s
}

// stall dispatches so many events to a peer that does not read, and to one that does.
func stall(t *testing.T, h *fanout.Hub, healthy *peer, total, length int) {
	t.Helper()
	got := make(chan story, 1)
	go func() { got <- healthy.readAll(total - 1) }() // ends when all has come, or with the test
	for i := range total {
		dispatch(t, h, numbered(i, length))
		if i%20 == 19 {
			h.Flush() // so that the healthy one is not too slow as well
			await(t, func() bool { return h.Stats().QueuedSpokes <= 1 }, "only one is slow")
		}
	}
	s := receive(t, got, "the healthy one gets everything")
	require.Len(t, s.numbers, total)
	require.Empty(t, s.gaps)
}

func TestSlowReaderLosesWholeEventsAsThePolicySays(t *testing.T) {
	const total, length, buffer = 1000, 1 << 10, 64 << 10
	const queued = buffer * 3 / 4 / length // events at least, what stands around a payload and the gap counted
	for _, c := range []struct {
		policy fanout.Policy
		check  func(*testing.T, story)
	}{
		{fanout.DropOldest, func(t *testing.T, s story) {
			s.requireInPlace(t, total)
			require.Equal(t, total-1, s.numbers[len(s.numbers)-1], "the newest stays")
			last := s.after[len(s.after)-1]
			require.Greater(t, len(s.numbers)-last, queued, "and those before it that there is room for")
		}},
		{fanout.DropNewest, func(t *testing.T, s story) {
			s.requireInPlace(t, total)
			require.Greater(t, s.after[0], queued, "the oldest stay that there is room for")
		}},
		{fanout.Conflate, func(t *testing.T, s story) {
			for i := range 10 {
				require.Contains(t, s.numbers, total-10+i, "the newest of each topic stays")
			}
			for _, g := range s.gaps {
				require.Zero(t, g.Dropped)
			}
		}},
	} {
		t.Run(c.policy.String(), func(t *testing.T) {
			s, h, address := startServer(t, fanout.Config{Policy: c.policy, Limits: fanout.Limits{SpokeBytes: buffer}}, tight)
			healthy, slow := connect(t, address), slowly(t, address)
			stall(t, h, healthy, total, length)
			got := slow.readAll(total - 1)
			require.NotEmpty(t, got.gaps)
			require.EqualValues(t, total-len(got.numbers), got.missing(), "every event is either there or told missing")
			c.check(t, got)

			dispatch(t, h, numbered(total, length))
			require.Equal(t, "tick", slow.event().Type, "it is in step again")
			require.Equal(t, "tick", healthy.event().Type)
			conn := connOf(t, s, slow) // its last bytes may be at the peer before the loop has counted them
			await(t, func() bool { return conn.inFlight.Load() == 0 && h.Stats().InFlightBytes == 0 }, "nothing is in flight")
		})
	}
}

// Here the peer begins to read only when the hub has long forgotten it: what is left is in the hands
// of the kernel.
func TestSlowReaderIsToldSoHoweverLateItReads(t *testing.T) {
	for _, c := range []struct {
		name   string
		length int
		limits fanout.Limits
	}{
		{"many small frames", 1 << 10, fanout.Limits{SpokeBytes: 64 << 10}},
		{"frames larger than a chunk", 200 << 10, fanout.Limits{SpokeBytes: 256 << 10}},
		{"too late", 1 << 10, fanout.Limits{SpokeLag: 50 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			hc := fanout.Config{Limits: c.limits}
			life := watch(&hc)
			lc := tight
			lc.CloseTimeout = 50 * time.Millisecond
			s, h, address := startServer(t, hc, lc)
			slow := slowly(t, address)
			for i := 0; len(life.ended) == 0; i++ {
				dispatch(t, h, numbered(i, c.length))
				h.Flush()
			}
			cause := receive(t, life.ended, "the spoke is gone")
			require.Equal(t, fanout.KindSlow, cause.Kind)
			await(t, func() bool { return s.Stats().Connections == 0 }, "it is forgotten")

			var got story
			op, payload := slow.next()
			for ; op == ws.OpText; op, payload = slow.next() {
				got.add(t, parse(t, payload))
			}
			require.Equal(t, ws.OpClose, op)
			code, reason, err := codec.ParseClose(payload)
			require.NoError(t, err)
			require.Equal(t, codec.CloseSlow, code)
			require.True(t, strings.HasPrefix(reason, "slow: queued="), reason)
			slow.requireEnd()
			require.Equal(t, len(got.numbers)-1, got.numbers[len(got.numbers)-1], "none is missing before the end")
			require.Empty(t, got.gaps)
		})
	}
}

// The poller is busy until the connection is due to be cut off: what the engine keeps for the spoke must
// still be given to the kernel, or its stream ends in the middle of a frame.
func TestSlowReaderIsToldSoThoughThePollerWasLate(t *testing.T) {
	hc := fanout.Config{Limits: fanout.Limits{SpokeBytes: 64 << 10}}
	lc := tight
	lc.Pollers, lc.CloseTimeout = 1, 20*time.Millisecond
	s, h, address := startServer(t, hc, lc)
	slow, busy := slowly(t, address), connect(t, address)
	blocked, release := make(chan struct{}), make(chan struct{})
	_, err := h.AddListener("block:*", func(*fanout.Spoke, codec.Envelope) {
		close(blocked)
		<-release
	})
	require.NoError(t, err)
	c := connOf(t, s, slow)
	busy.write(message("block", ""))
	receive(t, blocked, "the poller is held")
	for i := 0; h.Stats().Disconnected[fanout.OverSpokeBytes] == 0; i++ {
		_, err := c.spoke.Dispatch(numbered(i, 1<<10))
		require.NoError(t, err)
		h.Flush()
	}
	await(t, func() bool { return hungUp(c.sock) }, "it is cut off")
	close(release)

	op, payload := slow.next()
	for op == ws.OpText {
		op, payload = slow.next()
	}
	require.Equal(t, ws.OpClose, op)
	code, _, err := codec.ParseClose(payload)
	require.NoError(t, err)
	require.Equal(t, codec.CloseSlow, code)
	slow.requireEnd()
}

func TestOrderlyCloseOfAStalledSpokeEndsWithACloseFrame(t *testing.T) {
	hc := fanout.Config{CloseTimeout: 50 * time.Millisecond}
	life := watch(&hc)
	lc := tight
	lc.CloseTimeout = 50 * time.Millisecond
	_, h, address := startServer(t, hc, lc)
	slow := slowly(t, address)
	for i := range 100 {
		dispatch(t, h, numbered(i, 1<<10))
	}
	receive(t, life.began, "the spoke connects").Close(4000, "bye")
	require.Equal(t, fanout.Cause{Side: fanout.LocalSide, Code: 4000, Reason: "bye", Kind: fanout.KindOther}, receive(t, life.ended, "the spoke is gone"))
	var got story
	op, payload := slow.next()
	for ; op == ws.OpText; op, payload = slow.next() {
		got.add(t, parse(t, payload))
	}
	require.Equal(t, ws.OpClose, op)
	require.Equal(t, "bye", string(payload[2:]))
	slow.requireEnd()
}

func TestLargeFramesArriveIntactInSmallSteps(t *testing.T) {
	const total, length = 20, 200 << 10
	hc := fanout.Config{Limits: fanout.Limits{SpokeBytes: 8 << 20}}
	_, h, address := startServer(t, hc, tight)
	slow, healthy := slowly(t, address), connect(t, address)
	for i := range total {
		dispatch(t, h, numbered(i, length))
	}
	h.Flush()
	h.Inspect(func(i fanout.SpokeInfo) {
		require.LessOrEqual(t, i.InFlight, int64(128<<10), "one chunk at a time")
	})
	for _, p := range []*peer{healthy, slow} {
		for i := range total {
			require.Equal(t, numbered(i, length), p.event())
		}
	}
}

func TestFramesAreBinaryIfAskedFor(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{Opcode: codec.Binary, Limits: fanout.Limits{SpokeBytes: 64 << 10}, Policy: fanout.DropOldest}, tight)
	p := dialPeer(t, address, from{receiveBytes: 4 << 10})
	p.write([]byte(request("/ws")))
	p.upgraded()
	op, _ := p.next()
	require.Equal(t, ws.OpBinary, op, "__welcome")
	for i := range 500 {
		dispatch(t, h, numbered(i, 1<<10))
	}
	h.Flush()
	types := make(map[string]int)
	for types["tick"] == 0 || types[codec.TypeGap] == 0 {
		op, payload := p.next()
		require.Equal(t, ws.OpBinary, op)
		types[parse(t, payload).Type]++
	}
}

func TestControlFramesOvertakeWhatIsQueued(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 8 << 20}}, tight)
	slow := slowly(t, address)
	const total = 2000
	for i := range total {
		dispatch(t, h, numbered(i, 1<<10))
	}
	h.Flush()
	for i := range 10 {
		slow.write(whole(ws.OpPing, fmt.Append(nil, i)))
	}
	events := 0
	for last := false; !last; {
		op, payload := slow.next()
		if op == ws.OpText {
			events++
			require.Less(t, events, total, "the pong comes before the queue is empty")
		}
		last = op == ws.OpPong && string(payload) == "9" // of those that wait only the last goes out
	}
}
