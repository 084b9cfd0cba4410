package codec

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"
)

// inflateTail goes behind the payload of a compressed message: what its sender has left out, and an
// empty last block, at which the inflater knows that it has everything (RFC 7692 section 7.2.2).
const inflateTail = syncTail + "\x01\x00\x00\xff\xff"

// maxDeflatedBytes returns how long the compressed form of a message of at most max bytes may be.
// Data that cannot be compressed grows: by five bytes in 64 KiB if the sender is good at it, by an
// eighth if it encodes the bytes one by one.
func maxDeflatedBytes(max int) int { return max + max/8 + 64 }

// inflaters are for all connections together: one is taken once a compressed message is complete and
// given back when the message has been delivered, about 40 KB besides the message.
var inflaters = sync.Pool{New: func() any { return newInflater() }}

// inflater is what inflating one message needs, for use again and again.
//
// It is the standard library's, not klauspost/compress, which is faster on 4 KiB (9.4 us against
// 13.5) though not below 1 KiB. In v1.20.3 a block with an empty Huffman table is decoded with the
// table of the block before, which may be another connection's; the standard library and zlib
// refuse it. FuzzInflate found it by comparing both.
type inflater struct {
	src bytes.Reader
	r   io.Reader // a flate.Resetter on src
	in  []byte    // the payload and inflateTail
	out []byte
}

func newInflater() *inflater {
	i := new(inflater)
	i.r = flate.NewReader(&i.src)
	return i
}

var errInflatedTooBig = errors.New("codec: inflated message is too big")

// inflate returns the message that payload is the compressed form of, valid until the next call. It
// stops with errInflatedTooBig beyond max bytes, and needs no more memory than that beside its
// window, whatever payload would become.
//
// A last block (BFINAL) need not be the last: a message may go on behind it, at the next byte, with
// what is by RFC 1951 another stream. A payload that ends with one, without the empty block that
// section 7.2.3.4 wants behind it, is complete all the same, and so is one of no blocks at all:
// zlib, and so most peers, reads them like that.
func (i *inflater) inflate(payload []byte, max int) ([]byte, error) {
	i.in = append(append(i.in[:0], payload...), inflateTail...)
	i.src.Reset(i.in)
	i.out = i.out[:0]
	for i.src.Len() > len(inflateTail) {
		if err := i.r.(flate.Resetter).Reset(&i.src, nil); err != nil {
			return nil, err
		}
		if err := i.stream(max); err != nil {
			return nil, err
		}
	}
	return i.out, nil
}

// stream appends what the source holds up to the end of a last block.
func (i *inflater) stream(max int) error {
	for {
		if len(i.out) == cap(i.out) {
			i.grow(max)
		}
		n, err := i.r.Read(i.out[len(i.out):min(cap(i.out), max+1)])
		i.out = i.out[:len(i.out)+n]
		switch {
		case len(i.out) > max:
			return errInflatedTooBig
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// grow makes room for more, of max+1 bytes at the most: one more than may be says that it is too much.
func (i *inflater) grow(max int) {
	size := min(2*cap(i.out)+4*len(i.in), max+1)
	i.out = append(make([]byte, 0, size), i.out...)
}

// release gives up large buffers, for an inflater that goes back to a pool.
func (i *inflater) release() {
	if cap(i.in) > maxKeptBytes {
		i.in = nil
	}
	if cap(i.out) > maxKeptBytes {
		i.out = nil
	}
	i.src.Reset(nil)
}

// inflate gives fn the message that payload is the compressed form of, valid until fn returns.
//
// What cannot be inflated is closed with 1007, not 1002: the frames were in order, what they carry
// is not consistent with its type (RFC 6455 section 7.4.1). RFC 7692 asks for no code, the Autobahn
// suite has no case of it, and Node's ws says 1007 as well.
func inflate(payload []byte, max int, fn func([]byte) error) error {
	i := inflaters.Get().(*inflater)
	defer func() {
		i.release()
		inflaters.Put(i)
	}()
	message, err := i.inflate(payload, max)
	switch {
	case err == errInflatedTooBig:
		return tooBig(max)
	case err != nil:
		return &ProtocolError{CloseInvalidUTF8, fmt.Sprintf("compressed message cannot be inflated: %v", err)}
	}
	return fn(message)
}
