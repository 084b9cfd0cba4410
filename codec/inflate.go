package codec

import (
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"
)

// inflateTail goes behind the payload of a compressed message: what its sender has left out, and an
// empty last block, at which the inflater knows that it has everything (RFC 7692 section 7.2.2).
const inflateTail = syncTail + "\x01\x00\x00\xff\xff"

// maxDeflatedBytes returns how long the compressed form of a message of at most max bytes may be.
// Data that cannot be compressed grows: by five bytes in 64 KiB if the sender is good at it, by an
// eighth if it encodes the bytes one by one.
func maxDeflatedBytes(max int) int { return max + max/8 + 64 }

// inflaters are for all connections together: one is taken once a compressed message is complete, or
// once it has turned out to be long, and given back when the message has been delivered or given up;
// about 40 KB besides the message.
var inflaters = sync.Pool{New: func() any { return newInflater() }}

// maxKeptInflated is what an idle inflater keeps for the next message: there are about as many as pollers, and
// garbage of 64 KiB for each small message that grows to that would have the collector run all the time.
const maxKeptInflated = 128 << 10

// inflater is what inflating one message needs, for use again and again.
//
// It is the standard library's, not klauspost/compress, which is faster on 4 KiB (9.4 us against
// 13.5) though not below 1 KiB. In v1.20.3 a block with an empty Huffman table is decoded with the
// table of the block before, which may be another connection's; the standard library and zlib
// refuse it. FuzzInflate found it by comparing both.
type inflater struct {
	src     source
	r       io.Reader // a flate.Resetter on src
	out     []byte    // the message so far
	checked int       // bytes of out known to be complete, valid UTF-8, if it is a text

	coroutine // while a message is inflated as it arrives
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
func (i *inflater) inflate(payload []byte, max int, text bool) ([]byte, error) {
	i.src = source{portion: payload, final: true}
	if err := i.run(max, text); err != nil {
		return nil, err
	}
	return i.out, nil
}

// run inflates what the source gives into out.
//
// A last block (BFINAL) need not be the last: a message may go on behind it, at the next byte, with
// what is by RFC 1951 another stream. A payload that ends with one, without the empty block that
// section 7.2.3.4 wants behind it, is complete all the same, and so is one of no blocks at all:
// zlib, and so most peers, reads them like that.
func (i *inflater) run(max int, text bool) error {
	i.out, i.checked = i.out[:0], 0
	for i.src.more() {
		if err := i.r.(flate.Resetter).Reset(&i.src, nil); err != nil {
			return err
		}
		if err := i.stream(max, text); err != nil {
			return err
		}
	}
	if text && !utf8.Valid(i.out[i.checked:]) {
		return errNotUTF8
	}
	return nil
}

// stream appends what the source holds up to the end of a last block. Of two things that are wrong it
// finds the first, whatever the portions: so UTF-8 comes before the limit.
func (i *inflater) stream(max int, text bool) error {
	for {
		if len(i.out) == cap(i.out) {
			i.grow(max)
		}
		n, err := i.r.Read(i.out[len(i.out):min(cap(i.out), max+1)])
		i.out = i.out[:len(i.out)+n]
		if text && n > 0 {
			var bad error
			if i.checked, bad = checkText(i.out, i.checked); bad != nil {
				return bad
			}
		}
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
	size := min(2*cap(i.out)+4*len(i.src.portion)+64, max+1)
	i.out = append(make([]byte, 0, size), i.out...)
}

// release gives up a message that is still arriving, and a large buffer, for an inflater that goes back
// to the pool.
func (i *inflater) release() {
	i.end()
	if cap(i.out) > maxKeptInflated {
		i.out = nil
	}
	i.src = source{}
}

func (i *inflater) giveBack() {
	i.release()
	inflaters.Put(i)
}

// inflate gives on the message that payload is the compressed form of, valid until on returns.
func inflate(payload []byte, max int, op Opcode, on func(Opcode, []byte) error) error {
	i := inflaters.Get().(*inflater)
	defer i.giveBack()
	message, err := i.inflate(payload, max, op == Text)
	if err != nil {
		return inflateError(err, max)
	}
	return on(op, message)
}

// inflateError returns the *ProtocolError for an error of the inflater.
//
// What cannot be inflated is closed with 1007, not 1002: the frames were in order, what they carry
// is not consistent with its type (RFC 6455 section 7.4.1). RFC 7692 asks for no code, the Autobahn
// suite has no case of it, and Node's ws says 1007 as well.
func inflateError(err error, max int) error {
	switch err {
	case errInflatedTooBig:
		return tooBig(max)
	case errNotUTF8:
		return err
	}
	return &ProtocolError{CloseInvalidUTF8, fmt.Sprintf("compressed message cannot be inflated: %v", err)}
}
