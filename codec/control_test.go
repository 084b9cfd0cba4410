package codec

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestControlEventsAreSpelledAsDocumented(t *testing.T) {
	for _, c := range []struct {
		typ, id string
		payload any
		want    string
	}{
		{TypeWelcome, "", Welcome{"s1", "n1", 0}, `{"type":"__welcome","id":"","payload":{"spoke":"s1","node":"n1"}}`},
		{TypeWelcome, "", Welcome{"s1", "n1", 1500}, `{"type":"__welcome","id":"","payload":{"spoke":"s1","node":"n1","expiresInMs":1500}}`},
		{TypeAuth, "7", Auth{"a.b.c"}, `{"type":"__auth","id":"7","payload":{"token":"a.b.c"}}`},
		{TypeAuthed, "7", Authed{}, `{"type":"__authed","id":"7","payload":{}}`},
		{TypeAuthed, "7", Authed{1500, []string{"a:1"}}, `{"type":"__authed","id":"7","payload":{"expiresInMs":1500,"unsubscribed":["a:1"]}}`},
		{TypeGap, "", Gap{3, 1, "slow"}, `{"type":"__gap","id":"","payload":{"dropped":3,"conflated":1,"reason":"slow"}}`},
		{TypeError, "7", Error{Code: CodeBadEnvelope, Message: "no"}, `{"type":"__error","id":"7","payload":{"code":"bad_envelope","message":"no"}}`},
		{TypeError, "", Error{CodeRateLimited, "no", 1, 2000}, `{"type":"__error","id":"","payload":{"code":"rate_limited","message":"no","refused":1,"retryAfterMs":2000}}`},
		{TypeDrain, "", Drain{1500}, `{"type":"__drain","id":"","payload":{"reconnectAfterMs":1500}}`},
		{TypeSubscribed, "7", Topics{[]string{"a:1", "b:*"}}, `{"type":"__subscribed","id":"7","payload":{"topics":["a:1","b:*"]}}`},
		{TypeUnsubscribed, "7", Topics{[]string{}}, `{"type":"__unsubscribed","id":"7","payload":{"topics":[]}}`},
		{TypeSubscribe, "7", Topics{[]string{"*"}}, `{"type":"__subscribe","id":"7","payload":{"topics":["*"]}}`},
		{TypeUnsubscribe, "a:1", nil, `{"type":"__unsubscribe","id":"a:1","payload":null}`},
	} {
		e := Control(c.typ, c.id, c.payload)
		require.True(t, e.Reserved())
		got, err := AppendEnvelope(nil, e)
		require.NoError(t, err)
		require.Equal(t, c.want, string(got))
		requireReadsLikeEncodingJSON(t, got)
	}
}

func TestControlPanicsOnABugOfTheHub(t *testing.T) {
	require.Panics(t, func() { Control(TypeError, "\xff", nil) })
	require.Panics(t, func() { Control(TypeError, "", Error{Message: "\xff"}) })
	require.Panics(t, func() { Control(TypeError, strings.Repeat("x", 257), nil) })
}

func TestParseTopicsReadsEveryForm(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{`{"type":"__subscribe","payload":{"topic":"tick:42"}}`, []string{"tick:42"}},
		{`{"type":"__subscribe","payload":{"topic":"tick:"}}`, []string{"tick:*"}},
		{`{"type":"__subscribe","payload":{"topics":["tick:42","order:*","*"]}}`, []string{"tick:42", "order:*", "*"}},
		{`{"type":"__subscribe","payload":{"topics":["tick:42","tick:42"]}}`, []string{"tick:42", "tick:42"}},
		{`{"type":"__subscribe","payload":{"topics":[]}}`, []string{}},
		{`{"type":"__subscribe","payload":{"topic":"a:1","topics":["b:2"]}}`, []string{"a:1", "b:2"}},
		{`{"type":"__subscribe","payload":{"topic":null,"topics":["b:2"]}}`, []string{"b:2"}},
		{`{"type":"__subscribe","payload":{"topic":"a:1","more":[{"topic":1}]}}`, []string{"a:1"}}, // others are ignored
		{`{"type":"__subscribe","payload": { "topic" : "a:1" } }`, []string{"a:1"}},
		{`{"type":"__subscribe","payload":"tick:42"}`, []string{"tick:42"}},
		{`{"type":"__subscribe","payload":"t\u0069ck:\ud83d\ude00"}`, []string{"tick:😀"}},
		{`{"type":"__subscribe","payload":"*","id":"not:this"}`, []string{"*"}},
		{`{"type":"__subscribe","id":"tick:42","payload":null}`, []string{"tick:42"}},
		{`{"type":"__unsubscribe","id":"tick:a:b"}`, []string{"tick:a:b"}},
		{`{"type":"__unsubscribe","id":"*"}`, []string{"*"}},
	} {
		e, err := parsed(c.text)
		require.NoError(t, err)
		patterns, err := ParseTopics(e)
		require.NoError(t, err, "%s", c.text)
		got := []string{}
		for _, p := range patterns {
			got = append(got, p.String())
		}
		require.Equal(t, c.want, got, "%s", c.text)
	}
}

func TestNamesMoreThanCountsStrings(t *testing.T) {
	for _, c := range []struct {
		payload string
		max     int
		more    bool
	}{
		{`null`, 1, false},
		{`"a:1"`, 1, false},
		{`{"topics":["a:1","a:2","a:3"]}`, 3, false},
		{`{"topic":"a:0","topics":["a:1","a:2"]}`, 3, false},
		{`{"topics":["a:1","a:2","a:3","a:4"]}`, 2, true},
		{`{"topic":"a:0","topics":["a:1","a:2","a:3"]}`, 3, true},
		{`{"topics":["a:\"1,\\","a:\\\"\"\"\"\"\"\"2"]}`, 2, false},
		{`{"topics":["a:\"1,\\","a:\\\"2","a:\"3","a:4"]}`, 2, true},
	} {
		require.Equal(t, c.more, NamesMoreThan(c.max, Envelope{TypeSubscribe, "", json.RawMessage(c.payload)}), "%+v", c)
	}
}

func TestParseTopicsTakesSpelledOutNull(t *testing.T) {
	for _, payload := range []string{"", "null", " null\n"} {
		patterns, err := ParseTopics(Envelope{TypeSubscribe, "a:1", json.RawMessage(payload)})
		require.NoError(t, err)
		require.Equal(t, []Pattern{{"a:1"}}, patterns)
	}
}

func TestParseTopicsRefuses(t *testing.T) {
	const form = `codec: payload of __subscribe must be {"topic":"type:id"}, {"topics":[...]}, a string, or null with the topic as id`
	for _, c := range []struct{ id, payload, message string }{
		{"", `null`, `topic "" has no ':'`},
		{"tick", `null`, `topic "tick" has no ':'`},
		{"a:1", `""`, `topic "" has no ':'`}, // an empty string is a topic, not its absence
		{"a:1", `{}`, form},
		{"a:1", `{"other":1}`, form},
		{"a:1", `{"topic":null}`, form},
		{"a:1", `{"topics":null}`, form},
		{"a:1", `{"topic":5}`, form},
		{"a:1", `{"topic":["b:2"]}`, form},
		{"a:1", `{"topics":"b:2"}`, form},
		{"a:1", `{"topics":["b:2",5]}`, form},
		{"a:1", `{"topics":{"0":"b:2"}}`, form},
		{"a:1", `["b:2"]`, form},
		{"a:1", `5`, form},
		{"a:1", `true`, form},
		{"a:1", `{"topics":["b:2",null]}`, `topic "" has no ':'`},
		{"a:1", `{"topics":["b:2","tick"]}`, `topic "tick" has no ':'`}, // one bad topic refuses all
		{"a:1", `{"topic":"__gap:"}`, `names a type of the hub`},
		{"a:1", `"` + strings.Repeat("x", 257) + `:"`, `has a type of 257 bytes`},
	} {
		patterns, err := ParseTopics(Envelope{TypeSubscribe, c.id, json.RawMessage(c.payload)})
		require.ErrorContains(t, err, c.message, "%s", c.payload)
		require.Nil(t, patterns)
		requireRoundTrip(t, Control(TypeError, "", Error{Code: CodeBadTopic, Message: err.Error()})) // it can be answered
	}
}
