package codec

import (
	"bytes"
	stdflate "compress/flate"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// coroutines counts those that wait for more of a message.
func coroutines() int {
	buf := make([]byte, 1<<20)
	return bytes.Count(buf[:runtime.Stack(buf, true)], []byte("codec.(*inflater).run("))
}

// tinyTables is a payload of dynamic Huffman blocks that are as short as they get: 90 bits each, for tables
// of one code, the end of the block. Four of them end with a byte.
func tinyTables(size int) string {
	block := "0" + "01" + // not the last, dynamic
		"00000" + "00000" + "0111" + // 257 literals and lengths, 1 distance, 18 lengths of codes for lengths:
		strings.Repeat("000", 2) + "100" + strings.Repeat("000", 14) + "100" + // 1 bit for 138 zeros at most, and for a one
		"1" + "1111111" + "1" + "1101011" + "0" + "0" + // 138 and 118 zeros; the end of the block, a distance
		"0" // the end of the block
	four := make([]byte, 45)
	for i, bit := range strings.Repeat(block, 4) {
		four[i/8] |= byte(bit-'0') << (i % 8)
	}
	return strings.Repeat(string(four), size/len(four)) + "\x00"
}

// slowPayloads are made to take long, of about size bytes.
func slowPayloads(t testing.TB, size int) map[string]string {
	return map[string]string{
		"last blocks":              strings.Repeat("\x03\x00", size/2),
		"Huffman tables":           tinyTables(size),
		"empty blocks":             strings.Repeat("\x00\x00\x00\xff\xff", size/5) + "\x00",
		"bytes stored one by one":  strings.Repeat("\x00\x01\x00\xfe\xffx", size/6) + "\x00",
		"noise":                    deflated(t, noise(size)),
		"what grows by a thousand": deflated(t, strings.Repeat("x", 1000*size)),
	}
}

// noise is a text of size bytes that can be compressed by a quarter.
func noise(size int) string {
	var s strings.Builder
	for state := uint32(1); s.Len() < size; {
		state = state*1664525 + 1013904223
		s.WriteByte('0' + byte(state>>26))
	}
	return s.String()
}

func TestTheSlowPayloadsAreWhatTheyAreSaidToBe(t *testing.T) {
	for name, payload := range slowPayloads(t, 10_000) {
		_, err := stdInflate([]byte(payload), 1<<30, true)
		require.NoError(t, err, name)
	}
}

// work counts what an inflater does.
type work struct{ streams, bytes int }

// countedFlate is a flate.Resetter that counts.
type countedFlate struct {
	io.Reader
	did *work
}

func (c countedFlate) Reset(r io.Reader, dict []byte) error {
	c.did.streams++
	return c.Reader.(stdflate.Resetter).Reset(countedSource{r.(*source), c.did}, dict)
}

type countedSource struct {
	src *source
	did *work
}

func (c countedSource) ReadByte() (byte, error) {
	b, err := c.src.ReadByte()
	if err == nil {
		c.did.bytes++
	}
	return b, err
}

func (c countedSource) Read(b []byte) (int, error) {
	n, err := c.src.Read(b)
	c.did.bytes += n
	return n, err
}

// countInflaters has all inflaters count their work, until the test ends.
func countInflaters(t *testing.T) *work {
	did := new(work)
	inflaters = sync.Pool{New: func() any {
		i := newInflater()
		i.r = countedFlate{i.r, did}
		return i
	}}
	t.Cleanup(func() { inflaters = sync.Pool{New: func() any { return newInflater() }} })
	return did
}

// However a message of the largest size is made, a portion costs what its bytes cost, when it comes: no
// more than the gathered ones and a portion are ever worked on at once.
func TestAPortionOfACompressedMessageCostsWhatItsBytesCost(t *testing.T) {
	const max, portion = 64 << 10, 512
	did := countInflaters(t)
	for name, payload := range slowPayloads(t, max) {
		t.Run(name, func(t *testing.T) {
			frame := deflatedFrame(t, ws.OpText, true, payload)
			head := len(frame) - len(payload)
			r := MessageReader{Inflate: true}
			defer r.Release()
			*did = work{}
			for fed := 0; fed < len(frame); {
				n := min(portion, len(frame)-fed)
				before := *did
				err := r.Feed(frame[fed:fed+n], max, func(Opcode, []byte) error { return nil })
				fed += n
				streams, read := did.streams-before.streams, did.bytes-before.bytes
				require.LessOrEqual(t, read, maxGatheredBytes+portion+len(inflateTail))
				require.LessOrEqual(t, streams, read/2+1, "%d bytes", read) // none is shorter than two bytes
				if err != nil {
					require.Equal(t, tooBig(max), err)
					require.True(t, strings.HasPrefix(name, "what grows"))
					break
				}
				switch {
				case fed-head <= maxGatheredBytes:
					require.Zero(t, *did)
				case fed < len(frame):
					require.Equal(t, fed-head, did.bytes, "all of a portion is worked on")
				}
			}
			require.Nil(t, r.arriving)
		})
	}
}

// What a message would become too much fails it where that shows, not at its end.
func TestALongCompressedMessageFailsBeforeItIsComplete(t *testing.T) {
	const max = 64 << 10
	bad := noise(40_000)
	bad = bad[:5000] + "\xff" + bad[5000:]
	for name, c := range map[string]struct {
		payload string
		op      ws.OpCode
		want    error
	}{
		"too big":      {deflated(t, noise(10_000)+strings.Repeat("x", max)) + deflated(t, noise(40_000)), ws.OpText, tooBig(max)},
		"not UTF-8":    {deflated(t, bad), ws.OpText, errNotUTF8},
		"not inflated": {deflated(t, noise(10_000)) + "\x06" + strings.Repeat("x", 30_000), ws.OpBinary, nil},
	} {
		t.Run(name, func(t *testing.T) {
			frame := deflatedFrame(t, c.op, true, c.payload)
			r := MessageReader{Inflate: true}
			fed, err := 0, error(nil)
			for ; err == nil && fed < len(frame); fed += 512 {
				err = r.Feed(frame[fed:fed+min(512, len(frame)-fed)], max, nil)
			}
			require.Error(t, err)
			if c.want != nil {
				require.Equal(t, c.want, err)
			}
			require.Greater(t, len(frame)-fed, 1000, "it fails early")
			require.Zero(t, coroutines(), "it has ended")
		})
	}
}

func TestShortCompressedMessagesTakeNoCoroutine(t *testing.T) {
	short := deflated(t, noise(1000))
	long := deflated(t, noise(32_000))
	require.Less(t, len(short), maxGatheredBytes)
	require.Greater(t, len(long), 4*maxGatheredBytes+512)
	for _, c := range []struct {
		name     string
		payload  string
		portion  int
		arriving bool
	}{
		{"short, byte by byte", short, 1, false},
		{"long, whole", long, 1 << 20, false},
		{"long, in portions", long, 512, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := MessageReader{Inflate: true}
			arriving, messages := false, 0
			for range 2 { // the reader goes on behind it
				frame := deflatedFrame(t, ws.OpText, true, c.payload)
				for len(frame) > 0 {
					n := min(c.portion, len(frame))
					require.NoError(t, r.Feed(frame[:n], 1<<16, func(Opcode, []byte) error { messages++; return nil }))
					arriving = arriving || r.arriving != nil
					frame = frame[n:]
				}
				require.True(t, r.Idle())
				require.Nil(t, r.arriving)
			}
			require.Equal(t, c.arriving, arriving)
			require.Equal(t, 2, messages)
		})
	}
}

func TestAReaderThatIsReleasedWithinAMessageEndsItsCoroutine(t *testing.T) {
	frame := deflatedFrame(t, ws.OpText, true, deflated(t, noise(20_000)))
	r := MessageReader{Inflate: true}
	require.NoError(t, r.Feed(frame[:10_000], 1<<16, nil))
	require.Equal(t, 1, coroutines())
	require.Nil(t, r.message, "what has been inflated is not kept as well")
	require.NotPanics(t, func() { r.Release(); r.Release() })
	require.Zero(t, coroutines())
	require.Nil(t, r.arriving)
}

// An inflater that was given up in the middle of a message is good for the next.
func TestInflatersGoOnAfterAMessageThatWasGivenUp(t *testing.T) {
	payload := []byte(deflated(t, noise(20_000)))
	i := newInflater()
	for cut := 1; cut < len(payload); cut += 1000 {
		i.begin(1<<16, true)
		require.NoError(t, i.feed(bytes.Clone(payload[:cut]), false))
		i.release()
		got, err := i.inflate(payload, 1<<16, true)
		require.NoError(t, err)
		require.Equal(t, noise(20_000), string(got))
	}
}

// BenchmarkFeedSlowPayload says how long the dearest of the portions of a message takes.
func BenchmarkFeedSlowPayload(b *testing.B) {
	for name, payload := range slowPayloads(b, 64<<10) {
		b.Run(fmt.Sprintf("payload=%s", strings.ReplaceAll(name, " ", "-")), func(b *testing.B) {
			frame := deflatedFrame(b, ws.OpBinary, true, payload)
			buf := make([]byte, 512)
			var longest time.Duration
			for b.Loop() {
				r := MessageReader{Inflate: true}
				for rest := frame; len(rest) > 0; {
					n := copy(buf, rest)
					rest = rest[n:]
					began := time.Now()
					err := r.Feed(buf[:n], 64<<10, func(Opcode, []byte) error { return nil })
					longest = max(longest, time.Since(began))
					if err != nil {
						break
					}
				}
			}
			b.ReportMetric(float64(longest.Microseconds()), "longest-us")
		})
	}
}
