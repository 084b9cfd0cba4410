package loadgen

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/gobwas/ws"
)

// headBytes is what is kept of a message that does not arrive in one piece. What is looked at stands
// at the beginning, and all of the hub's own events are shorter.
const headBytes = 4 << 10

// keptBytes is what a framer keeps of its buffer when that is empty.
const keptBytes = 512

// framer cuts the bytes that a hub sends into frames, the same however the bytes are cut. Hubs of ours
// send every message in one frame, unmasked and uncompressed; anything else is an error.
type framer struct {
	carry []byte // of a frame that is not complete: the header, and up to headBytes of the payload
	left  int64  // payload bytes still to come behind carry, once its header is there
	frame ws.Header
	inBig bool // in a frame whose header is in frame; carry then holds payload only
}

// headerReader holds what reading a header needs, so that framers need not have it each.
type headerReader struct {
	src bytes.Reader
	buf [ws.MaxHeaderSize]byte
}

var errNotOurs = errors.New("not a frame that a hub sends")

// read returns the header at the beginning of b and its length, 0 if b is too short.
func (r *headerReader) read(b []byte) (h ws.Header, n int, err error) {
	r.src.Reset(b)
	h, err = ws.ReadHeaderBuffer(&r.src, r.buf[:])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return h, 0, nil
	case err != nil:
		return h, 0, fmt.Errorf("%w: %w", errNotOurs, err)
	case !h.Fin || h.OpCode == ws.OpContinuation:
		return h, 0, fmt.Errorf("%w: a fragmented message", errNotOurs)
	case h.Masked || h.Rsv != 0 || h.OpCode.IsReserved() || h.OpCode.IsControl() && h.Length > ws.MaxControlFramePayloadSize:
		return h, 0, fmt.Errorf("%w: opcode %d, masked %v, rsv %d, length %d", errNotOurs, h.OpCode, h.Masked, h.Rsv, h.Length)
	}
	return h, len(b) - r.src.Len(), nil
}

// feed reads on in b and calls on for every frame that is complete with it. The payload is valid until
// on returns; of one longer than headBytes it may be only the beginning.
func (f *framer) feed(r *headerReader, b []byte, on func(op ws.OpCode, payload []byte) error) error {
	for len(b) > 0 || f.inBig && f.left == 0 {
		if f.inBig {
			n := int(min(f.left, int64(len(b))))
			keep := min(n, headBytes-len(f.carry))
			f.carry = append(f.carry, b[:max(keep, 0)]...)
			f.left -= int64(n)
			if b = b[n:]; f.left > 0 {
				return nil
			}
			f.inBig = false
			err := on(f.frame.OpCode, f.carry)
			if f.carry = f.carry[:0]; cap(f.carry) > keptBytes {
				f.carry = nil
			}
			if err != nil {
				return err
			}
			continue
		}
		if len(f.carry) > 0 { // part of a header
			had := len(f.carry)
			f.carry = append(f.carry, b[:min(len(b), ws.MaxHeaderSize-had)]...)
			h, n, err := r.read(f.carry)
			if err != nil {
				return err
			}
			if n == 0 {
				return nil // it took all of b, which was shorter
			}
			b = b[n-had:]
			f.frame, f.left, f.inBig, f.carry = h, h.Length, true, f.carry[:0]
			continue
		}
		h, n, err := r.read(b)
		switch {
		case err != nil:
			return err
		case n == 0:
			f.carry = append(f.carry, b...)
			return nil
		case h.Length <= int64(len(b)-n): // the usual case
			end := n + int(h.Length)
			if err := on(h.OpCode, b[n:end]); err != nil {
				return err
			}
			b = b[end:]
		default:
			f.frame, f.left, f.inBig = h, h.Length, true
			b = b[n:]
		}
	}
	return nil
}
