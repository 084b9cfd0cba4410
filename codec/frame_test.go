package codec

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// framed puts a header in front of payload.
func framed(op Opcode, payload []byte) []byte {
	return putHeader(append(make([]byte, maxHeaderBytes), payload...), op)
}

func TestPutHeaderWritesTheShortestLength(t *testing.T) {
	for _, c := range []struct {
		op     Opcode
		length int
		header []byte
	}{
		{Text, 0, []byte{0x81, 0}},
		{Text, 5, []byte{0x81, 0x05}},   // RFC 6455 section 5.7: "Hello"
		{Text, 125, []byte{0x81, 0x7d}}, // last length in 7 bits
		{Text, 126, []byte{0x81, 0x7e, 0x00, 0x7e}},
		{Binary, 256, []byte{0x82, 0x7e, 0x01, 0x00}},               // section 5.7: 256 bytes, binary
		{Text, 65535, []byte{0x81, 0x7e, 0xff, 0xff}},               // last length in 16 bits
		{Binary, 65536, []byte{0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0}}, // section 5.7: 64 KiB, binary
		{Text, 1<<24 + 2, []byte{0x81, 0x7f, 0, 0, 0, 0, 1, 0, 0, 2}},
	} {
		payload := bytes.Repeat([]byte{'x'}, c.length)
		got := framed(c.op, payload)
		require.Equal(t, c.header, got[:len(got)-c.length], "%d bytes", c.length)
		require.True(t, bytes.Equal(payload, got[len(c.header):]))
	}
}

func TestNewFrameIsOneFrameOfTheEnvelope(t *testing.T) {
	empty, err := AppendEnvelope(nil, Envelope{Type: "tick", ID: "42", Payload: json.RawMessage(`""`)})
	require.NoError(t, err)
	for _, op := range []Opcode{Text, Binary} {
		for _, length := range []int{
			len(empty), 124, 125, // 7 bits
			126, 127, 65534, 65535, // 16 bits
			65536, 65537, 1 << 20, // 64 bits
		} {
			payload := json.RawMessage(`"` + strings.Repeat("x", length-len(empty)) + `"`)
			f, err := NewFrame(Envelope{"tick", "42", payload}, op)
			require.NoError(t, err)
			require.Equal(t, len(f.Bytes()), f.Len())
			require.Equal(t, op, f.Opcode())
			require.Equal(t, "tick:42", f.Topic())
			require.Equal(t, "tick", f.Type())
			require.False(t, f.Reserved())

			r := bytes.NewReader(f.Bytes())
			h, err := ws.ReadHeader(r)
			require.NoError(t, err)
			require.NoError(t, ws.CheckHeader(h, ws.StateClientSide))
			require.Equal(t, ws.Header{Fin: true, OpCode: ws.OpCode(op), Length: int64(length)}, h)
			body, err := io.ReadAll(r)
			require.NoError(t, err)
			require.Len(t, body, length)
			e, err := ParseEnvelope(body)
			require.NoError(t, err)
			require.Equal(t, payload, e.Payload)
		}
	}
}

func TestNewFrameGivesTheseBytes(t *testing.T) {
	for _, c := range []struct {
		e    Envelope
		op   Opcode
		want string
	}{
		{Envelope{"tick", "42", json.RawMessage(`{"p":1.50}`)}, Text, "\x81\x2e" + `{"type":"tick","id":"42","payload":{"p":1.50}}`},
		{Envelope{"t", "", nil}, Binary, "\x82\x23" + `{"type":"t","id":"","payload":null}`},
	} {
		f, err := NewFrame(c.e, c.op)
		require.NoError(t, err)
		require.Equal(t, c.want, string(f.Bytes()))
	}
}

func TestNewFrameGrowsForEscapes(t *testing.T) {
	id := strings.Repeat("\x01", 256) // six bytes each on the wire
	f, err := NewFrame(Envelope{"t", id, nil}, Text)
	require.NoError(t, err)
	require.Equal(t, "t:"+id, f.Topic())
	require.Equal(t, "t", f.Type())
	h, err := ws.ReadHeader(bytes.NewReader(f.Bytes()))
	require.NoError(t, err)
	e, err := ParseEnvelope(f.Bytes()[f.Len()-int(h.Length):])
	require.NoError(t, err)
	require.Equal(t, id, e.ID)
}

func TestNewFrameKnowsItsEvent(t *testing.T) {
	for _, c := range []struct {
		typ, id, topic string
		reserved       bool
	}{
		{"tick", "", "tick:", false},
		{"tick", "a:b", "tick:a:b", false},
		{"_tick", "__1", "_tick:__1", false},
		{TypeGap, "", "__gap:", true},
		{"__", "1", "__:1", true},
	} {
		f, err := NewFrame(Envelope{Type: c.typ, ID: c.id}, Text)
		require.NoError(t, err)
		require.Equal(t, c.typ, f.Type())
		require.Equal(t, c.id, f.ID())
		require.Equal(t, c.topic, f.Topic())
		require.Equal(t, c.reserved, f.Reserved())
	}
}

func TestNewFrameRefusesWhatClientsWouldFailOn(t *testing.T) {
	for _, e := range []Envelope{
		{},
		{Type: "a:b"},
		{Type: "\xff"},
		{Type: "t", ID: "\xc0\x80"},
		{Type: "t", Payload: json.RawMessage(`{"a":}`)},
		{Type: "t", Payload: json.RawMessage(`1 2`)},
		{Type: "t", Payload: json.RawMessage("\"\xff\"")},
		{Type: "t", Payload: json.RawMessage("\"\xe2\x82\"")},
		{Type: "t", Payload: json.RawMessage(" ")},
	} {
		f, err := NewFrame(e, Text)
		var bad *EnvelopeError
		require.ErrorAs(t, err, &bad)
		require.Nil(t, f)
	}
}

func TestFrameDoesNotAliasWhatItWasMadeOf(t *testing.T) {
	payload := []byte(`"before"`)
	f, err := NewFrame(Envelope{Type: "t", Payload: payload}, Text)
	require.NoError(t, err)
	ping := NewControlFrame(Ping, payload)
	copy(payload, `"after!"`)
	require.Contains(t, string(f.Bytes()), "before")
	require.Contains(t, string(ping.Bytes()), "before")
}

func TestNewRecordKeepsTheBytesAsTheyAre(t *testing.T) {
	b := []byte("data: 1\n\n")
	f := NewRecord("tick", "a:b", b)
	require.Same(t, &b[0], &f.Bytes()[0])
	require.Equal(t, len(b), f.Len())
	require.Equal(t, []string{"tick", "a:b", "tick:a:b"}, []string{f.Type(), f.ID(), f.Topic()})
	require.False(t, f.Reserved())
	require.True(t, NewRecord(TypeGap, "", b).Reserved())
}

func TestNewControlFrame(t *testing.T) {
	require.Equal(t, "\x89\x05Hello", string(NewControlFrame(Ping, []byte("Hello")).Bytes())) // RFC 6455 section 5.7
	require.Equal(t, "\x8a\x00", string(NewControlFrame(Pong, nil).Bytes()))

	f := NewControlFrame(Pong, bytes.Repeat([]byte{0xff}, 125)) // a pong returns any bytes
	h, err := ws.ReadHeader(bytes.NewReader(f.Bytes()))
	require.NoError(t, err)
	require.NoError(t, ws.CheckHeader(h, ws.StateClientSide))
	require.Equal(t, ws.Header{Fin: true, OpCode: ws.OpPong, Length: 125}, h)
	require.Equal(t, 127, f.Len())
	require.Empty(t, f.Topic())
	require.Empty(t, f.Type())
	require.Empty(t, f.ID())
	require.Equal(t, Pong, f.Opcode())
	require.False(t, f.Reserved())

	require.Panics(t, func() { NewControlFrame(Ping, make([]byte, 126)) }) // section 5.5
}

func TestParseAndFrameAllocateThreeTimesEach(t *testing.T) {
	if raceEnabled {
		return // the detector allocates; the tests run without it as well
	}
	text := []byte(`{"type":"tick","id":"42","payload":{"p":1.5}}`)
	e, err := ParseEnvelope(text)
	require.NoError(t, err)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		if _, err := ParseEnvelope(text); err != nil {
			t.Fatal(err)
		}
	}), 3.0) // type, id, payload
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		if _, err := NewFrame(e, Text); err != nil {
			t.Fatal(err)
		}
	}), 3.0) // the frame, its bytes, its topic
}
