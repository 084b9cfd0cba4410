package fanout

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// answers returns what the hub has told the spoke since __welcome.
func answers(t testing.TB, h *Hub, k *scriptSink) []codec.Envelope {
	t.Helper()
	h.Flush()
	events, _ := k.events(t)
	return events[1:]
}

func TestSubscribingIsAnswered(t *testing.T) {
	for message, want := range map[string]string{
		`{"type":"__subscribe","id":"7","payload":{"topic":"tick:42"}}`:                    `["tick:42"]`,
		`{"type":"__subscribe","id":"7","payload":{"topics":["tick:42","order:"]}}`:        `["tick:42","order:*"]`,
		`{"type":"__subscribe","id":"7","payload":{"topics":[]}}`:                          `[]`,
		`{"type":"__subscribe","id":"7","payload":{"topic":"a:1","topics":["b:1"]}}`:       `["a:1","b:1"]`,
		`{"type":"__subscribe","id":"7","payload":"tick:\u0034\u00e4 \ud83d\ude00"}`:       `["tick:4ä 😀"]`,
		`{"type":"__subscribe","id":"7","payload": "*" }`:                                  `["*"]`,
		`{"id":"tick:42","type":"__subscribe","payload":null}`:                             `["tick:42"]`,
		`{"id":"tick:","type":"__subscribe"}`:                                              `["tick:*"]`,
		`{"type":"__unsubscribe","id":"7","payload":{"topics":["never:1","*"]}}`:           `["never:1","*"]`,
		`{"type":"__unsubscribe","id":"a:b:c"}`:                                            `["a:b:c"]`,
		`{"type":"__subscribe","id":"7","payload":{"topics":["a:1","a:1"],"else":[1,{}]}}`: `["a:1","a:1"]`,
	} {
		h := newHub(t, Config{})
		s, k := connect(t, h)
		s.Receive([]byte(message))
		got := answers(t, h, k)
		require.Len(t, got, 1, message)
		asked, err := codec.ParseEnvelope([]byte(message))
		require.NoError(t, err)
		require.Equal(t, asked.Type+"d", got[0].Type, message)
		require.Equal(t, asked.ID, got[0].ID, message)
		require.JSONEq(t, `{"topics":`+want+`}`, string(got[0].Payload), message)
		require.Zero(t, h.Stats().Refused)
		require.Zero(t, h.Stats().Received, "they are not for listeners")
	}
}

func TestSubscriptionsByMessageCount(t *testing.T) {
	h := newHub(t, Config{})
	s, k := connect(t, h)
	s.Receive([]byte(`{"type":"__subscribe","payload":{"topics":["a:1","b:*"]}}`))
	require.Equal(t, 1, dispatch(t, h, event("a", "1", 2)))
	require.Zero(t, dispatch(t, h, event("a", "2", 2)))
	s.Receive([]byte(`{"type":"__unsubscribe","id":"b:"}`))
	require.Zero(t, dispatch(t, h, event("b", "1", 2)))
	h.Flush()
	require.Equal(t, []string{"__subscribed:", "a:1", "__unsubscribed:b:"}, k.topics(t))
}

func TestBadMessagesAreAnsweredByError(t *testing.T) {
	long := strings.Repeat("x", 300)
	many, err := json.Marshal(make([]string, 10))
	require.NoError(t, err)
	for _, test := range []struct {
		message, id, code, problem string
	}{
		{"nonsense", "", codec.CodeBadEnvelope, "at byte 0"},
		{"", "", codec.CodeBadEnvelope, "text ends"},
		{`[]`, "", codec.CodeBadEnvelope, "envelope"},
		{"{\"type\":\"a\",\"id\":\"9\",\"payload\":\"\xff\"}", "", codec.CodeBadEnvelope, "invalid UTF-8"},
		{`{"id":"9"}`, "9", codec.CodeBadEnvelope, "type is missing"},
		{`{"type":5,"id":"9"}`, "9", codec.CodeBadEnvelope, "type must be a string"},
		{`{"type":"a","id":9}`, "", codec.CodeBadEnvelope, "id must be a string"},
		{`{"type":"` + long + `","id":"9"}`, "9", codec.CodeBadEnvelope, "at most 256"},
		{`{"type":"a","id":"` + long + `"}`, "", codec.CodeBadEnvelope, "at most 256"},
		{`{"type":"__welcome","id":"9"}`, "9", codec.CodeBadEnvelope, "__welcome"},
		{`{"type":"__\"new\u00e4","id":"9"}`, "9", codec.CodeBadEnvelope, `__"newä`},
		{`{"type":"__subscribe","id":"9","payload":5}`, "9", codec.CodeBadTopic, "payload of __subscribe"},
		{`{"type":"__subscribe","id":"9","payload":{}}`, "9", codec.CodeBadTopic, "payload of __subscribe"},
		{`{"type":"__subscribe","id":"9","payload":{"topics":"a:1"}}`, "9", codec.CodeBadTopic, "payload of __subscribe"},
		{`{"type":"__unsubscribe","id":"9","payload":["a:1"]}`, "9", codec.CodeBadTopic, "payload of __unsubscribe"},
		{`{"type":"__subscribe","id":"9"}`, "9", codec.CodeBadTopic, "has no ':'"},
		{`{"type":"__subscribe","id":"9","payload":"__gap:"}`, "9", codec.CodeBadTopic, "type of the hub"},
		{`{"type":"__subscribe","id":"9","payload":"\ud800:1"}`, "9", "", ""}, // any answer, but one
		{`{"type":"__subscribe","id":"9","payload":{"topics":` + string(many) + `}}`, "9", codec.CodeBadTopic, "has no ':'"},
		{`{"type":"__subscribe","id":"9","payload":"` + long + long + `:1"}`, "9", codec.CodeBadTopic, "600 bytes"},
	} {
		h := newHub(t, Config{})
		s, k := connect(t, h)
		_, err := h.AddListener("*", func(*Spoke, codec.Envelope) { t.Error("heard " + test.message) })
		require.NoError(t, err)
		s.Receive([]byte(test.message))
		got := answers(t, h, k)
		require.Len(t, got, 1, test.message)
		require.Equal(t, test.id, got[0].ID, test.message)
		if test.code == "" {
			continue
		}
		require.Equal(t, codec.TypeError, got[0].Type, test.message)
		var e codec.Error
		require.NoError(t, got[0].Decode(&e))
		require.Equal(t, test.code, e.Code, test.message)
		require.Contains(t, e.Message, test.problem, test.message)
		require.EqualValues(t, 1, h.Stats().Refused)
		require.Equal(t, 1, dispatch(t, h, event("a", "1", 2)), "it changes nothing")
	}
}

func TestTooManyTopicsAreRefused(t *testing.T) {
	h := newHub(t, Config{})
	s, k := connect(t, h)
	var topics []string
	for i := range DefaultMaxTopics + 1 {
		topics = append(topics, fmt.Sprintf(`"a:%d"`, i))
	}
	s.Receive([]byte(`{"type":"__subscribe","id":"9","payload":{"topics":[` + strings.Join(topics, ",") + `]}}`))
	got := answers(t, h, k)
	require.Len(t, got, 1)
	var e codec.Error
	require.NoError(t, got[0].Decode(&e))
	require.Equal(t, codec.CodeTooMany, e.Code)
	_, everything := s.Topics()
	require.True(t, everything, "none of them counts")
}

// Not even looked at: it would take a poller for milliseconds, and the answer would repeat it.
func TestMessagesThatNameTooManyTopicsAreRefused(t *testing.T) {
	for _, typ := range []string{codec.TypeSubscribe, codec.TypeUnsubscribe} {
		h := newHub(t, Config{MaxTopics: 10})
		s, k := connect(t, h, "a:1")
		s.Receive([]byte(`{"type":"` + typ + `","id":"9","payload":{"topics":["a:1"` + strings.Repeat(`,"a:1"`, 12) + `]}}`))
		got := answers(t, h, k)
		require.Len(t, got, 1)
		var e codec.Error
		require.NoError(t, got[0].Decode(&e))
		require.Equal(t, codec.Error{Code: codec.CodeTooMany, Message: "a " + typ + " names at most 10 topics"}, e)
		topics, _ := s.Topics()
		require.Len(t, topics, 1)
		require.EqualValues(t, 1, h.Stats().RefusedTopics[codec.CodeTooMany])
	}
}

func TestSpokeThatGoesOnSendingNonsenseIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, k := connect(t, h)
		for range 15 {
			s.Receive([]byte("nonsense"))
			after(3999 * time.Millisecond)
		}
		closed, _, _ := k.ending()
		require.False(t, closed)
		s.Receive([]byte("nonsense")) // the 16th, 59.985 s after the first
		synctest.Wait()
		closed, code, reason := k.ending()
		require.True(t, closed)
		require.Equal(t, codec.ClosePolicy, code)
		require.Equal(t, "too many bad envelopes", reason)
		require.Len(t, answers(t, h, k), 16, "each has its answer, before the close frame")
		s.Receive([]byte("nonsense"))
		h.Flush()
	})
}

func TestNonsenseNowAndThenIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{BadEnvelopesPerMin: 3})
		s, k := connect(t, h)
		for range 20 {
			s.Receive([]byte("nonsense"))
			s.Receive([]byte("nonsense"))
			for range 10 {
				say(s, "a:1") // counts for nothing
			}
			after(time.Minute)
		}
		require.Len(t, answers(t, h, k), 40)
		s.Receive([]byte("nonsense"))
		s.Receive([]byte("nonsense"))
		s.Receive([]byte("nonsense"))
		h.Flush()
		closed, _, _ := k.ending()
		require.True(t, closed)
	})
}

func TestRefuseAndAnnounceReachTheSpoke(t *testing.T) {
	h := newHub(t, Config{})
	s, k := connect(t, h)
	s.Refuse("9", codec.CodeOverloaded, "try later")
	require.NoError(t, s.Announce(codec.TypeDrain, codec.Drain{ReconnectAfterMs: 250}))
	got := answers(t, h, k)
	require.Len(t, got, 2)
	require.Equal(t, "__error:9", got[0].Topic())
	require.JSONEq(t, `{"code":"overloaded","message":"try later"}`, string(got[0].Payload))
	require.Equal(t, "__drain:", got[1].Topic())
	require.JSONEq(t, `{"reconnectAfterMs":250}`, string(got[1].Payload))
	require.Zero(t, h.Stats().Refused)
}

func TestRefuseAndAnnounceSurviveBadStrings(t *testing.T) {
	h := newHub(t, Config{})
	s, k := connect(t, h)
	s.Refuse("\xff", "a\xffb", "c\xff")
	require.Error(t, s.Announce("\xff", nil))
	require.Error(t, s.Announce("__note", func() {}))
	got := answers(t, h, k)
	require.Len(t, got, 1)
	require.Equal(t, "__error:", got[0].Topic())
	require.JSONEq(t, `{"code":"a\ufffdb","message":"c\ufffd"}`, string(got[0].Payload))
}

// FuzzReceive looks for a message that the hub does not survive, or leaves without an answer.
func FuzzReceive(f *testing.F) {
	for _, message := range []string{
		`{"type":"a","id":"1","payload":[1]}`, `{"type":"__subscribe","id":"a:1"}`, `{"type":"__subscribe","payload":"\ud800"}`,
		`{"type":"__unsubscribe","payload":{"topics":["a:1","*"]}}`, `{"type":"__\u0000"}`, "nonsense", "{\"type\":\"\xff\"}",
	} {
		f.Add([]byte(message))
	}
	h, err := New(Config{Shards: 1})
	require.NoError(f, err)
	f.Cleanup(h.Close)
	f.Fuzz(func(t *testing.T, message []byte) {
		s, k := connect(t, h)
		defer s.Detach(Cause{})
		before := h.Stats().Received
		s.Receive(message)
		got := answers(t, h, k)
		require.EqualValues(t, 1, uint64(len(got))+h.Stats().Received-before)
	})
}
