package codec

import (
	"bytes"
	stdflate "compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// rsvFrame is a masked frame with the reserved bits of rsv.
func rsvFrame(t testing.TB, rsv byte, op ws.OpCode, fin bool, payload string) []byte {
	t.Helper()
	f := ws.NewFrame(op, fin, []byte(payload))
	f.Header.Rsv = rsv
	b, err := ws.CompileFrame(ws.MaskFrameWith(f, [4]byte{0x37, 0xfa, 0x21, 0x3d}))
	require.NoError(t, err)
	return b
}

// deflatedFrame is the first frame of a compressed message as a client sends it.
func deflatedFrame(t testing.TB, op ws.OpCode, fin bool, payload string) []byte {
	t.Helper()
	return rsvFrame(t, rsv1, op, fin, payload)
}

// deflated is the payload of a compressed message, by the standard library.
func deflated(t testing.TB, message string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := stdflate.NewWriter(&b, 6)
	require.NoError(t, err)
	_, err = io.WriteString(w, message)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	return strings.TrimSuffix(b.String(), syncTail)
}

// readInflating is readCut on a connection that negotiated compression, by a reader that is eager or not.
func readInflating(eager bool, b []byte, max int, size func() int) ([]message, error) {
	return readCutBy(&MessageReader{Inflate: true, eager: eager}, b, max, size)
}

var both = []bool{false, true}

// The payloads of RFC 7692 section 7.2.3, and others that are right.
var inflatable = []struct{ name, payload, message string }{
	{"7.2.3.1 one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"},
	{"7.2.3.3 block without compression", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"},
	{"7.2.3.4 block with BFINAL", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"},
	{"7.2.3.5 two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"},
	{"7.2.3.6 empty", "\x00", ""},
	{"empty, with BFINAL", "\x01", ""},
	{"empty, without a block", "", ""},
	{"BFINAL, without the empty block behind it", "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"},
	{"BFINAL twice", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "HelloHello"},
	{"BFINAL, then a block without", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", "HelloHello"},
	{"7.2.3.1 and a block without compression", "\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "HelloHello"},
	{"empty blocks alone", strings.Repeat("\x00\x00\x00\xff\xff", 20) + "\x00", ""},
}

func TestCompressedMessagesOfTheRFCAreRead(t *testing.T) {
	for _, c := range inflatable {
		t.Run(c.name, func(t *testing.T) {
			whole := deflatedFrame(t, ws.OpText, true, c.payload)
			for size := 1; size <= len(whole); size++ {
				for _, eager := range both {
					got, err := readInflating(eager, whole, 100, func() int { return size })
					require.NoError(t, err)
					require.Equal(t, []message{{Text, c.message}}, got, "cut every %d bytes", size)
				}
			}
			for cut := range len(c.payload) + 1 {
				two := append(deflatedFrame(t, ws.OpBinary, false, c.payload[:cut]),
					clientFrame(t, ws.OpContinuation, true, c.payload[cut:])...)
				for _, size := range []int{1, 3, len(two)} {
					for _, eager := range both {
						got, err := readInflating(eager, two, 100, func() int { return size })
						require.NoError(t, err)
						require.Equal(t, []message{{Binary, c.message}}, got, "fragments cut at %d", cut)
					}
				}
			}
		})
	}
}

func TestCompressedAndPlainMessagesAreTheSameHoweverBytesAreCut(t *testing.T) {
	long := strings.Repeat("the quick brown fox € jumps; ", 300)
	deep := deflated(t, long)
	var stream []byte
	for _, f := range [][]byte{
		deflatedFrame(t, ws.OpText, true, deflated(t, "whole €")),
		clientFrame(t, ws.OpText, true, "plain, as any message may be"),
		deflatedFrame(t, ws.OpText, false, deep[:5]),
		clientFrame(t, ws.OpPing, true, "between"),
		clientFrame(t, ws.OpContinuation, false, ""),
		clientFrame(t, ws.OpContinuation, false, deep[5:20]),
		clientFrame(t, ws.OpPong, true, ""),
		clientFrame(t, ws.OpContinuation, true, deep[20:]),
		clientFrame(t, ws.OpText, false, "plain \xe2\x82"),
		clientFrame(t, ws.OpContinuation, true, "\xac"),
		deflatedFrame(t, ws.OpBinary, true, deflated(t, "\xff\xfe")),
		deflatedFrame(t, ws.OpText, false, ""),
		clientFrame(t, ws.OpContinuation, true, "\x00"),
		clientFrame(t, ws.OpClose, true, "\x03\xe8bye"),
	} {
		stream = append(stream, f...)
	}
	want := []message{
		{Text, "whole €"}, {Text, "plain, as any message may be"}, {Ping, "between"}, {Pong, ""}, {Text, long},
		{Text, "plain €"}, {Binary, "\xff\xfe"}, {Text, ""}, {Close, "\x03\xe8bye"},
	}
	for _, eager := range both {
		for size := 1; size <= len(stream); size++ {
			got, err := readInflating(eager, stream, 1<<16, func() int { return size })
			require.NoError(t, err)
			require.Equal(t, want, got, "cut every %d bytes", size)
		}
		for seed := range uint64(50) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			got, err := readInflating(eager, stream, 1<<16, func() int { return 1 + rnd.IntN(20) })
			require.NoError(t, err)
			require.Equal(t, want, got, "seed %d", seed)
		}
	}
}

func TestMessagesOfManyBlocksAreInflated(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 100, 1 << 15, 1<<15 + 1, 1 << 18} {
		noise := make([]byte, size)
		for i := range noise {
			noise[i] = byte(rnd.Uint32())
		}
		for name, text := range map[string]string{"text": strings.Repeat("abc€", size/6+1), "noise": string(noise)} {
			var b bytes.Buffer
			w, err := stdflate.NewWriter(&b, 1+rnd.IntN(9))
			require.NoError(t, err)
			for rest := text; rest != ""; { // a flush ends a block
				n := min(len(rest), 1+rnd.IntN(size))
				_, _ = io.WriteString(w, rest[:n])
				require.NoError(t, w.Flush())
				rest = rest[n:]
			}
			payload := strings.TrimSuffix(b.String(), syncTail)
			for _, portion := range []int{7, 512, 4096, 1 << 20} {
				got, err := readInflating(false, deflatedFrame(t, ws.OpBinary, true, payload), len(text), func() int { return portion })
				require.NoError(t, err, "%s of %d bytes", name, size)
				require.Len(t, got, 1)
				require.True(t, got[0].payload == text)
			}
		}
	}
}

func TestMessageReaderRefusesInCompressedMessages(t *testing.T) {
	hello := deflated(t, "Hello")
	frames := func(f ...[]byte) []byte { return bytes.Join(f, nil) }
	for name, c := range map[string]struct {
		in      []byte
		code    CloseCode
		problem string
	}{
		"6.1 RSV1 on a continuation": {frames(deflatedFrame(t, ws.OpText, false, hello[:2]),
			rsvFrame(t, rsv1, ws.OpContinuation, true, hello[2:])), CloseProtocolError, ""},
		"6.1 RSV1 on a continuation of a plain message": {frames(clientFrame(t, ws.OpText, false, "a"),
			rsvFrame(t, rsv1, ws.OpContinuation, true, "b")), CloseProtocolError, ""},
		"6.1 RSV1 on a continuation of nothing": {rsvFrame(t, rsv1, ws.OpContinuation, true, ""), CloseProtocolError, ""},
		"6.1 RSV1 on a ping":                    {rsvFrame(t, rsv1, ws.OpPing, true, ""), CloseProtocolError, ""},
		"6.1 RSV1 on a ping between fragments": {frames(deflatedFrame(t, ws.OpText, false, hello[:2]),
			rsvFrame(t, rsv1, ws.OpPing, true, "")), CloseProtocolError, ""},
		"6.1 RSV1 on a close":       {rsvFrame(t, rsv1, ws.OpClose, true, ""), CloseProtocolError, ""},
		"RSV1 on a reserved opcode": {rsvFrame(t, rsv1, 3, true, ""), CloseProtocolError, ""},
		"RSV1 and RSV2":             {rsvFrame(t, ws.Rsv(true, true, false), ws.OpText, true, hello), CloseProtocolError, ""},
		"RSV1 and RSV3":             {rsvFrame(t, ws.Rsv(true, false, true), ws.OpText, true, hello), CloseProtocolError, ""},
		"RSV2 alone":                {rsvFrame(t, ws.Rsv(false, true, false), ws.OpText, true, hello), CloseProtocolError, ""},
		"message within a message": {frames(deflatedFrame(t, ws.OpText, false, hello),
			deflatedFrame(t, ws.OpText, true, hello)), CloseProtocolError, ""},

		"7.2.3.2 window of the message before":      {deflatedFrame(t, ws.OpText, true, "\xf2\x00\x11\x00\x00"), CloseInvalidUTF8, "inflated"},
		"reserved block type":                       {deflatedFrame(t, ws.OpText, true, "\x06"), CloseInvalidUTF8, "inflated"},
		"lengths of a stored block that disagree":   {deflatedFrame(t, ws.OpText, true, "\x00\x05\x00\xfa\xfeHello\x00"), CloseInvalidUTF8, "inflated"},
		"stored block that is cut off":              {deflatedFrame(t, ws.OpBinary, true, "\x00\xff\x00\x00\xffHello"), CloseInvalidUTF8, "inflated"},
		"distance to before the message":            {deflatedFrame(t, ws.OpText, true, "\x02\x08\x20\x80\x00"), CloseInvalidUTF8, "inflated"},
		"distance to before the end of a stream":    {deflatedFrame(t, ws.OpText, true, "\xf3\x48\xcd\xc9\xc9\x07\x00\x02\x13\x00\x00\x00"), CloseInvalidUTF8, "inflated"},
		"Huffman code without the end of the block": {deflatedFrame(t, ws.OpText, true, "\x04\x04\x10\x04\x04\x10\xec\xc01\x01\x00\x00\x00\xc2 \xfb\xa76\xc4^\x18"+strings.Repeat("\x00", 100)), CloseInvalidUTF8, "inflated"},
		"plain text":                                {deflatedFrame(t, ws.OpBinary, true, `{"type":"tick","id":"42"}`), CloseInvalidUTF8, "inflated"},
		"gzip":                                      {deflatedFrame(t, ws.OpText, true, "\x1f\x8b\x08\x00\x00\x00\x00\x00"), CloseInvalidUTF8, "inflated"},
		"8.1 invalid UTF-8":                         {deflatedFrame(t, ws.OpText, true, deflated(t, "a\xff")), CloseInvalidUTF8, "UTF-8"},
		"8.1 cut off character at the end":          {deflatedFrame(t, ws.OpText, true, deflated(t, "a\xe2\x82")), CloseInvalidUTF8, "UTF-8"},
		"one byte over the limit":                   {deflatedFrame(t, ws.OpBinary, true, deflated(t, strings.Repeat("x", 1001))), CloseTooBig, ""},
		"far over the limit":                        {deflatedFrame(t, ws.OpText, true, deflated(t, strings.Repeat("x", 1<<20))), CloseTooBig, ""},
		"over the limit, then what is no DEFLATE":   {deflatedFrame(t, ws.OpText, true, deflated(t, strings.Repeat("x", 1<<20))+"\x06"), CloseTooBig, ""},
		"empty blocks without end":                  {deflatedFrame(t, ws.OpText, true, strings.Repeat("\x00\x00\x00\xff\xff", 250)), CloseTooBig, ""},
		"a length of 2^62, not waited for":          {[]byte{0xc2, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, CloseTooBig, ""},
		"over the limit in compressed fragments":    {frames(deflatedFrame(t, ws.OpText, false, "\x00\xff\xff\x00\x00"+strings.Repeat("x", 700)), clientFrame(t, ws.OpContinuation, true, strings.Repeat("x", 700))), CloseTooBig, ""},
		"not UTF-8, and behind that over the limit": {deflatedFrame(t, ws.OpText, true, deflated(t, "\xff"+strings.Repeat("x", 2000))), CloseInvalidUTF8, "UTF-8"},
		"over the limit, and behind that not UTF-8": {deflatedFrame(t, ws.OpText, true, deflated(t, strings.Repeat("x", 1001)+"\xff")), CloseTooBig, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, len(c.in)} {
				for _, eager := range both {
					got, err := readInflating(eager, c.in, 1000, func() int { return size })
					var perr *ProtocolError
					require.ErrorAs(t, err, &perr)
					require.Equal(t, c.code, perr.Code, "%v", err)
					require.Contains(t, perr.Problem, c.problem)
					require.Empty(t, got)
				}
			}
		})
	}
}

func TestMessagesOfTheLargestSizeAreInflated(t *testing.T) {
	for _, max := range []int{1, 2, 511, 1000, 1 << 15, 1<<15 + 1, 100_000} {
		for _, level := range []int{0, 1, 9, stdflate.HuffmanOnly} { // 0 stores, which makes it longer
			text := strings.Repeat("x", max)
			var b bytes.Buffer
			w, err := stdflate.NewWriter(&b, level)
			require.NoError(t, err)
			_, _ = io.WriteString(w, text)
			require.NoError(t, w.Flush())
			payload := strings.TrimSuffix(b.String(), syncTail)
			for _, portion := range []int{100, 1 << 20} {
				got, err := readInflating(true, deflatedFrame(t, ws.OpText, true, payload), max, func() int { return portion })
				require.NoError(t, err, "%d bytes at level %d", max, level)
				require.Equal(t, []message{{Text, text}}, got)
				_, err = readInflating(true, deflatedFrame(t, ws.OpText, true, payload), max-1, func() int { return portion })
				require.Equal(t, tooBig(max-1), err)
			}
		}
	}
}

func TestBombsTakeNoMoreThanTheLimit(t *testing.T) {
	const max = 200_000
	bomb := []byte(deflated(t, strings.Repeat("\x00", 8<<20)))
	require.Less(t, len(bomb), max) // else its length would give it away
	i := newInflater()
	for range 2 {
		message, err := i.inflate(bomb, max, true)
		require.ErrorIs(t, err, errInflatedTooBig)
		require.Nil(t, message)
		require.LessOrEqual(t, cap(i.out), max+1<<13) // up to the allocator's next size
		require.Less(t, i.src.at, len(bomb)/4, "it stops reading")
	}
	i.release()
	require.Zero(t, cap(i.out), "a pool keeps no buffers of more than 128 KiB")
}

func TestReaderThatIsReleasedForgetsCompression(t *testing.T) {
	r := MessageReader{Inflate: true}
	feed := func() (got []string, err error) {
		err = r.Feed(deflatedFrame(t, ws.OpText, true, deflated(t, "Hello")), 100, func(_ Opcode, payload []byte) error {
			got = append(got, string(payload))
			return nil
		})
		return got, err
	}
	got, err := feed()
	require.NoError(t, err)
	require.Equal(t, []string{"Hello"}, got)
	require.True(t, r.Idle())
	r.Release()
	_, err = feed()
	var perr *ProtocolError
	require.ErrorAs(t, err, &perr)
	require.Equal(t, CloseProtocolError, perr.Code)
}

func TestErrorOfTheReceiverEndsFeedWithinACompressedMessage(t *testing.T) {
	stop := fmt.Errorf("stop")
	r := MessageReader{Inflate: true}
	require.Equal(t, stop, r.Feed(deflatedFrame(t, ws.OpText, true, "\x00"), 100, func(Opcode, []byte) error { return stop }))
}

func TestMessageReaderInflatesWithoutAllocating(t *testing.T) {
	if raceEnabled {
		return // the detector allocates, and sync.Pool drops some of what is put
	}
	f := deflatedFrame(t, ws.OpText, true, deflated(t, strings.Repeat("Hello", 10)))
	b := make([]byte, len(f))
	r := MessageReader{Inflate: true}
	n := 0
	on := func(Opcode, []byte) error { n++; return nil }
	require.Zero(t, testing.AllocsPerRun(200, func() {
		copy(b, f)
		if err := r.Feed(b, 1<<16, on); err != nil {
			t.Fatal(err)
		}
	})) // compress/flate allocates for codes of more than 9 bits: nothing to be done about it here
	require.NotZero(t, n)
}

// stdInflate inflates by readers that have seen nothing before. Of a payload that is not whole it returns
// what an inflater gives out that waits for more: it fills a window first.
func stdInflate(payload []byte, max int, whole bool) (all []byte, err error) {
	tail := ""
	if whole {
		tail = inflateTail
	}
	src := bytes.NewReader(append(bytes.Clone(payload), tail...))
	buf := make([]byte, 1<<16) // more than one Read returns
	for src.Len() > len(tail) {
		r := stdflate.NewReader(src)
		for err = nil; err == nil; {
			var n int
			n, err = r.Read(buf)
			if err == io.ErrUnexpectedEOF && !whole {
				return all, nil
			}
			if all = append(all, buf[:n]...); len(all) > max {
				return all[:max+1], errInflatedTooBig
			}
		}
		if err != io.EOF {
			return all, err
		}
	}
	return all, nil
}

func FuzzInflate(f *testing.F) {
	for _, c := range inflatable {
		f.Add([]byte(c.payload), uint16(100), uint8(3))
	}
	f.Add([]byte(deflated(f, strings.Repeat("\x00", 1<<20))), uint16(60_000), uint8(100))
	f.Add([]byte(deflated(f, string(sampleEvent(2000)))), uint16(2000), uint8(200))
	f.Add([]byte("\x06"), uint16(0), uint8(0))
	f.Add([]byte("\x02\x08\x20\x80\x00"), uint16(10), uint8(1))
	compressors := make([]*compressor, MaxDeflateLevel+1)
	for level := MinDeflateLevel; level <= MaxDeflateLevel; level++ {
		compressors[level] = newCompressor(level)
	}
	i := newInflater()
	f.Fuzz(func(t *testing.T, in []byte, limit uint16, cut uint8) {
		// As a message: what is deflated inflates to the same.
		c := compressors[MinDeflateLevel+int(cut)%MaxDeflateLevel]
		again, err := i.inflate(c.compress(in), len(in), utf8.Valid(in))
		require.NoError(t, err)
		require.True(t, bytes.Equal(in, again))

		// As a payload: read whatever was read before, up to the limit.
		max := int(limit)
		got, err := i.inflate(in, max, false)
		want, wantErr := stdInflate(in, max, true)
		require.Equal(t, wantErr, err)
		if err == nil {
			require.LessOrEqual(t, len(got), max)
			require.True(t, bytes.Equal(want, got))
		}
		for _, text := range both { // the same as it arrives
			whole, wholeErr := i.inflate(in, max, text)
			whole = bytes.Clone(whole)
			i.begin(max, text)
			var err error
			for rest := in; err == nil; {
				n := min(1+int(cut), len(rest))
				final := n == len(rest)
				if err = i.feed(rest[:n], final); final {
					break
				}
				rest = rest[n:]
			}
			require.Equal(t, wholeErr, err)
			if err == nil {
				require.True(t, bytes.Equal(whole, i.out))
			}
			i.end()
		}

		// As a stream: the same however it is cut.
		for _, eager := range both {
			whole, wholeErr := readInflating(eager, in, max, func() int { return len(in) })
			pieces, piecesErr := readInflating(eager, in, max, func() int { return 1 + int(cut) })
			require.Equal(t, whole, pieces)
			require.Equal(t, wholeErr, piecesErr)
			for _, m := range whole {
				require.LessOrEqual(t, len(m.payload), max+125) // 125: a control frame's have a limit of their own
			}
		}
	})
}
