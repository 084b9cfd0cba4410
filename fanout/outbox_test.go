package fanout

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// wire returns the frames that the kernel took, control frames with their payload.
func wire(t testing.TB, k *scriptSink) (frames []string) {
	t.Helper()
	k.frames(t, func(op ws.OpCode, payload []byte) {
		switch op {
		case ws.OpPing:
			frames = append(frames, "ping "+string(payload))
		case ws.OpPong:
			frames = append(frames, "pong "+string(payload))
		case ws.OpClose:
			frames = append(frames, fmt.Sprintf("close %d", int(payload[0])<<8|int(payload[1])))
		default:
			e, err := codec.ParseEnvelope(payload)
			require.NoError(t, err)
			frames = append(frames, e.Topic())
		}
	})
	return frames
}

// stallWithin connects a spoke of which the kernel has taken a part of a frame of 180 KiB, and
// which has lagged for so long that the rest is handed out in small chunks.
func stallWithin(t testing.TB, h *Hub, topic string) (*Spoke, *scriptSink) {
	t.Helper()
	s, k := stall(t, h)
	dispatch(t, h, sized(t, topic, 1, 180<<10))
	h.Flush()
	k.give(2 + 100) // the ping, and the beginning of the frame
	synctest.Wait()
	require.EqualValues(t, 180<<10-lagChunkBytes, s.Info().Queued)
	require.EqualValues(t, lagChunkBytes-100, s.Info().InFlight)
	return s, k
}

func TestHalfSentFrameStaysUnderEveryPolicy(t *testing.T) {
	for _, test := range []struct {
		rule   string
		then   []codec.Envelope
		dies   bool
		stream []string
	}{
		{"drop-oldest drops behind it",
			[]codec.Envelope{event("o", "2", 20<<10), event("o", "3", 30<<10)}, false,
			[]string{"o:1", `gap {"dropped":1,"conflated":0,"reason":"spoke_buffer"}`, "o:3"}},
		{"what does not fit beside it is dropped, and nothing else",
			[]codec.Envelope{event("o", "2", 20<<10), event("o", "3", 40<<10), event("o", "4", 10<<10)}, false,
			[]string{"o:1", "o:2", `gap {"dropped":1,"conflated":0,"reason":"spoke_buffer"}`, "o:4"}},
		{"conflate does not replace it",
			[]codec.Envelope{event("c", "2", 20<<10), event("c", "2", 25<<10)}, false,
			[]string{"o:1", `gap {"dropped":0,"conflated":1,"reason":"spoke_buffer"}`, "c:2"}},
		{"disconnect gives up what is behind it",
			[]codec.Envelope{event("d", "2", 20<<10), event("d", "3", 30<<10)}, true,
			[]string{"o:1"}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{PolicyFor: byLetter, Limits: Limits{SpokeBytes: 200 << 10}})
				s, k := stallWithin(t, h, "o:1")
				for _, e := range test.then {
					dispatch(t, h, e)
				}
				h.Flush()
				closed, _, _ := k.ending()
				require.Equal(t, test.dies, closed)
				k.resume()
				synctest.Wait()
				require.Equal(t, test.stream, k.topics(t))
				if closed {
					require.Equal(t, "close 4008", wire(t, k)[len(wire(t, k))-1])
				}
				i := s.Info()
				require.Equal(t, i.Offered, i.Delivered+i.Dropped+i.Conflated)
				require.Equal(t, i.Delivered, h.Stats().Deliveries)
			})
		})
	}
}

func TestNoCloseCutsAFrame(t *testing.T) {
	for how, end := range map[string]func(*Hub, *Spoke){
		"fail":          func(_ *Hub, s *Spoke) { s.Fail(codec.CloseProtocolError, "") },
		"close":         func(_ *Hub, s *Spoke) { s.Close(codec.CloseNormal, ""); after(DefaultCloseTimeout) },
		"too old":       func(*Hub, *Spoke) { after(testLag) },
		"hub is closed": func(h *Hub, _ *Spoke) { h.Close() },
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{Limits: Limits{SpokeLag: testLag}})
				s, k := stallWithin(t, h, "d:1")
				dispatch(t, h, event("d", "2", 10))
				h.Flush()
				end(h, s)
				synctest.Wait()
				closed, _, _ := k.ending()
				require.True(t, closed)
				require.Zero(t, h.Stats().QueuedSpokes)
				k.resume() // the sink goes on without the hub
				frames := wire(t, k)
				require.Equal(t, []string{"__welcome:", "ping ", "d:1"}, frames[:3])
				require.True(t, strings.HasPrefix(frames[3], "close "))
				require.Len(t, frames, 4)
			})
		})
	}
}

func TestOnlyTheLastPingAndPongWaitAndGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, k := stall(t, h)
		send(t, h, "a1 a2")
		for i := range 3 {
			s.Control(codec.NewControlFrame(codec.Ping, fmt.Append(nil, i)))
			s.Control(codec.NewControlFrame(codec.Pong, fmt.Append(nil, i)))
		}
		h.Flush()
		k.resume()
		synctest.Wait()
		require.Equal(t, []string{"__welcome:", "ping ", "pong 2", "ping 2", "a:1", "a:2"}, wire(t, k))
	})
}

func TestControlFramesWaitForTheEndOfAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, k := stallWithin(t, h, "a:1")
		send(t, h, "a2 a3")
		s.Control(codec.NewControlFrame(codec.Pong, nil))
		h.Flush()
		k.resume()
		synctest.Wait()
		require.Equal(t, []string{"__welcome:", "ping ", "a:1", "pong ", "a:2", "a:3"}, wire(t, k))
	})
}

func TestControlFramesGoToThoseWhoAreClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, k := stall(t, h)
		send(t, h, "a1")
		s.Close(codec.CloseNormal, "")
		s.Control(codec.NewControlFrame(codec.Pong, nil))
		send(t, h, "a2") // too late
		k.resume()
		synctest.Wait()
		s.Control(codec.NewControlFrame(codec.Pong, nil)) // and after the close frame nothing
		h.Flush()
		require.Equal(t, []string{"__welcome:", "ping ", "pong ", "a:1", "close 1000"}, wire(t, k))
	})
}

func TestReservedEventsAreOutsideTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Policy: DropOldest, Limits: Limits{SpokeBytes: 200, TotalBytes: 200 + itemBytes, SpokeLag: testLag}})
		s, k := stall(t, h)
		var want []string
		for i := range 100 {
			s.Receive(fmt.Appendf(nil, `{"type":"__subscribe","id":"%d","payload":"tick:%d"}`, i, i))
			want = append(want, fmt.Sprint("__subscribed:", i))
		}
		dispatch(t, h, sized(t, "tick:7", 1, 100))
		after(testLag - 1)
		require.Zero(t, s.Info().Dropped)
		require.EqualValues(t, 100, s.Info().Queued)
		require.EqualValues(t, 100+itemBytes, h.Stats().HeldBytes)
		k.resume()
		synctest.Wait()
		require.Equal(t, append(want, "tick:7"), k.topics(t))
	})
}

func TestAnswersThatNobodyReadsEndASpoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, k := stall(t, h)
		ask := fmt.Appendf(nil, `{"type":"__subscribe","payload":"tick:%s"}`, strings.Repeat("x", 200))
		asked := 0
		for ; asked < 1000; asked++ {
			s.Receive(ask)
			h.Flush()
			if closed, code, reason := k.ending(); closed {
				require.Equal(t, codec.ClosePolicy, code)
				require.Equal(t, "too many answers unread", reason)
				break
			}
		}
		require.InDelta(t, maxReservedBytes/250, asked, 25)
	})
}

func TestOneLongAnswerEndsNoSpoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, k := connect(t, h)
		var topics []string
		for i := range 300 {
			topics = append(topics, fmt.Sprintf(`"tick:%s%d"`, strings.Repeat("x", 250), i))
		}
		s.Receive(fmt.Appendf(nil, `{"type":"__subscribe","id":"1","payload":{"topics":[%s]}}`, strings.Join(topics, ",")))
		synctest.Wait()
		require.Equal(t, []string{"__subscribed:1"}, k.topics(t))
	})
}

func TestLargeFramesGoOutInChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Limits: Limits{SpokeBytes: 1 << 20}})
		s, k := connect(t, h)
		h.Flush()
		k.block(0)
		dispatch(t, h, sized(t, "a:1", 1, 500<<10))
		h.Flush()
		require.EqualValues(t, chunkBytes, s.Info().InFlight)
		for range 100 {
			k.give(5000)
			synctest.Wait()
			require.LessOrEqual(t, s.Info().InFlight, int64(chunkBytes))
		}
		k.resume()
		synctest.Wait()
		require.Equal(t, []string{"a:1"}, k.topics(t))
	})
}

func TestQueueOfAStalledSpokeIsReferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 1, Policy: DropOldest, Limits: Limits{SpokeBytes: 10000}})
		s, k := stall(t, h)
		for range 50 {
			for range 200 { // the queue does not grow with what has gone through it
				dispatch(t, h, event("a", "", 20))
			}
			h.Flush()
			require.LessOrEqual(t, cap(s.outbox.items), 1024)
			k.give(2000)
			synctest.Wait()
		}
		k.resume()
		synctest.Wait()
		require.Nil(t, s.outbox, "it goes with what was in it")
	})
}
