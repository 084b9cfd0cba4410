package fanout

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// countedTopics is what Hub.topicBytes should be, by a look at everything that is subscribed to.
func countedTopics(h *Hub) (bytes int64) {
	for _, sh := range h.shards {
		sh.mu.Lock()
		for _, s := range sh.slots {
			if s != nil && s.subs != nil {
				for _, sub := range s.subs.list {
					bytes += patternBytes(sub.pattern)
				}
			}
		}
		bytes += setBytes * int64(len(sh.index.sets))
		sh.mu.Unlock()
	}
	return bytes
}

func TestWhatSubscriptionsTakeIsCounted(t *testing.T) {
	h := newHub(t, Config{Shards: 1})
	const entry, set = entryBytes + 3, setBytes // of a topic with three characters
	a, _ := connect(t, h, "a:1", "b:1")
	require.EqualValues(t, 2*(entry+set), h.Stats().TopicBytes)
	b, _ := connect(t, h, "a:1")
	require.EqualValues(t, 3*entry+2*set, h.Stats().TopicBytes, "a set is shared")
	require.NoError(t, b.Subscribe(pattern(t, "a:1")))
	require.EqualValues(t, 3*entry+2*set, h.Stats().TopicBytes, "one that it has")
	require.NoError(t, b.Subscribe(codec.Everything))
	require.EqualValues(t, 4*entry-2+2*set, h.Stats().TopicBytes, "the narrower one is kept, in no set")
	a.Unsubscribe(pattern(t, "b:1"))
	require.EqualValues(t, 3*entry-2+set, h.Stats().TopicBytes)
	a.Detach(Cause{})
	b.Detach(Cause{})
	require.Zero(t, h.Stats().TopicBytes)
}

// room returns a hub in which two subscriptions have room, each in a set of its own.
func room(t *testing.T, c Config) *Hub {
	c.Shards = 1
	c.MaxTopicBytes = 2 * (patternBytes(pattern(t, "a:1")) + setBytes)
	return newHub(t, c)
}

func TestSubscriptionsBeyondTheMemoryForThemAreRefused(t *testing.T) {
	h := room(t, Config{BadEnvelopesPerMin: 1})
	s, k := connect(t, h)
	s.Receive([]byte(`{"type":"__subscribe","id":"7","payload":{"topics":["a:1","a:2","a:3"]}}`))
	_, everything := s.Topics()
	require.True(t, everything, "all or none")
	require.Zero(t, h.Stats().TopicBytes)
	s.Receive([]byte(`{"type":"__subscribe","id":"8","payload":{"topics":["a:1","a:2"]}}`))
	s.Receive([]byte(`{"type":"__subscribe","id":"9","payload":{"topics":["a:1","a:3"]}}`))
	require.NoError(t, s.Subscribe(pattern(t, "a:2")), "one that it has")
	require.ErrorIs(t, h.NewSpoke(nullSink{}).Attach(pattern(t, "a:1")), ErrTopicMemory)
	connect(t, h) // without topics there is room

	got := answers(t, h, k)
	require.Len(t, got, 3)
	for i, id := range map[int]string{0: "7", 2: "9"} {
		require.Equal(t, "__error:"+id, got[i].Topic())
		require.JSONEq(t, `{"code":"topic_memory","message":"the hub has no room for more subscriptions at the moment"}`, string(got[i].Payload))
	}
	require.Equal(t, "__subscribed:8", got[1].Topic())
	closed, _, _ := k.ending()
	require.False(t, closed, "it is not the spoke's fault")
	require.Equal(t, map[string]uint64{"too_many_topics": 0, "topic_memory": 2}, h.Stats().RefusedTopics)
	require.Equal(t, h.config.MaxTopicBytes, h.Stats().TopicBytes)

	s.Unsubscribe(pattern(t, "a:1"), pattern(t, "a:2"))
	require.NoError(t, s.Subscribe(pattern(t, "a:3")))
	require.Equal(t, 1, h.Stats().Spokes-1, "the one that was refused is not there")
}

func TestWhatClaimsImplyNeedsRoomToo(t *testing.T) {
	h := room(t, Config{})
	claims := Claims{Topics: []codec.Pattern{pattern(t, "a:1"), pattern(t, "a:2"), pattern(t, "a:3")}}
	s := h.NewSpoke(nullSink{})
	s.Restrict(claims)
	require.ErrorIs(t, s.Attach(), ErrTopicMemory)
	s = h.NewSpoke(nullSink{})
	s.Restrict(claims)
	require.NoError(t, s.Attach(pattern(t, "a:1")), "with less it may")
	require.Equal(t, countedTopics(h), h.Stats().TopicBytes)
}

// Neither does a fresh token get by the bound: what is taken by a spoke that is there already counts the same.
func TestWhatAFreshTokenImpliesNeedsRoomToo(t *testing.T) {
	claims := func(topics ...string) Claims {
		return Claims{Topics: patterns(t, topics...), Publish: patterns(t, topics...)}
	}
	h := renewing(t, map[string]Claims{
		"wider": claims("a:1", "a:2", "a:3"), "other": claims("b:1", "b:2"),
		"all": claims("*"), "whole": claims("b:*"), "narrower": claims("b:2"), "two": claims("b:2", "c:1"),
	})
	h.config.MaxTopicBytes = 2 * (patternBytes(pattern(t, "a:1")) + setBytes)
	s, k := connectAs(t, h, claims("a:1", "a:2"))
	topics := func() string {
		patterns, everything := s.Topics()
		if everything {
			return "everything"
		}
		return fmt.Sprint(patterns)
	}
	said := func() string {
		t.Helper()
		require.Equal(t, countedTopics(h), h.Stats().TopicBytes)
		got := answers(t, h, k)
		last := got[len(got)-1]
		require.Equal(t, "a", last.ID)
		return last.Type + string(last.Payload)
	}
	auth(s, "wider")
	require.Equal(t, `__error{"code":"topic_memory","message":"the hub has no room for more subscriptions at the moment"}`, said())
	require.Equal(t, "[a:1 a:2]", topics(), "everything is as it was")
	require.EqualValues(t, 1, h.Stats().RefusedTopics["topic_memory"])
	s.Receive([]byte(`{"type":"a","id":"3"}`))
	require.EqualValues(t, 1, h.Stats().Forbidden["event"])

	for _, step := range []struct{ token, topics string }{
		{"other", "[b:1 b:2]"}, {"narrower", "[b:2]"}, {"two", "[b:2 c:1]"}, {"all", "everything"}, {"whole", "[b:*]"},
		{"two", "[b:2 c:1]"}, {"narrower", "[b:2]"},
	} {
		auth(s, step.token)
		require.Equal(t, "__authed{}", said(), step.token)
		require.Equal(t, step.topics, topics())
	}

	// Who has subscribed by itself gets nothing more by a token, and is not refused one.
	require.NoError(t, s.Subscribe(patterns(t, "b:2")...))
	auth(s, "wider")
	require.Equal(t, `__authed{"unsubscribed":["b:2"]}`, said())
	require.Equal(t, "[]", topics())
}

func TestWithoutABoundSubscriptionsTakeWhatTheyNeed(t *testing.T) {
	h := newHub(t, Config{MaxTopicBytes: -1, MaxTopics: 3})
	s, _ := connect(t, h, "a:1", "a:2", "a:3")
	require.ErrorIs(t, s.Subscribe(pattern(t, "a:4")), ErrTooManyTopics)
	require.ErrorIs(t, h.NewSpoke(nullSink{}).Attach(pattern(t, "a:1"), pattern(t, "a:2"), pattern(t, "a:3"), pattern(t, "a:4")), ErrTooManyTopics)
	require.NotZero(t, h.Stats().TopicBytes)
	_, bytes := h.TopicLimits()
	require.Zero(t, bytes)
	_, err := New(Config{MaxTopics: -1})
	require.Error(t, err)
}

// topicCases are subscriptions as applications have them: few topics that many want, or each its own.
var topicCases = []struct {
	name           string
	spokes, topics int
	id             func(spoke, topic int) string
}{
	{"shared", 300, 100, func(_, topic int) string { return fmt.Sprint(topic) }},
	{"own", 300, 100, func(spoke, topic int) string { return fmt.Sprint(spoke, topic) }},
	{"one-each", 30_000, 1, func(spoke, _ int) string { return fmt.Sprint(spoke) }},
	{"long", 300, 100, func(spoke, topic int) string { return fmt.Sprint(spoke, topic, strings.Repeat("x", 200)) }},
}

// subscribedHeap returns what the subscriptions of a case take of the heap, each, and what is counted.
func subscribedHeap(t testing.TB, i int) (measured, counted float64) {
	c := topicCases[i]
	h := newHub(t, Config{MaxTopicBytes: -1, Explicit: true})
	spokes := connectNull(t, h, c.spokes, nil)
	before := heap()
	for n, s := range spokes {
		for topic := range c.topics {
			p, err := codec.ParsePattern("tick:" + c.id(n, topic))
			if err = errors.Join(err, s.Subscribe(p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := float64(c.spokes * c.topics)
	measured = float64(heap()-before) / all
	counted = float64(h.Stats().TopicBytes) / all
	runtime.KeepAlive(spokes)
	return measured, counted
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The estimate is one: it may be a third off, either way.
func TestSubscriptionsTakeAboutWhatIsCounted(t *testing.T) {
	for i, c := range topicCases {
		measured, counted := subscribedHeap(t, i)
		t.Logf("%s: %.0f bytes measured, %.0f counted", c.name, measured, counted)
		if !raceEnabled {
			require.InEpsilon(t, measured, counted, 0.34, c.name)
		}
	}
}
