package codec

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// message is what a MessageReader reported.
type message struct {
	op      Opcode
	payload string
}

// clientFrame is a masked frame as a client sends it.
func clientFrame(t testing.TB, op ws.OpCode, fin bool, payload string) []byte {
	t.Helper()
	f := ws.MaskFrameWith(ws.NewFrame(op, fin, []byte(payload)), [4]byte{0x37, 0xfa, 0x21, 0x3d})
	b, err := ws.CompileFrame(f)
	require.NoError(t, err)
	return b
}

// readCut feeds b in pieces of at most size bytes.
func readCut(b []byte, max int, size func() int) (got []message, err error) {
	return readCutBy(new(MessageReader), b, max, size)
}

func readCutBy(r *MessageReader, b []byte, max int, size func() int) (got []message, err error) {
	b = bytes.Clone(b)
	defer r.Release()
	for len(b) > 0 && err == nil {
		n := min(len(b), size())
		err = r.Feed(b[:n], max, func(op Opcode, payload []byte) error {
			got = append(got, message{op, string(payload)})
			return nil
		})
		b = b[n:]
	}
	return got, err
}

func readWhole(b []byte, max int) ([]message, error) {
	return readCut(b, max, func() int { return len(b) })
}

func TestMessageReaderReadsEveryLengthForm(t *testing.T) {
	for _, n := range []int{
		0, 1, 125, // 7 bits
		126, 127, 65535, // 16 bits
		65536, 70000, // 64 bits
	} {
		payload := strings.Repeat("a", n)
		got, err := readWhole(clientFrame(t, ws.OpText, true, payload), 1<<20)
		require.NoError(t, err)
		require.Equal(t, []message{{Text, payload}}, got)
	}
}

func TestMessageReaderGivesTheSameHoweverBytesAreCut(t *testing.T) {
	var stream []byte
	for _, f := range [][]byte{
		clientFrame(t, ws.OpText, true, "whole"),
		clientFrame(t, ws.OpText, false, "frag \xe2\x82"), // a euro sign across the fragments
		clientFrame(t, ws.OpPing, true, "between"),
		clientFrame(t, ws.OpContinuation, false, "\xac"),
		clientFrame(t, ws.OpContinuation, false, ""),
		clientFrame(t, ws.OpPong, true, ""),
		clientFrame(t, ws.OpContinuation, true, " end"),
		clientFrame(t, ws.OpBinary, true, strings.Repeat("\xff", 300)),
		clientFrame(t, ws.OpText, true, ""),
		clientFrame(t, ws.OpClose, true, "\x03\xe8bye"),
	} {
		stream = append(stream, f...)
	}
	want := []message{
		{Text, "whole"}, {Ping, "between"}, {Pong, ""}, {Text, "frag € end"},
		{Binary, strings.Repeat("\xff", 300)}, {Text, ""}, {Close, "\x03\xe8bye"},
	}
	for size := 1; size <= len(stream); size++ {
		got, err := readCut(stream, 1<<16, func() int { return size })
		require.NoError(t, err)
		require.Equal(t, want, got, "cut every %d bytes", size)
	}
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		got, err := readCut(stream, 1<<16, func() int { return 1 + rnd.IntN(20) })
		require.NoError(t, err)
		require.Equal(t, want, got, "seed %d", seed)
	}
}

func TestMessageReaderRefuses(t *testing.T) {
	frame := func(op ws.OpCode, fin bool, payload string) []byte { return clientFrame(t, op, fin, payload) }
	for name, c := range map[string]struct {
		in   []byte
		code CloseCode
	}{
		"5.1 unmasked":                      {[]byte{0x81, 0x01, 'a'}, CloseProtocolError},
		"5.2 reserved bit":                  {[]byte{0xc1, 0x80, 0, 0, 0, 0}, CloseProtocolError},
		"5.2 reserved opcode 3":             {frame(3, true, ""), CloseProtocolError},
		"5.2 reserved control opcode 11":    {frame(11, true, ""), CloseProtocolError},
		"5.2 length 125 in 16 bits":         {[]byte{0x82, 0xfe, 0, 125, 0, 0, 0, 0}, CloseProtocolError},
		"5.2 length 65535 in 64 bits":       {[]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, CloseProtocolError},
		"5.2 highest length bit":            {[]byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, CloseProtocolError},
		"5.4 continuation of nothing":       {frame(ws.OpContinuation, true, "x"), CloseProtocolError},
		"5.4 new message within a message":  {append(frame(ws.OpText, false, "x"), frame(ws.OpText, true, "y")...), CloseProtocolError},
		"5.5 fragmented control frame":      {frame(ws.OpPing, false, ""), CloseProtocolError},
		"5.5 control frame of 126 bytes":    {frame(ws.OpPing, true, strings.Repeat("x", 126)), CloseProtocolError},
		"8.1 invalid UTF-8":                 {frame(ws.OpText, true, "a\xff"), CloseInvalidUTF8},
		"8.1 surrogate":                     {frame(ws.OpText, true, "\xed\xa0\x80"), CloseInvalidUTF8},
		"8.1 cut off character at the end":  {frame(ws.OpText, true, "\xe2\x82"), CloseInvalidUTF8},
		"8.1 cut off across fragments":      {append(frame(ws.OpText, false, "\xe2"), frame(ws.OpContinuation, true, "")...), CloseInvalidUTF8},
		"8.1 wrong in the first fragment":   {frame(ws.OpText, false, "ok\xc0"), CloseInvalidUTF8},
		"10.4 one byte over the limit":      {frame(ws.OpBinary, true, strings.Repeat("x", 1001)), CloseTooBig},
		"10.4 over the limit in fragments":  {append(frame(ws.OpText, false, strings.Repeat("x", 600)), frame(ws.OpContinuation, true, strings.Repeat("x", 401))...), CloseTooBig},
		"10.4 a length of 2^62, not waited": {[]byte{0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, CloseTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, len(c.in)} {
				got, err := readCut(c.in, 1000, func() int { return size })
				var perr *ProtocolError
				require.ErrorAs(t, err, &perr)
				require.Equal(t, c.code, perr.Code, "%v", err)
				require.Empty(t, got)
			}
		})
	}
}

func TestMessageReaderFailsUTF8WithinAFrame(t *testing.T) {
	f := clientFrame(t, ws.OpText, true, "good \xf8 and much more to come that is not waited for")
	var r MessageReader
	require.NoError(t, r.Feed(bytes.Clone(f[:6+5]), 1000, nil))
	err := r.Feed([]byte{f[6+5]}, 1000, nil)
	var perr *ProtocolError
	require.ErrorAs(t, err, &perr)
	require.Equal(t, CloseInvalidUTF8, perr.Code)
}

func TestMessageReaderIsIdleBetweenMessages(t *testing.T) {
	f := append(clientFrame(t, ws.OpText, false, "a"), clientFrame(t, ws.OpContinuation, true, "b")...)
	var r MessageReader
	require.True(t, r.Idle())
	for i := range f {
		require.NoError(t, r.Feed([]byte{f[i]}, 1000, func(Opcode, []byte) error { return nil }))
		require.Equal(t, i == len(f)-1, r.Idle(), "byte %d", i)
	}
}

func TestMessageReaderReadsWholeFramesWithoutAllocating(t *testing.T) {
	if raceEnabled {
		return // the detector allocates; make test runs this package without it as well
	}
	f := clientFrame(t, ws.OpText, true, strings.Repeat("x", 256))
	b := make([]byte, len(f))
	var r MessageReader
	n := 0
	on := func(Opcode, []byte) error { n++; return nil }
	require.Zero(t, testing.AllocsPerRun(100, func() {
		copy(b, f)
		if err := r.Feed(b, 1000, on); err != nil {
			t.Fatal(err)
		}
	}))
	require.NotZero(t, n)
}

// FuzzMessageReader holds the reader against the reference, whole and cut.
func FuzzMessageReader(f *testing.F) {
	f.Add(clientFrame(f, ws.OpText, true, "hello"), uint8(3), false)
	f.Add(append(clientFrame(f, ws.OpText, false, "\xe2\x82"), clientFrame(f, ws.OpContinuation, true, "\xac")...), uint8(1), false)
	f.Add([]byte{0x88, 0x82, 1, 2, 3, 4, 5, 6}, uint8(2), true)
	for _, c := range conversations(f) {
		f.Add(c.sent, uint8(len(c.sent)), c.inflates)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8, inflates bool) {
		for _, m := range manners {
			want, wantCode := reference(in, 4096, inflates, m.gathered)
			for _, size := range []int{len(in), 1 + int(cut)} {
				got, code := outcome(in, 4096, inflates, m, func() int { return size })
				require.Equal(t, want, got)
				require.Equal(t, wantCode, code)
			}
		}
	})
}
