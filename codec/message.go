package codec

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// A ProtocolError is a violation of RFC 6455 by the peer. The connection is to be closed with Code.
type ProtocolError struct {
	Code    CloseCode
	Problem string
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("codec: protocol error (%d): %s", e.Code, e.Problem)
}

// MessageReader cuts the bytes that a client sends into messages (RFC 6455 sections 5 and 8.1). It
// gives the same result however the bytes are cut. The zero MessageReader is ready, at the
// beginning of a connection. It belongs to one goroutine at a time.
//
// A connection needs one only while Idle is false, so many connections can share a pool of them.
type MessageReader struct {
	// Inflate says that permessage-deflate was negotiated, without context takeover by the client:
	// messages may be compressed, each by itself (RFC 7692). It is the owner's to set, between
	// messages; Release takes it back.
	Inflate bool

	src    bytes.Reader
	buf    [ws.MaxHeaderSize]byte // for ws.ReadHeaderBuffer
	header [ws.MaxHeaderSize]byte // of a header that is not complete yet
	n      int                    // bytes in header

	inPayload bool
	frame     ws.Header // the frame that the payload belongs to
	read      int64     // payload bytes of it seen so far

	op       Opcode    // of the message under way, 0 between messages
	deflated bool      // it is compressed
	size     int       // payload bytes of it seen so far
	message  []byte    // these, as far as they are kept
	checked  int       // bytes of message known to be complete, valid UTF-8
	arriving *inflater // that inflates it as it arrives; nil if it is kept until it is complete
	eager    bool      // a test's: inflate from the first byte that arrives
	control  []byte    // payload so far of a control frame
}

// Idle reports whether the reader stands between two messages and holds no bytes.
func (r *MessageReader) Idle() bool { return r.n == 0 && !r.inPayload && r.op == 0 }

// maxKeptBytes is what an idle reader keeps of its message buffer.
const maxKeptBytes = 16 << 10

// Release gives up a large buffer and forgets the connection, for an idle reader that goes back to a
// pool. A reader of a connection that has ended in the middle of a message must be released too, for
// what inflates it, and not be used again.
func (r *MessageReader) Release() {
	r.Inflate = false
	r.abandon()
	if cap(r.message) > maxKeptBytes {
		r.message = nil
	}
	r.src.Reset(nil)
}

// abandon gives back what inflates the message under way.
func (r *MessageReader) abandon() {
	if r.arriving != nil {
		r.arriving.giveBack()
		r.arriving = nil
	}
}

// Feed reads on in b, which it may overwrite and does not retain. It calls on for every complete
// message and control frame (Text, Binary, Close, Ping or Pong) with the unmasked payload, which is
// valid until on returns. It stops at the first error: on's own, or a *ProtocolError; after that
// the reader must not be used again. A message is at most max bytes long, as it is and inflated.
//
// What b costs is its own: a message that arrives in many portions does not leave more than
// maxGatheredBytes of them to the last one.
func (r *MessageReader) Feed(b []byte, max int, on func(op Opcode, payload []byte) error) error {
	err := r.feed(b, max, on)
	if err != nil {
		r.abandon()
	}
	return err
}

func (r *MessageReader) feed(b []byte, max int, on func(op Opcode, payload []byte) error) error {
	for len(b) > 0 || r.inPayload && r.read == r.frame.Length {
		if !r.inPayload {
			rest, err := r.feedHeader(b, max)
			if err != nil {
				return err
			}
			if b = rest; !r.inPayload {
				return nil // the header is not complete
			}
		}
		n := min(int64(len(b)), r.frame.Length-r.read)
		if err := r.feedPayload(b[:n], max, on); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// feedHeader reads a frame header and returns what follows it.
func (r *MessageReader) feedHeader(b []byte, max int) ([]byte, error) {
	if r.n > 0 || len(b) < headerLen(b) {
		for r.n < headerLen(r.header[:r.n]) {
			if len(b) == 0 {
				return nil, nil
			}
			r.header[r.n] = b[0]
			r.n++
			b = b[1:]
		}
		r.src.Reset(r.header[:r.n])
	} else {
		r.src.Reset(b[:headerLen(b)])
		b = b[headerLen(b):]
	}
	r.n = 0
	size := int(r.src.Size())
	h, err := ws.ReadHeaderBuffer(&r.src, r.buf[:])
	if err != nil {
		return nil, &ProtocolError{CloseProtocolError, err.Error()}
	}
	state := ws.StateServerSide
	if r.op != 0 {
		state |= ws.StateFragmented
	}
	begins := h.OpCode == ws.OpText || h.OpCode == ws.OpBinary
	deflated := r.Inflate && begins && h.Rsv&rsv1 != 0
	if deflated {
		h.Rsv &^= rsv1 // on any other frame it is an error, as the other two are (RFC 7692 section 6.1)
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return nil, &ProtocolError{CloseProtocolError, err.Error()}
	}
	if ws.HeaderSize(h) != size { // section 5.2: the minimal number of bytes must be used
		return nil, &ProtocolError{CloseProtocolError, "payload length is not in its shortest form"}
	}
	if begins {
		r.op, r.deflated = Opcode(h.OpCode), deflated
	}
	if !h.OpCode.IsControl() {
		limit := max
		if r.deflated {
			limit = maxDeflatedBytes(max)
		}
		if h.Length > int64(limit-r.size) {
			return nil, tooBig(max)
		}
	}
	r.frame, r.read, r.inPayload = h, 0, true
	return b, nil
}

// rsv1 is the bit in ws.Header.Rsv that a compressed message begins with.
var rsv1 = ws.Rsv(true, false, false)

func tooBig(max int) error {
	return &ProtocolError{CloseTooBig, fmt.Sprintf("message is larger than %d bytes", max)}
}

// headerLen returns how long the header that begins with b is, or what is needed to know it.
func headerLen(b []byte) int {
	if len(b) < 2 {
		return 2
	}
	n := 2
	switch b[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if b[1]&0x80 != 0 {
		n += 4
	}
	return n
}

// feedPayload takes the next bytes of the frame's payload.
func (r *MessageReader) feedPayload(b []byte, max int, on func(Opcode, []byte) error) error {
	ws.Cipher(b, r.frame.Mask, int(r.read&3))
	whole := int64(len(b)) == r.frame.Length // the frame was not cut
	r.read += int64(len(b))
	done := r.read == r.frame.Length
	if done {
		r.inPayload = false
	}
	if r.frame.OpCode.IsControl() {
		return r.feedControl(b, whole, done, on)
	}
	final := done && r.frame.Fin
	if final && whole && r.size == 0 {
		return r.deliver(b, max, on)
	}
	r.size += len(b)
	if r.arriving != nil || r.deflated && !final && (r.size > maxGatheredBytes || r.eager && r.size > 0) {
		return r.inflateArriving(b, final, max, on)
	}
	r.message = append(r.message, b...)
	if final {
		return r.deliver(r.message, max, on)
	}
	if r.op == Text && !r.deflated {
		var err error
		r.checked, err = checkText(r.message, r.checked)
		return err
	}
	return nil
}

// inflateArriving inflates b, the next part of the message under way, with what has been kept of it.
func (r *MessageReader) inflateArriving(b []byte, final bool, max int, on func(Opcode, []byte) error) error {
	i := r.arriving
	if i == nil {
		i = inflaters.Get().(*inflater)
		i.begin(max, r.op == Text)
		r.arriving = i
		kept := r.message
		r.message = nil
		if err := i.feed(kept, false); err != nil {
			return inflateError(err, max)
		}
	}
	if err := i.feed(b, final); err != nil {
		return inflateError(err, max)
	}
	if !final {
		return nil
	}
	op := r.op
	r.arriving = nil
	r.endMessage()
	defer i.giveBack()
	return on(op, i.out)
}

func (r *MessageReader) feedControl(b []byte, whole, done bool, on func(Opcode, []byte) error) error {
	op := Opcode(r.frame.OpCode)
	if whole {
		return on(op, b)
	}
	r.control = append(r.control, b...)
	if !done {
		return nil
	}
	b, r.control = r.control, r.control[:0]
	return on(op, b)
}

// deliver reports the message under way, of which b is the complete payload.
func (r *MessageReader) deliver(b []byte, max int, on func(Opcode, []byte) error) error {
	op, deflated, checked := r.op, r.deflated, r.checked
	r.endMessage()
	if deflated {
		return inflate(b, max, op, on)
	}
	if op == Text && !utf8.Valid(b[checked:]) {
		return errNotUTF8
	}
	return on(op, b)
}

func (r *MessageReader) endMessage() {
	r.op, r.deflated, r.size, r.message, r.checked = 0, false, 0, r.message[:0], 0
}

var errNotUTF8 = &ProtocolError{CloseInvalidUTF8, "text message is not valid UTF-8"}

// checkText looks at what a text has beyond its first checked bytes, which are valid UTF-8, and returns how
// many are now. It fails as soon as the text cannot become valid UTF-8 any more. A character that is cut
// off is left for the next time.
func checkText(text []byte, checked int) (int, error) {
	b := text[checked:]
	end := len(b)
	for i := max(0, end-utf8.UTFMax+1); i < end; i++ {
		if utf8.RuneStart(b[i]) && !utf8.FullRune(b[i:]) {
			end = i
		}
	}
	if !utf8.Valid(b[:end]) {
		return checked, errNotUTF8
	}
	return checked + end, nil
}
