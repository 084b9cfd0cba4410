package cluster

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestTokensAreOneWordOfASubject(t *testing.T) {
	for s, want := range map[string]string{
		"": "=", "tick": "tick", "a.b": "a=2Eb", "*": "=2A", ">": "=3E", "=": "=3D", " ": "=20", "\r\n": "=0D=0A",
		"é": "=C3=A9", "a-b_C9": "a-b_C9", "$SYS": "=24SYS", "\x00\xff": "=00=FF",
	} {
		require.Equal(t, want, token(s))
		back, ok := untoken(want)
		require.True(t, ok)
		require.Equal(t, s, back)
	}
	for _, bad := range []string{"", "=2", "=2e", "=41", "a=", "==", ".", "a b", "=GG"} {
		_, ok := untoken(bad)
		require.False(t, ok, bad)
	}
}

func FuzzTokenIsReversible(f *testing.F) {
	for _, s := range []string{"", "tick", "a.b", "*", ">", "=", "=2E", "é", "\x00", "a b\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		word := token(s)
		require.NotEmpty(t, word)
		require.False(t, strings.ContainsAny(word, " \t\r\n.*>"), word)
		back, ok := untoken(word)
		require.True(t, ok)
		require.Equal(t, s, back)
		if other, ok := untoken(s); ok { // the other way round
			require.Equal(t, s, token(other))
		}
	})
}

func FuzzSubjectsOfNATSHub(f *testing.F) {
	f.Add("tick", "42")
	f.Add("a.b", "*")
	f.Add("t", "")
	f.Add("x y", ">.é")
	format, err := NATSHub("hub")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, typ, id string) {
		subject, ok := format.Subject(typ, id)
		require.True(t, ok)
		require.Len(t, strings.Split(subject, "."), 4)
		gotType, gotID, ok := format.Topic(subject)
		require.Equal(t, typ != "", ok)
		if ok {
			require.Equal(t, typ, gotType)
			require.Equal(t, id, gotID)
		}
		if (codec.Envelope{Type: typ, ID: id}).Check() != nil || strings.HasPrefix(typ, "__") {
			return
		}
		p := codec.TopicPattern(codec.Envelope{Type: typ, ID: id})
		sub := format.Subscriptions(p)[0]
		if !sub.Glob {
			require.Equal(t, subject, sub.Name)
		} else {
			require.Equal(t, subject[:strings.LastIndexByte(subject, '.')]+".*", sub.Name)
		}
	})
}

func TestTheStampIsReadBackAndTheEnvelopeIsWhatItWas(t *testing.T) {
	format, err := NATSHub("hub")
	require.NoError(t, err)
	for _, payload := range []string{``, `null`, `7`, `"x"`, `{"via":"abc.1"}`, `[",\"via\":\"abc.2\"}"]`, `{"a" : 1.50 }`, `{"a":1,"via":"abc.9"}`} {
		e := codec.Envelope{Type: "tick", ID: `4"2`}
		if payload != "" {
			e.Payload = []byte(payload)
		}
		frame, err := codec.NewFrame(e, codec.Text)
		require.NoError(t, err)
		plain := frame.Message()
		require.Zero(t, stampOf(plain), payload)
		stamp := Stamp{"5e0c91d2", 1<<64 - 1}
		got, back, err := format.Event("hub.e.tick.4=222", format.Append(nil, plain, stamp))
		require.NoError(t, err)
		require.Equal(t, stamp, back)
		again, err := codec.NewFrame(got, codec.Text)
		require.NoError(t, err)
		require.Equal(t, string(plain), string(again.Message()))
	}
}

func TestOnlyAWholeStampIsOne(t *testing.T) {
	for _, tail := range []string{`,"via":"abc"}`, `,"via":"abc.0"}`, `,"via":"abc.x"}`, `,"via":"A.1"}`, `,"via":"abc.1"} `, `,"via":".1"}`, `,"via":"abc.1","x":1}`} {
		require.Zero(t, stampOf([]byte(`{"type":"t"`+tail)), tail)
	}
}

func TestYogaCarriesThePayloadAlone(t *testing.T) {
	format, err := NATSYoga("gate")
	require.NoError(t, err)
	e := codec.Envelope{Type: `ti"ck`, ID: `a\:"payload":b`, Payload: []byte(`{"n":[1, 2]}`)}
	frame, err := codec.NewFrame(e, codec.Text)
	require.NoError(t, err)
	subject, ok := format.Subject(e.Type, e.ID)
	require.True(t, ok)
	require.Equal(t, `gate:ti"ck:a\:"payload":b`, subject)
	message := format.Append(nil, frame.Message(), Stamp{"x", 1})
	require.Equal(t, `{"n":[1, 2]}`, string(message))
	back, stamp, err := format.Event(subject, message)
	require.NoError(t, err)
	require.Zero(t, stamp)
	require.Equal(t, e, back)

	for _, id := range []string{"a b", "a..b", ".", "x.*", "x.*.y", "x.>", "a\tb", "a."} {
		_, ok := format.Subject("tick", id)
		require.False(t, ok, "%q is no NATS subject", id)
	}
	for _, subject := range []string{"other:tick:1", "gate", "gate::1", "gate:__hub:hubs", "tick:1"} {
		_, _, err := format.Event(subject, []byte("1"))
		require.ErrorIs(t, err, errForeign, subject)
	}
	for text, want := range map[string]string{"tick:42": "tick:42", "tick:*": "*", "*": "*", "tick:a b": "*"} {
		p, err := codec.ParsePattern(text)
		require.NoError(t, err)
		require.Equal(t, want, format.Widen(p).String())
	}
}

func FuzzYogaSubjectsAreReversible(f *testing.F) {
	f.Add("tick", "42")
	f.Add("a.b", ".")
	f.Add("é", "x y")
	format, err := NATSYoga("")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, typ, id string) {
		if (codec.Envelope{Type: typ, ID: id}).Check() != nil || strings.HasPrefix(typ, "__") || !utf8.ValidString(id) {
			return
		}
		if subject, ok := format.Subject(typ, id); ok {
			gotType, gotID, ok := format.Topic(subject)
			require.True(t, ok)
			require.Equal(t, [2]string{typ, id}, [2]string{gotType, gotID})
		}
	})
}

func TestPrefixesAreWordsOfASubject(t *testing.T) {
	for _, bad := range []string{"", ".", "a.", "a b", "*", "hub.>", "a=b", "$SYS"} {
		_, err := NATSHub(bad)
		require.Error(t, err, bad)
	}
	_, err := NATSHub("live.eu-1")
	require.NoError(t, err)
	for _, bad := range []string{"a b", "*", "a:b", "a..b"} {
		_, err := NATSYoga(bad)
		require.Error(t, err, bad)
	}
}
