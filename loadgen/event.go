package loadgen

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"strconv"

	"github.com/bytedance/sonic"

	"github.com/alkdev/hub/codec"
)

// EventType is the type of the published events. Their id is the number of the topic.
const EventType = "bench"

// An event on the wire, as hubs send it too; at is in nanoseconds since clockBase:
//
//	{"type":"bench","id":"0","payload":{"run":"0123456789abcdef","seq":17,"at":12345,"pad":"xx...x"}}
const (
	eventID      = `{"type":"` + EventType + `","id":"`
	eventPayload = `","payload":`
	payloadRun   = `{"run":"`
	payloadSeq   = `","seq":`
	payloadAt    = `,"at":`
	payloadPad   = `,"pad":"`
	payloadEnd   = `"}`
	eventEnd     = `}`
)

// runIDBytes is the length of a run's id.
const runIDBytes = 16

func newRunID() string {
	var b [runIDBytes / 2]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// stamp is what an event says about itself.
type stamp struct {
	run []byte // aliases the message on the short way
	seq uint64
	at  int64 // when it was published, see now
}

// appendEvent appends an envelope whose payload has payloadBytes, at least MinPayloadBytes.
func appendEvent(dst []byte, run string, topic int, seq uint64, at int64, payloadBytes int) []byte {
	dst = append(dst, eventID...)
	dst = strconv.AppendInt(dst, int64(topic), 10)
	dst = append(dst, eventPayload...)
	began := len(dst)
	dst = append(dst, payloadRun...)
	dst = append(dst, run...)
	dst = append(dst, payloadSeq...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, payloadAt...)
	dst = strconv.AppendInt(dst, at, 10)
	dst = append(dst, payloadPad...)
	for len(dst)-began < payloadBytes-len(payloadEnd) {
		dst = append(dst, 'x')
	}
	dst = append(dst, payloadEnd...)
	return append(dst, eventEnd...)
}

// readStamp reads what stands at the beginning of a message that is spelled as appendEvent does it.
// It reports false for every other spelling; nothing is decoded.
func readStamp(message []byte) (s stamp, ok bool) {
	b, ok := bytes.CutPrefix(message, []byte(eventID))
	if !ok {
		return s, false
	}
	if _, b, ok = cutNumber(b); !ok {
		return s, false
	}
	if b, ok = bytes.CutPrefix(b, []byte(eventPayload+payloadRun)); !ok || len(b) < runIDBytes {
		return s, false
	}
	s.run = b[:runIDBytes]
	if b, ok = bytes.CutPrefix(b[runIDBytes:], []byte(payloadSeq)); !ok {
		return s, false
	}
	if s.seq, b, ok = cutNumber(b); !ok {
		return s, false
	}
	if b, ok = bytes.CutPrefix(b, []byte(payloadAt)); !ok {
		return s, false
	}
	at, b, ok := cutNumber(b)
	s.at = int64(at)
	return s, ok && bytes.HasPrefix(b, []byte(payloadPad))
}

// cutNumber reads the digits at the beginning of b and reports whether there are any.
func cutNumber(b []byte) (n uint64, rest []byte, ok bool) {
	for len(b) > 0 && b[0]-'0' <= 9 {
		n, b, ok = n*10+uint64(b[0]-'0'), b[1:], true
	}
	return n, b, ok
}

// decodeStamp is the long way: an envelope in any spelling, already parsed.
func decodeStamp(e codec.Envelope) (s stamp, ok bool) {
	if e.Type != EventType {
		return s, false
	}
	var p struct {
		Run string `json:"run"`
		Seq uint64 `json:"seq"`
		At  int64  `json:"at"`
	}
	if sonic.ConfigStd.Unmarshal(e.Payload, &p) != nil {
		return s, false
	}
	return stamp{run: []byte(p.Run), seq: p.Seq, at: p.At}, true
}
