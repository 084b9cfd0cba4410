package cluster

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/alkdev/hub/codec"
)

// The message of the hub's own format is the envelope, with one more member behind the others:
//
//	{"type":"tick","id":"42","payload":{"price":7},"via":"5e0c91d2.1734"}
//
// Whoever reads envelopes ignores it, and whoever publishes one need not add it.

const (
	viaStart = `,"via":"`
	viaEnd   = `"}`
	// maxStampBytes is what a stamp takes at most, with an id of maxIDBytes.
	maxStampBytes = len(viaStart) + maxIDBytes + len(".18446744073709551615") + len(viaEnd)
)

// hubMessages is what of the hub's own format is the same over any engine; its fields are what subjects of events, and of
// the cluster's own, begin with.
type hubMessages struct{ events, control string }

func (hubMessages) Widen(p codec.Pattern) codec.Pattern { return p }

func (f hubMessages) Control(name string) string { return f.control + name }

func (hubMessages) Append(dst, message []byte, s Stamp) []byte { return appendStamped(dst, message, s) }

func (hubMessages) Numbered() bool { return true }

func (f hubMessages) Event(subject string, data []byte) (codec.Envelope, Stamp, error) {
	if !strings.HasPrefix(subject, f.events) {
		return codec.Envelope{}, Stamp{}, errForeign
	}
	return stampedEvent(data)
}

// appendStamped appends an envelope with the stamp in it.
func appendStamped(dst, message []byte, s Stamp) []byte {
	dst = append(dst, message[:len(message)-1]...)
	dst = append(dst, viaStart...)
	dst = append(dst, s.Hub...)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, s.Seq, 10)
	return append(dst, viaEnd...)
}

// stampOf returns the stamp of a message. It can be looked for from the end: what stands there is a member
// of the envelope itself, for a payload that ends so has its own brackets behind it.
func stampOf(data []byte) Stamp {
	tail := data[max(0, len(data)-maxStampBytes):]
	i := bytes.LastIndex(tail, []byte(viaStart))
	if i < 0 {
		return Stamp{}
	}
	text, ok := bytes.CutSuffix(tail[i+len(viaStart):], []byte(viaEnd))
	if !ok {
		return Stamp{}
	}
	hub, seq, ok := strings.Cut(string(text), ".")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil || n == 0 || !validID(hub) {
		return Stamp{}
	}
	return Stamp{hub, n}
}

// stampedEvent reads the message of an event in the hub's own format.
func stampedEvent(data []byte) (codec.Envelope, Stamp, error) {
	e, err := codec.ParseEnvelope(data)
	if err != nil {
		return codec.Envelope{}, Stamp{}, err
	}
	return e, stampOf(data), nil
}

const maxIDBytes = 32

// validID reports whether id can be that of a hub.
func validID(id string) bool {
	if id == "" || len(id) > maxIDBytes {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
