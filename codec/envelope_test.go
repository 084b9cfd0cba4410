package codec

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// parsed is ParseEnvelope of a copy of text that is overwritten afterwards, as a read buffer is.
func parsed(text string) (Envelope, error) {
	data := []byte(text)
	e, err := ParseEnvelope(data)
	for i := range data {
		data[i] = 0xaa
	}
	return e, err
}

func TestParseEnvelopeReadsTheMembers(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, c := range []struct {
		text string
		want Envelope
	}{
		{`{"type":"tick","id":"42","payload":{"p":1}}`, Envelope{"tick", "42", raw(`{"p":1}`)}},
		{`{"payload":[1],"id":"42","type":"tick"}`, Envelope{"tick", "42", raw(`[1]`)}},
		{" {\t\"type\" :\n\"tick\" ,\r\"id\": \"42\" , \"payload\" : 1 } ", Envelope{"tick", "42", raw(`1`)}},
		{`{"type":"tick"}`, Envelope{"tick", "", nil}},
		{`{"type":"tick","id":"","payload":null}`, Envelope{"tick", "", nil}},
		{`{"type":"__subscribe","id":"tick:42"}`, Envelope{"__subscribe", "tick:42", nil}}, // who may send it is not asked here

		// What is passed on is passed on as it is.
		{`{"type":"t","payload":12345678901234567890.000}`, Envelope{"t", "", raw(`12345678901234567890.000`)}},
		{`{"type":"t","payload":-0.0E-00}`, Envelope{"t", "", raw(`-0.0E-00`)}},
		{`{"type":"t","payload": { "a" : 1 , "a":2 } }`, Envelope{"t", "", raw(`{ "a" : 1 , "a":2 }`)}},
		{`{"type":"t","payload":"\u00e9\/\ud800</script>"}`, Envelope{"t", "", raw(`"\u00e9\/\ud800</script>"`)}},
		{`{"type":"t","payload":{"type":"u","id":"9","payload":0}}`, Envelope{"t", "", raw(`{"type":"u","id":"9","payload":0}`)}},

		// Names are exact, whatever encoding/json takes for them.
		{`{"type":"t","Type":"u","TYPE":5,"Id":"9","ID":9,"iD":{},"Payload":1}`, Envelope{"t", "", nil}},
		{`{"type":"t","typ":"u","types":"v","i":"1","ids":"2","payloads":3,"":"4","type ":"w"}`, Envelope{"t", "", nil}},
		{`{"type":"t","\u212ad":"9","payload\u0000":1}`, Envelope{"t", "", nil}}, // the Kelvin sign folds to k

		// The last of the same name counts, whatever the first was.
		{`{"type":"a","type":"b","id":"1","id":"2","payload":1,"payload":2}`, Envelope{"b", "2", raw(`2`)}},
		{`{"type":5,"type":"b","id":null,"id":"2","payload":1,"payload":null}`, Envelope{"b", "2", nil}},
		{`{"type":"b","id":"2","\u0069d":"3","ty\u0070e":"c"}`, Envelope{"c", "3", nil}},

		// Escapes mean the character, in names and in values.
		{`{"\u0074\u0079\u0070\u0065":"t","i\u0064":"1","pay\u006Coad":2}`, Envelope{"t", "1", raw(`2`)}},
		{`{"type":"t\u0069ck","id":"\u0034\u0032"}`, Envelope{"tick", "42", nil}},
		{`{"type":"\"\\\/\b\f\n\r\t","id":"\u0000\u001f\u007f"}`, Envelope{"\"\\/\b\f\n\r\t", "\x00\x1f\x7f", nil}},
		{`{"type":"\ud83d\ude00","id":"é€😀"}`, Envelope{"😀", "é€😀", nil}},
		{`{"type":"\ud83d\ude00","\u0069\u0064":"\uD83D\uDE00"}`, Envelope{"😀", "😀", nil}},

		// Half a surrogate pair is no character: U+FFFD, as encoding/json and browsers have it.
		{`{"type":"\ud800","id":"\udc00"}`, Envelope{"\ufffd", "\ufffd", nil}},
		{`{"type":"a\ud800b","id":"\ud800\ud800\udc00"}`, Envelope{"a\ufffdb", "\ufffd\U00010000", nil}},
		{`{"type":"\ud800\u0041","id":"\ud800\n"}`, Envelope{"\ufffdA", "\ufffd\n", nil}},
		{`{"type":"\udc00\ud800","id":"\ud800\\u0041"}`, Envelope{"\ufffd\ufffd", "\ufffd\\u0041", nil}},
		{`{"type":"t","\ud800":1,"\udfff\"":2}`, Envelope{"t", "", nil}},

		// Bounds are in bytes of the decoded text.
		{`{"type":"` + strings.Repeat("t", 256) + `"}`, Envelope{strings.Repeat("t", 256), "", nil}},
		{`{"type":"` + strings.Repeat("é", 128) + `"}`, Envelope{strings.Repeat("é", 128), "", nil}},
		{`{"type":"` + strings.Repeat(`\u0074`, 256) + `"}`, Envelope{strings.Repeat("t", 256), "", nil}},
		{`{"type":"t","id":"` + strings.Repeat("i", 256) + `"}`, Envelope{"t", strings.Repeat("i", 256), nil}},
	} {
		e, err := parsed(c.text)
		require.NoError(t, err, "%s", c.text)
		require.Equal(t, c.want, e, "%s", c.text)
		requireRoundTrip(t, e)
		requireReadsLikeEncodingJSON(t, []byte(c.text))
	}
}

func TestParseEnvelopeSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, c := range []struct{ text, id, problem string }{
		{``, "", `at byte 0: the text ends where an envelope {"type":...,"id":...,"payload":...} was expected`},
		{`[]`, "", `at byte 0: '[' where an envelope {"type":...,"id":...,"payload":...} was expected`},
		{`null`, "", `at byte 0: 'n' where an envelope`},
		{`{}`, "", `type is missing or empty, it is a string of 1 to 256 bytes`},
		{`{"type":"","id":"7"}`, "7", `type is missing or empty`},
		{`{"Type":"t","id":"7"}`, "7", `type is missing or empty`},
		{`{"type":5,"id":"7"}`, "7", `at byte 8: type must be a string, not a number`},
		{`{"type":-5,"id":"7"}`, "7", `not a number`},
		{`{"type":null,"id":"7"}`, "7", `not null`},
		{`{"type":true,"id":"7"}`, "7", `not a boolean`},
		{`{"type":false,"id":"7"}`, "7", `not a boolean`},
		{`{"type":[],"id":"7"}`, "7", `not an array`},
		{`{"type":{"a":1},"id":"7"}`, "7", `not an object`},
		{`{"type":"t","type":5,"id":"7"}`, "7", `at byte 19: type must be a string, not a number`},
		{`{"id":7,"type":"t"}`, "", `at byte 6: id must be a string, not a number`},
		{`{"id":null,"type":"t"}`, "", `id must be a string, not null`},
		{`{"id":true,"type":"t"}`, "", `id must be a string, not a boolean`},
		{`{"id":["7"],"type":"t"}`, "", `id must be a string, not an array`},
		{`{"id":{},"type":"t"}`, "", `id must be a string, not an object`},
		{`{"id":"7","type":"t","id":8}`, "", `at byte 26: id must be a string`},
		{`{"type":"a:b","id":"7"}`, "7", `type contains ':'`},
		{`{"type":":","id":"7"}`, "7", `type contains ':'`},
		{`{"type":"a\u003ab","id":"7"}`, "7", `type contains ':'`},
		{`{"type":"` + strings.Repeat("t", 257) + `","id":"7"}`, "7", `type has 257 bytes, at most 256 are allowed`},
		{`{"type":"` + strings.Repeat("é", 128) + `x","id":"7"}`, "7", `type has 257 bytes`},
		{`{"type":"` + strings.Repeat(`\ud800`, 86) + `","id":"7"}`, "7", `type has 258 bytes`}, // 3 bytes each

		// An id that no envelope could carry is not given back: the answer could not carry it.
		{`{"type":"t","id":"` + strings.Repeat("i", 257) + `"}`, "", `id has 257 bytes, at most 256 are allowed`},
		{`{"type":"","id":"` + strings.Repeat("i", 257) + `"}`, "", `type is missing or empty`},

		// Once the text itself is broken, the id counts if it came before.
		{`{"id":"7","type":"t",}`, "7", `at byte 21: '}' where a member name in double quotes was expected`},
		{`{"type":"t","id":"7","payload":[1,]}`, "7", `at byte 34: ']' where a value was expected`},
		{`{"type":"t","payload":01,"id":"7"}`, "", `at byte 23: a number does not begin with 0`},
		{`{"id":"7","type":"t","payload":"\x"}`, "7", `at byte 33: 'x' where one of`},
		{`{"id":"7","other":"\ud83d\u12"}`, "7", `a hexadecimal digit`},
		{`{"type":"t","id":"7"}{}`, "7", `at byte 21: '{' where the end of the text was expected`},
		{`{"type":"t","id":"7"`, "7", `at byte 20: the text ends where ',' or '}' was expected`},
		{"{\"type\":\"t\",\"id\":\"7\",\"x\":\"\xff\"}", "", `at byte 26: invalid UTF-8`},
		{"\xef\xbb\xbf" + `{"type":"t"}`, "", `at byte 0: '\ufeff' where an envelope`},
	} {
		e, err := parsed(c.text)
		require.Zero(t, e)
		var bad *EnvelopeError
		require.ErrorAs(t, err, &bad, "%s", c.text)
		require.Equal(t, c.id, bad.ID, "%s", c.text)
		require.Contains(t, bad.Problem, c.problem, "%s", c.text)
		require.EqualError(t, err, "codec: bad envelope: "+bad.Problem)
		requireAnswerable(t, bad)
		requireReadsLikeEncodingJSON(t, []byte(c.text))
	}
}

func TestParseEnvelopeIsStrictAboutThePayload(t *testing.T) {
	wrap := func(payload string) string { return `{"type":"t","payload":` + payload + `}` }
	for _, c := range notJSON {
		for _, text := range c.texts {
			_, err := parsed(wrap(text))
			require.Error(t, err, "%.200q", text)
		}
	}
	for _, c := range strictJSON {
		for _, text := range c.texts {
			if nesting(t, []byte(text)) < MaxDepth { // the envelope is a level itself
				e, err := parsed(wrap(text))
				require.NoError(t, err, "%.200q", text)
				requireRoundTrip(t, e)
			}
		}
	}
}

func TestEnvelopeCountsAsOneLevelOfNesting(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	e := Envelope{Type: "t", Payload: json.RawMessage(nested(MaxDepth - 1))}
	requireRoundTrip(t, e)

	_, err := parsed(`{"type":"t","payload":` + nested(MaxDepth) + `}`)
	require.ErrorContains(t, err, "nested deeper than 512 levels")
	e.Payload = json.RawMessage(nested(MaxDepth)) // what nobody could read is not sent
	require.ErrorContains(t, e.Check(), "nested deeper than 512 levels")
}

func TestAppendEnvelopeWrites(t *testing.T) {
	for _, c := range []struct {
		e    Envelope
		want string
	}{
		{Envelope{"tick", "42", json.RawMessage(`{"p": 1.0}`)}, `{"type":"tick","id":"42","payload":{"p": 1.0}}`},
		{Envelope{"tick", "", nil}, `{"type":"tick","id":"","payload":null}`},
		{Envelope{"tick", "", json.RawMessage{}}, `{"type":"tick","id":"","payload":null}`},
		{Envelope{"t\"", "\\\n\x00", nil}, `{"type":"t\"","id":"\\\n\u0000","payload":null}`},
		{Envelope{"é<&>", "😀\u2028\x7f", nil}, "{\"type\":\"é<&>\",\"id\":\"😀\u2028\x7f\",\"payload\":null}"}, // nothing is escaped for HTML
	} {
		got, err := AppendEnvelope([]byte("before "), c.e)
		require.NoError(t, err)
		require.Equal(t, "before "+c.want, string(got))
		requireRoundTrip(t, c.e)
	}
}

func TestAppendEnvelopeRefusesWhatNobodyCouldRead(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, c := range []struct {
		e       Envelope
		id      string
		problem string
	}{
		{Envelope{}, "", "type is missing or empty"},
		{Envelope{long, "7", nil}, "7", "type has 257 bytes"},
		{Envelope{"a:b", "7", nil}, "7", "type contains ':'"},
		{Envelope{"\xff", "7", nil}, "7", "type is not valid UTF-8"},
		{Envelope{"t", long, nil}, "", "id has 257 bytes"},
		{Envelope{"t", "\xed\xa0\x80", nil}, "", "id is not valid UTF-8"},
		{Envelope{"t", "7", json.RawMessage("\"\xff\"")}, "7", "payload: at byte 1: invalid UTF-8"},
		{Envelope{"t", "7", json.RawMessage("1,")}, "7", "payload: at byte 1: ','"},
		{Envelope{"t", "7", json.RawMessage(`1}{"type":"t","payload":1`)}, "7", "payload: at byte 1: '}'"},
		{Envelope{"t", "7", json.RawMessage(" ")}, "7", "payload: at byte 1: the text ends"},
	} {
		got, err := AppendEnvelope([]byte("before"), c.e)
		require.Equal(t, "before", string(got))
		var bad *EnvelopeError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, c.id, bad.ID)
		require.Contains(t, bad.Problem, c.problem)
		requireAnswerable(t, bad)
	}
}

func TestNewEnvelopeEncodesThePayload(t *testing.T) {
	e, err := NewEnvelope("tick", "42", map[string]any{"p": 1.5})
	require.NoError(t, err)
	require.Equal(t, Envelope{"tick", "42", json.RawMessage(`{"p":1.5}`)}, e)
	require.Equal(t, "tick:42", e.Topic())
	require.False(t, e.Reserved())

	for name, payload := range map[string]any{
		"no JSON for it": func() {},
		"not a number":   math.NaN(),
		"invalid UTF-8":  "\xff", // sonic lets it through
	} {
		_, err := NewEnvelope("tick", "42", payload)
		require.Error(t, err, name)
	}
	_, err = NewEnvelope("a:b", "42", nil)
	require.Error(t, err)
}

func TestDecodeReadsThePayload(t *testing.T) {
	var v struct{ P float64 }
	require.NoError(t, Envelope{Type: "t", Payload: json.RawMessage(`{"P":1.5}`)}.Decode(&v))
	require.Equal(t, 1.5, v.P)
	require.Error(t, Envelope{Type: "t", Payload: json.RawMessage(`[]`)}.Decode(&v))

	p := new(int)
	require.NoError(t, Envelope{Type: "t"}.Decode(&p))
	require.Nil(t, p, "no payload is null")
}
