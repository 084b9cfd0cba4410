package fanout

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// byLetter is a hub's policies for streams in which the letter of a type says what happens to it.
var byLetter = map[string]Policy{"d": Disconnect, "o": DropOldest, "n": DropNewest, "c": Conflate}

// stall connects a spoke that has a ping in flight, and whose kernel takes nothing.
func stall(t testing.TB, h *Hub, topics ...string) (*Spoke, *scriptSink) {
	t.Helper()
	s, k := connect(t, h, topics...)
	h.Flush()
	k.block(0)
	s.Control(codec.NewControlFrame(codec.Ping, nil))
	h.Flush()
	return s, k
}

// sized returns an event whose frame has the given length, and whose payload begins with n.
func sized(t testing.TB, topic string, n, length int) codec.Envelope {
	t.Helper()
	typ, id, _ := codec.SplitTopic(topic)
	e := codec.Envelope{Type: typ, ID: id, Payload: fmt.Appendf(nil, `"%02d%s"`, n, strings.Repeat("x", length))}
	f, err := codec.NewFrame(e, codec.Text)
	require.NoError(t, err)
	e.Payload = append(e.Payload[:len(e.Payload)-1-(f.Len()-length)], '"')
	f, err = codec.NewFrame(e, codec.Text)
	require.NoError(t, err)
	e.Payload = append(append(e.Payload[:len(e.Payload)-1], strings.Repeat("x", length-f.Len())...), '"')
	return e
}

// send dispatches "o1 o2 o1" as the events o:1, o:2 and o:1, numbered from 1, each with a frame of
// 100 bytes.
func send(t testing.TB, h *Hub, stream string) {
	t.Helper()
	for n, word := range strings.Fields(stream) {
		dispatch(t, h, sized(t, word[:1]+":"+word[1:], n+1, 100))
	}
	h.Flush()
}

// arrived returns what the kernel took: "o1#3" for the third event sent, "gap 2 0" for a __gap with
// two dropped and none conflated.
func arrived(t testing.TB, k *scriptSink) string {
	t.Helper()
	events, _ := k.events(t)
	var words []string
	for _, e := range events {
		switch e.Type {
		case codec.TypeWelcome:
		case codec.TypeGap:
			var g codec.Gap
			require.NoError(t, e.Decode(&g))
			words = append(words, fmt.Sprintf("gap %d %d", g.Dropped, g.Conflated))
		default:
			words = append(words, fmt.Sprintf("%s%s#%c", e.Type, e.ID, e.Payload[2]))
		}
	}
	return strings.Join(words, " ")
}

func TestEveryPolicyLosesWhatItSays(t *testing.T) {
	for _, test := range []struct {
		rule, stream, want string
	}{
		{"what fits is not touched", "d1 o2 n3 c4 c4", "d1#1 o2#2 n3#3 c4#4 c4#5"},

		{"drop-newest keeps what is there", "n1 n2 n3 n4 n5 n6 n7",
			"n1#1 n2#2 n3#3 n4#4 n5#5 gap 2 0"},
		{"drop-newest does not care what is there", "d1 o2 c3 n4 n5 n6",
			"d1#1 o2#2 c3#3 n4#4 n5#5 gap 1 0"},

		{"drop-oldest keeps the newest", "o1 o2 o3 o4 o5 o6 o7",
			"gap 2 0 o3#3 o4#4 o5#5 o6#6 o7#7"},
		{"drop-oldest passes over disconnect", "d1 o2 o3 d4 o5 o6 o7",
			"d1#1 gap 2 0 d4#4 o5#5 o6#6 o7#7"},
		{"drop-oldest says twice what is missing in two places", "d1 o2 d3 o4 o5 o6 o7",
			"d1#1 gap 1 0 d3#3 gap 1 0 o5#5 o6#6 o7#7"},
		{"drop-oldest takes events of other policies", "n1 c2 o3 o4 o5 o6 o7",
			"gap 2 0 o3#3 o4#4 o5#5 o6#6 o7#7"},
		{"the gap of drop-newest stays where it is", "n1 n2 n3 n4 n5 n6 o7",
			"gap 1 0 n2#2 n3#3 n4#4 n5#5 gap 1 0 o7#7"},

		{"conflate keeps the newest of each topic", "c1 c2 c1 c2 c3 c1",
			"gap 0 3 c2#4 c3#5 c1#6"},
		{"conflate leaves a gap in the place of the older", "c1 c2 c3 c4 c2 c5",
			"c1#1 gap 0 1 c3#3 c4#4 c2#5 c5#6"},
		{"conflate replaces the topic of the new event first", "c1 c2 c3 c4 c5 c3 c1",
			"gap 0 1 c2#2 gap 0 1 c4#4 c5#5 c3#6 c1#7"},
		{"conflate with more topics than fit drops the oldest", "c1 c2 c3 c4 c5 c6 c7",
			"gap 2 0 c3#3 c4#4 c5#5 c6#6 c7#7"},
		{"conflate does not merge events of other policies", "o1 o1 o1 c1 c1 c1",
			"o1#1 o1#2 o1#3 gap 0 2 c1#6"},
		{"conflation makes room for others, too", "c1 n2 c1 n3 n4 n5 n6",
			"gap 0 1 n2#2 c1#3 n3#4 n4#5 n5#6 gap 1 0"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{PolicyFor: byLetter, Limits: Limits{SpokeBytes: 500}})
				s, k := stall(t, h)
				send(t, h, test.stream)
				i := s.Info()
				require.EqualValues(t, len(strings.Fields(test.stream)), i.Offered)
				require.EqualValues(t, strings.Count(test.want, "#"), i.QueuedCount)
				require.EqualValues(t, 100*strings.Count(test.want, "#"), i.Queued)
				require.Zero(t, i.Delivered)

				k.resume()
				synctest.Wait()
				require.Equal(t, test.want, arrived(t, k))
				i = s.Info()
				require.EqualValues(t, strings.Count(test.want, "#"), i.Delivered)
				require.Equal(t, i.Offered, i.Delivered+i.Dropped+i.Conflated)
			})
		})
	}
}

func TestDisconnectGivesUpTheQueue(t *testing.T) {
	for _, test := range []struct {
		rule, stream, reason string
	}{
		{"an event that does not fit ends the spoke", "d1 d2 d3 d4 d5 d6", "slow: queued=500 age=3s"},
		{"whatever is queued", "o1 n2 c3 o4 o5 d6", "slow: queued=500 age=3s"},
		{"drop-oldest cannot make room among disconnect", "d1 d2 d3 d4 d5 o6", "slow: queued=500 age=3s"},
		{"nor can conflate", "d1 d2 d3 d4 d5 c6", "slow: queued=500 age=3s"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{PolicyFor: byLetter, Limits: Limits{SpokeBytes: 500}})
				s, k := stall(t, h)
				words := strings.Fields(test.stream)
				last := len(words) - 1
				send(t, h, strings.Join(words[:last], " "))
				time.Sleep(3 * time.Second)
				send(t, h, words[last])
				closed, code, reason := k.ending()
				require.True(t, closed)
				require.Equal(t, codec.CloseSlow, code)
				require.Equal(t, test.reason, reason)

				k.resume()
				synctest.Wait()
				require.Empty(t, arrived(t, k))
				i := s.Info()
				require.EqualValues(t, len(words), i.Offered)
				require.Equal(t, i.Offered, i.Dropped+i.Conflated)
				require.EqualValues(t, 1, h.Stats().Disconnected[OverSpokeBytes])
				require.Zero(t, h.Stats().HeldBytes)
			})
		})
	}
}

func TestSlowCloseCodeIsConfigurable(t *testing.T) {
	h := newHub(t, Config{SlowCloseCode: 4100, Limits: Limits{SpokeBytes: 100}})
	_, k := stall(t, h)
	send(t, h, "a1 a2")
	_, code, _ := k.ending()
	require.EqualValues(t, 4100, code)
}

func TestGapNamesTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Policy: DropNewest, Limits: Limits{SpokeBytes: 100}})
		_, k := stall(t, h)
		send(t, h, "a1 a2")
		k.resume()
		synctest.Wait()
		require.Equal(t, []string{"a:1", `gap {"dropped":1,"conflated":0,"reason":"spoke_buffer"}`}, k.topics(t))
	})
}

func TestGapIsSentInItsPlaceWhileEventsAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Policy: DropNewest, Limits: Limits{SpokeBytes: 300}})
		_, k := stall(t, h)
		send(t, h, "a1 a2 a3 a4 a5")
		k.give(2 + 100) // the ping, and some of what follows it in one write: 300 bytes and the gap
		synctest.Wait()
		send(t, h, "b1 b2 b3 b4")
		k.resume()
		synctest.Wait()
		require.Equal(t, "a1#1 a2#2 a3#3 gap 2 0 b1#1 b2#2 b3#3 gap 1 0", arrived(t, k))
	})
}

func TestGapThatIsOnItsWayGrowsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fit = lagChunkBytes / 100 // events in a chunk, with too little room for a gap behind them
		h := newHub(t, Config{PolicyFor: byLetter, Limits: Limits{SpokeBytes: 100*fit + 99}})
		_, k := stall(t, h)
		send(t, h, strings.Repeat("n1 ", fit+1))
		k.give(2) // the ping; the events follow it, and the gap would be next
		synctest.Wait()
		send(t, h, strings.Repeat("o1 ", fit+2))
		k.resume()
		synctest.Wait()
		var gaps []string
		for _, topic := range k.topics(t) {
			if strings.HasPrefix(topic, "gap ") {
				gaps = append(gaps, topic)
			}
		}
		require.Equal(t, []string{
			`gap {"dropped":1,"conflated":0,"reason":"spoke_buffer"}`,
			`gap {"dropped":2,"conflated":0,"reason":"spoke_buffer"}`,
		}, gaps)
		require.Len(t, k.topics(t), 2*fit+2)
	})
}

func TestHealthySpokesAreNotSlowForABurst(t *testing.T) {
	// All this is one pass, and far more than the limit. An idle spoke gets it all, whether events for
	// it alone are among it or not.
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 1, Limits: Limits{SpokeBytes: 300}})
		a, ka := connect(t, h)
		_, kb := connect(t, h)
		release := holdShards(t, h)
		for i := range 100 {
			if i%10 == 5 {
				_, err := a.Dispatch(sized(t, "o:1", i, 100))
				require.NoError(t, err)
			}
			dispatch(t, h, sized(t, "a:1", i, 100))
		}
		release()
		h.Flush()
		require.Len(t, ka.topics(t), 110)
		require.Len(t, kb.topics(t), 100)
	})
}

// holdShards makes every shard wait until release is called.
func holdShards(t testing.TB, h *Hub) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	for _, sh := range h.shards {
		sh.post(post{op: opDo, do: func() { <-gate }})
	}
	return func() { close(gate) }
}
