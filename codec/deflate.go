package codec

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/klauspost/compress/flate"
)

// rsv1Bit marks the first frame of a compressed message (RFC 7692 section 6).
const rsv1Bit = 0x40

// syncTail ends what a flush writes. It is not sent, the receiver puts it back (RFC 7692 section 7.2.1).
const syncTail = "\x00\x00\xff\xff"

// Deflater compresses frames for those spokes that negotiated permessage-deflate (RFC 7692). Every
// message is compressed by itself, without context takeover, so that one compressed frame serves
// them all. Any number of goroutines may use a Deflater at once.
//
// Each of those that do has a compressor from a pool meanwhile: 0.8 MB at level 1, 1.2 MB at level
// 3, 1.1 MB at level 6, 1.4 MB at level 9. The garbage collector takes those that are no longer used.
//
// Level 3 is the one to begin with: an event of 1 KiB takes 8.5 us and becomes 335 bytes, one of 4
// KiB takes 15 us and becomes 928 bytes. Level 1 takes 8.1 and 14 us for 374 and 1034 bytes, level 6
// takes 11 and 23 us for 323 and 876 (BenchmarkCompressed, EPYC, of several runs the best).
//
// Lists of prices, where only the names of members repeat, take 17 and 34 us for 464 and 1223 bytes at
// level 3; between levels 1 and 6 it is 15 to 18 us and 476 to 455 bytes of 1 KiB (the same machine).
//
// Why not compress/flate: its level 1 takes 12.2 and 22 us for 342 and 996 bytes, its level 6 takes
// 22 and 49 us for 322 and 856.
type Deflater struct {
	minBytes    int
	compressors sync.Pool // of *compressor
}

// The levels of compression: from the fastest to the smallest.
const (
	MinDeflateLevel = flate.BestSpeed
	MaxDeflateLevel = flate.BestCompression
)

// NewDeflater returns a Deflater for messages of at least minBytes; shorter ones it leaves alone.
func NewDeflater(level, minBytes int) (*Deflater, error) {
	if level < MinDeflateLevel || level > MaxDeflateLevel {
		return nil, fmt.Errorf("codec: compression level %d, levels are %d to %d", level, MinDeflateLevel, MaxDeflateLevel)
	}
	d := &Deflater{minBytes: minBytes}
	d.compressors.New = func() any { return newCompressor(level) }
	return d, nil
}

// compressor is what compressing one message needs, for use again and again.
type compressor struct {
	w   *flate.Writer
	out bytes.Buffer
}

func newCompressor(level int) *compressor {
	c := new(compressor)
	w, err := flate.NewWriter(&c.out, level)
	if err != nil {
		panic("codec: deflate: " + err.Error()) // the level was checked
	}
	c.w = w
	return c
}

// compress returns the payload of a compressed message, valid until the next call.
func (c *compressor) compress(message []byte) []byte {
	c.out.Reset()
	c.w.Reset(&c.out)
	_, err := c.w.Write(message)
	if err == nil {
		err = c.w.Flush()
	}
	if err != nil {
		panic("codec: deflate: " + err.Error()) // a bytes.Buffer takes everything
	}
	return bytes.TrimSuffix(c.out.Bytes(), []byte(syncTail))
}

// release gives up a large buffer, for a compressor that goes back to a pool.
func (c *compressor) release() {
	if c.out.Cap() > maxKeptBytes {
		c.out = bytes.Buffer{}
	}
}

// deflate returns the compressed twin of f, nil if it would not be smaller.
func (d *Deflater) deflate(f *Frame) *Frame {
	c := d.compressors.Get().(*compressor)
	defer d.compressors.Put(c)
	payload := c.compress(f.Message())
	defer c.release()
	if len(payload) >= len(f.Message()) {
		return nil
	}
	buf := make([]byte, maxHeaderBytes+len(payload))
	copy(buf[maxHeaderBytes:], payload)
	return &Frame{bytes: putHeader(buf, f.Opcode()|rsv1Bit), topic: f.topic, typeLen: f.typeLen}
}

// Compressed returns the compressed twin of an event's frame: the same event as one compressed
// message, for the spokes that negotiated it. It is nil if that gains nothing, because the message
// is shorter than d's minimum or does not become smaller, for control frames, for records and for
// twins, and if d is nil; then f itself goes to every spoke.
//
// The twin is made by the first call, for which others at the same time wait, and kept for as long
// as f is: it is shared like f, and d is the same in every call. The twin does not keep f.
func (f *Frame) Compressed(d *Deflater) *Frame {
	if d == nil || f.headerLen == 0 || len(f.Message()) < d.minBytes {
		return nil
	}
	f.twinOnce.Do(func() { f.twin = d.deflate(f) })
	return f.twin
}
