package codec

import (
	"bytes"
	stdflate "compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"
)

// sampleEvent is an envelope of size bytes, at least 100: rows of short members, as a table of
// prices has them.
func sampleEvent(size int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString(`{"type":"tick","id":"42","payload":[`)
	for b.Len() < size {
		fmt.Fprintf(&b, `{"symbol":"%c%c%c","price":%d.%02d,"size":%d,"halted":%t,"venue":"%s"},`,
			'A'+rnd.IntN(26), 'A'+rnd.IntN(26), 'A'+rnd.IntN(26), rnd.IntN(999), rnd.IntN(100), rnd.IntN(5000),
			rnd.IntN(2) == 0, []string{"XNAS", "XNYS", "BATS"}[rnd.IntN(3)])
	}
	const tail = `"}]}`
	b.Truncate(size - len(tail))
	return append(b.Bytes(), tail...)
}

func sampleFrame(t testing.TB, size int, op Opcode) *Frame {
	t.Helper()
	// The sample may be cut at any place, which a string takes.
	payload, err := json.Marshal(string(sampleEvent(size)))
	require.NoError(t, err)
	f, err := NewFrame(Envelope{"tick", "42", payload}, op)
	require.NoError(t, err)
	return f
}

func newDeflater(t testing.TB, level, minBytes int) *Deflater {
	t.Helper()
	d, err := NewDeflater(level, minBytes)
	require.NoError(t, err)
	return d
}

// inflatedFrame is the message of a server's compressed frame.
func inflatedFrame(t testing.TB, f *Frame) []byte {
	t.Helper()
	r := bytes.NewReader(f.Bytes())
	h, err := ws.ReadHeader(r)
	require.NoError(t, err)
	require.Equal(t, ws.Header{Fin: true, Rsv: rsv1, OpCode: ws.OpCode(f.Opcode()), Length: int64(r.Len())}, h)
	payload, err := io.ReadAll(r)
	require.NoError(t, err)
	message, err := io.ReadAll(stdflate.NewReader(strings.NewReader(string(payload) + inflateTail)))
	require.NoError(t, err)
	return message
}

func TestCompressedTwinCarriesTheSameEvent(t *testing.T) {
	for level := MinDeflateLevel; level <= MaxDeflateLevel; level++ {
		d := newDeflater(t, level, 0)
		sizes := []int{200, 400, 1000, 4096}
		if level == MinDeflateLevel {
			sizes = append(sizes, 100_000, 1<<20) // headers of every form
		}
		for _, size := range sizes {
			for _, op := range []Opcode{Text, Binary} {
				f := sampleFrame(t, size, op)
				before := bytes.Clone(f.Bytes())
				z := f.Compressed(d)
				require.NotNil(t, z)
				require.Equal(t, op, z.Opcode())
				require.Equal(t, string(f.Message()), string(inflatedFrame(t, z)))
				require.Equal(t, []string{f.Topic(), f.Type(), f.ID()}, []string{z.Topic(), z.Type(), z.ID()})
				require.Less(t, z.Len(), f.Len())
				require.Equal(t, z.Len(), len(z.Bytes()))
				require.LessOrEqual(t, cap(z.Bytes()), z.Len()+z.Len()/4+64, "a frame holds no more than it needs")
				require.Equal(t, before, f.Bytes())
			}
		}
	}
}

func TestTwinsDoNotLeanOnTheMessageBefore(t *testing.T) {
	d := newDeflater(t, 6, 0)
	first := sampleFrame(t, 2000, Text).Compressed(d)
	second := sampleFrame(t, 2000, Text).Compressed(d)
	require.Equal(t, first.Bytes(), second.Bytes()) // the second would be a few bytes otherwise
}

func TestThereIsNoTwinWhereNothingIsGained(t *testing.T) {
	d := newDeflater(t, 9, 100)
	frame := func(payload string) *Frame {
		f, err := NewFrame(Envelope{"t", "", json.RawMessage(payload)}, Text)
		require.NoError(t, err)
		return f
	}
	rest := 100 - len(frame(`""`).Message())
	noise := make([]byte, 100)
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = '0' + byte(rnd.IntN(70)) // without '"' and '\'
		if noise[i] == '\\' {
			noise[i] = 'z'
		}
	}
	require.NotNil(t, frame(`"`+strings.Repeat("x", rest)+`"`).Compressed(d), "of the minimum's length")
	require.Nil(t, frame(`"`+strings.Repeat("x", rest-1)+`"`).Compressed(d), "a byte below the minimum")
	require.Nil(t, frame(`"`+string(noise)+`"`).Compressed(newDeflater(t, 1, 0)), "noise does not become smaller")
	require.Nil(t, frame(`"`+strings.Repeat("x", 1000)+`"`).Compressed(nil), "compression is off")
	require.Nil(t, frame("null").Compressed(newDeflater(t, 1, 0)), "short")

	long := bytes.Repeat([]byte("x"), 125)
	require.Nil(t, NewControlFrame(Ping, long).Compressed(d), "control frames are never compressed")
	require.Nil(t, NewRecord("t", "", bytes.Repeat(long, 10)).Compressed(d), "no frame")
	twin := sampleFrame(t, 1000, Text).Compressed(d)
	require.Nil(t, twin.Compressed(d), "compressed already")
}

func TestTwinIsMadeOnce(t *testing.T) {
	d := newDeflater(t, 1, 0)
	frames := make([]*Frame, 20)
	for i := range frames {
		frames[i] = sampleFrame(t, 500+i, Text)
	}
	got := make([][]*Frame, 8)
	var wg sync.WaitGroup
	for g := range got {
		wg.Go(func() {
			for _, f := range frames {
				got[g] = append(got[g], f.Compressed(d))
			}
		})
	}
	wg.Wait()
	for i, f := range frames {
		for g := range got {
			require.Same(t, got[0][i], got[g][i])
		}
		require.Equal(t, string(f.Message()), string(inflatedFrame(t, got[0][i])))
	}
}

func TestCompressorWritesWhatTheRFCWants(t *testing.T) {
	for level := MinDeflateLevel; level <= MaxDeflateLevel; level++ {
		c := newCompressor(level)
		require.Equal(t, "\x00", string(c.compress(nil)), "section 7.2.3.6: an empty message is an empty block")
		for _, message := range []string{"Hello", strings.Repeat("x", 1<<17), string(sampleEvent(5000))} {
			payload := bytes.Clone(c.compress([]byte(message)))
			require.False(t, bytes.HasSuffix(payload, []byte(syncTail)))
			again, err := stdInflate(payload, len(message), true)
			require.NoError(t, err)
			require.Equal(t, message, string(again))
		}
		c.release()
		require.LessOrEqual(t, c.out.Cap(), maxKeptBytes)
	}
}

func TestDeflaterRefusesLevelsThereAreNot(t *testing.T) {
	for _, level := range []int{-3, -2, -1, 0, 10} {
		d, err := NewDeflater(level, 0)
		require.ErrorContains(t, err, "levels are 1 to 9")
		require.Nil(t, d)
	}
}

func TestTwinThatIsThereCostsNothing(t *testing.T) {
	if raceEnabled {
		return // the detector allocates
	}
	d := newDeflater(t, 1, 0)
	f := sampleFrame(t, 1000, Text)
	z := f.Compressed(d)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if f.Compressed(d) != z {
			t.Fatal("another twin")
		}
	}))
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { d.deflate(f) }), 2.0) // the twin and its bytes
}

func BenchmarkCompressed(b *testing.B) {
	for level := MinDeflateLevel; level <= MaxDeflateLevel; level++ {
		d := newDeflater(b, level, 0)
		benchDeflate(b, level, func(f *Frame) int { return d.deflate(f).Len() - 4 })
	}
}

func BenchmarkCompressedStd(b *testing.B) {
	for _, level := range []int{1, 6} {
		var out bytes.Buffer
		w, err := stdflate.NewWriter(&out, level)
		require.NoError(b, err)
		benchDeflate(b, level, func(f *Frame) int {
			out.Reset()
			w.Reset(&out)
			if _, err := w.Write(f.Message()); err != nil {
				b.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				b.Fatal(err)
			}
			return out.Len() - len(syncTail)
		})
	}
}

// benchDeflate reports the bytes of the compressed payload that deflate returns.
func benchDeflate(b *testing.B, level int, deflate func(*Frame) int) {
	for _, size := range []int{512, 1024, 4096} {
		b.Run(fmt.Sprintf("level=%d/payload=%d", level, size), func(b *testing.B) {
			buf := append(make([]byte, maxHeaderBytes), sampleEvent(size)...)
			f := &Frame{bytes: putHeader(buf, Text), topic: "tick:42", typeLen: 4, headerLen: 4}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n = deflate(f)
			}
			b.ReportMetric(float64(n), "compressed-B")
		})
	}
}

func BenchmarkInflate(b *testing.B) {
	benchInflate(b, func(payload []byte, size int) error {
		return inflate(payload, 1<<16, Binary, func(_ Opcode, message []byte) error {
			if len(message) != size {
				b.Fatal("not the message")
			}
			return nil
		})
	})
}

func BenchmarkInflateKlauspost(b *testing.B) {
	r := flate.NewReader(nil)
	dst := make([]byte, 1<<16)
	benchInflate(b, func(payload []byte, size int) error {
		src := bytes.NewReader(append(payload[:len(payload):len(payload)], inflateTail...))
		if err := r.(flate.Resetter).Reset(src, nil); err != nil {
			return err
		}
		_, err := io.ReadFull(r, dst[:size])
		return err
	})
}

func benchInflate(b *testing.B, run func(payload []byte, size int) error) {
	for _, size := range []int{256, 1024, 4096, 65536} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			payload := []byte(deflated(b, string(sampleEvent(size))))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := run(payload, size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
