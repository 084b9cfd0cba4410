package codec

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"

	"github.com/gobwas/ws"
)

const (
	finBit         = 0x80
	maxHeaderBytes = 10 // an unmasked header with a 64-bit length
)

// Opcode is the kind of a frame (RFC 6455 section 5.2).
type Opcode byte

// The opcodes of whole messages.
const (
	Text   = Opcode(ws.OpText)
	Binary = Opcode(ws.OpBinary)
	Close  = Opcode(ws.OpClose)
	Ping   = Opcode(ws.OpPing)
	Pong   = Opcode(ws.OpPong)
)

// Frame is one complete server frame and the topic of the event that it carries. It is immutable
// and shared by every spoke that gets it; the garbage collector ends it.
type Frame struct {
	bytes     []byte
	topic     string // "type:id"; "" if there is no event
	typeLen   int
	headerLen int // bytes before the payload; 0 if there will be no twin

	twinOnce sync.Once
	twin     *Frame // see Compressed; nil if there is none, or not yet
}

// Bytes returns the frame as it goes over the wire. The bytes are shared: never write to them.
func (f *Frame) Bytes() []byte { return f.bytes }

// Len returns the length of the frame in bytes.
func (f *Frame) Len() int { return len(f.bytes) }

// Topic returns "type:id" of the event, "" if there is none.
func (f *Frame) Topic() string { return f.topic }

// Type returns the type of the event, "" if there is none.
func (f *Frame) Type() string { return f.topic[:f.typeLen] }

// ID returns the id of the event, "" if there is none.
func (f *Frame) ID() string {
	if f.topic == "" {
		return ""
	}
	return f.topic[f.typeLen+1:]
}

// Opcode returns the kind of the frame.
func (f *Frame) Opcode() Opcode { return Opcode(f.bytes[0] & 0x0f) }

// NewFrame encodes e and frames it, op being Text or Binary. The error is an *EnvelopeError.
func NewFrame(e Envelope, op Opcode) (*Frame, error) {
	const members = len(`{"type":"","id":"","payload":null}`)
	buf := make([]byte, maxHeaderBytes, maxHeaderBytes+members+len(e.Type)+len(e.ID)+len(e.Payload))
	buf, err := AppendEnvelope(buf, e)
	if err != nil {
		return nil, err
	}
	length := len(buf) - maxHeaderBytes
	b := putHeader(buf, op)
	return &Frame{bytes: b, topic: e.Topic(), typeLen: len(e.Type), headerLen: len(b) - length}, nil
}

// Message returns what an event's or message's frame carries, the JSON of the envelope, shared as Bytes are.
func (f *Frame) Message() []byte { return f.bytes[f.headerLen:] }

// NewMessage frames a message of no event, op being Text or Binary. The message is copied.
func NewMessage(op Opcode, message []byte) *Frame {
	buf := make([]byte, maxHeaderBytes+len(message))
	copy(buf[maxHeaderBytes:], message)
	b := putHeader(buf, op)
	return &Frame{bytes: b, headerLen: len(b) - len(message)}
}

// NewRecord returns b, which it keeps, as a Frame of the given topic without any framing: for
// queues of events that do not go over a WebSocket.
func NewRecord(typ, id string, b []byte) *Frame {
	return &Frame{bytes: b, topic: typ + ":" + id, typeLen: len(typ)}
}

// NewControlFrame returns a ping or pong with a payload of at most 125 bytes, which is copied.
func NewControlFrame(op Opcode, payload []byte) *Frame {
	if len(payload) > ws.MaxControlFramePayloadSize {
		panic("codec: control frame payload of more than 125 bytes")
	}
	return &Frame{bytes: append([]byte{finBit | byte(op), byte(len(payload))}, payload...)}
}

// EachMessage calls fn with the payload of every text and binary frame in b, which are a server's
// whole frames, unfragmented and unmasked as Frame holds them. The payload aliases b, a compressed one
// is given as it is. It returns the beginning of a frame that is not there as a whole, if b ends so.
func EachMessage(b []byte, fn func(payload []byte)) (rest []byte) {
	r := bytes.NewReader(b)
	for {
		h, err := ws.ReadHeader(r)
		start := len(b) - r.Len()
		if err != nil || h.Length > int64(r.Len()) {
			return b
		}
		end := start + int(h.Length)
		if h.OpCode.IsData() {
			fn(b[start:end])
		}
		r.Reset(b[end:])
		b = b[end:]
	}
}

// putHeader writes the header of an unfragmented, unmasked frame into the maxHeaderBytes before the
// payload, right-aligned, and returns the frame (RFC 6455 section 5.2).
func putHeader(buf []byte, op Opcode) []byte {
	length := len(buf) - maxHeaderBytes
	var start int
	switch {
	case length < 126:
		start = maxHeaderBytes - 2
		buf[start+1] = byte(length)
	case length < 1<<16:
		start = maxHeaderBytes - 4
		buf[start+1] = 126
		binary.BigEndian.PutUint16(buf[start+2:], uint16(length))
	default:
		start = maxHeaderBytes - 10
		buf[start+1] = 127
		binary.BigEndian.PutUint64(buf[start+2:], uint64(length))
	}
	buf[start] = finBit | byte(op)
	return buf[start:]
}

// Reserved reports whether the frame carries one of the hub's own events.
func (f *Frame) Reserved() bool { return strings.HasPrefix(f.topic, ReservedPrefix) }
