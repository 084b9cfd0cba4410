package codec

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// requireRoundTrip holds that the wire form of e is strict JSON, in any reader's eyes, and is read as e.
func requireRoundTrip(t testing.TB, e Envelope) {
	t.Helper()
	text, err := AppendEnvelope(nil, e)
	require.NoError(t, err)
	require.True(t, utf8.Valid(text) && json.Valid(text), "%q", text)
	again, err := ParseEnvelope(text)
	require.NoError(t, err)
	if len(e.Payload) == 0 {
		e.Payload = nil
	}
	require.Equal(t, e, again)
}

// requireAnswerable holds that the hub can answer with an __error event.
func requireAnswerable(t testing.TB, bad *EnvelopeError) {
	t.Helper()
	require.NotEmpty(t, bad.Problem)
	requireRoundTrip(t, Control(TypeError, bad.ID, Error{Code: CodeBadEnvelope, Message: bad.Problem}))
}

// encodingJSONEnvelope reads an envelope by way of a map, whose names encoding/json does not fold,
// unlike those of a struct. It also says which id an error should carry if the text is an object.
func encodingJSONEnvelope(t testing.TB, data []byte) (e Envelope, object, ok bool) {
	t.Helper()
	if !utf8.Valid(data) || !json.Valid(data) || nesting(t, data) > MaxDepth {
		return Envelope{}, false, false
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil || members == nil { // null makes no map
		return Envelope{}, false, false
	}
	text := func(name string) (string, bool) {
		raw, present := members[name]
		if !present {
			return "", true
		}
		var v any
		s := ""
		if raw[0] == '"' {
			require.NoError(t, json.Unmarshal(raw, &v))
			s = v.(string)
		}
		return s, raw[0] == '"'
	}
	typ, typOK := text("type")
	id, idOK := text("id")
	e = Envelope{Type: typ, ID: id}
	if p := members["payload"]; string(p) != "null" {
		e.Payload = p
	}
	typOK = typOK && len(typ) >= 1 && len(typ) <= 256 && !strings.Contains(typ, ":")
	if len(id) > 256 {
		e.ID, idOK = "", false
	}
	return e, true, typOK && idOK
}

func requireReadsLikeEncodingJSON(t testing.TB, data []byte) {
	t.Helper()
	want, object, ok := encodingJSONEnvelope(t, data)
	got, err := parsed(string(data))
	require.Equal(t, ok, err == nil, "%v", err)
	if err == nil {
		require.Equal(t, want, got)
		requireRoundTrip(t, got)
		return
	}
	var bad *EnvelopeError
	require.ErrorAs(t, err, &bad)
	if object {
		require.Equal(t, want.ID, bad.ID)
	}
	requireAnswerable(t, bad)
}

func FuzzParseEnvelope(f *testing.F) {
	for _, text := range []string{
		`{"type":"tick","id":"42","payload":{"p":12345678901234567890.000}}`,
		" {\n\"payload\" : [ 1 ] , \"type\" : \"t\" } ",
		`{"type":"t","type":5,"id":"7","id":null,"payload":1,"payload":null}`,
		`{"type":5,"type":"t","Type":"u","ID":"1","ids":[],"":{}}`,
		`{"\u0074ype":"t\u0069ck","i\u0064":"\u0034","\u0070ayload":"\u00e9"}`,
		`{"type":"\ud83d\ude00","id":"\ud800\u0041\udc00\ud800\ud800\udc00"}`,
		`{"type":"\"\\\/\b\f\n\r\t\u0000","id":"é€😀:*"}`,
		`{"type":"a:b","id":"1"}`,
		`{"type":"a\u003ab","id":"1"}`,
		`{"type":"__subscribe","payload":{"topics":["a:1","b:*","*"]}}`,
		`{"id":"1","type":"t","payload":[1,]}`,
		`{"id":"1"}`,
		`null`,
		`[]`,
		`{}`,
		`{"type":"` + strings.Repeat("t", 257) + `","id":"` + strings.Repeat("i", 257) + `"}`,
		"{\"type\":\"t\",\"id\":\"\xff\"}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		requireReadsLikeEncodingJSON(t, data)
	})
}
