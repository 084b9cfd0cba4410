package cluster

import (
	"fmt"
	"strings"

	"github.com/alkdev/hub/codec"
)

// NATSYoga is the format of GraphQL gateways over NATS: the event tick:42 is published under
// prefix:tick:42, or tick:42 if the prefix is "", one of type tick without an id under prefix:tick, and the message is
// the event's payload alone.
//
// NATS has no wildcard within a word, so a hub that wants every id of a type asks for everything and leaves
// out what it does not want. A topic that is no NATS subject (with white space, or with an empty word, * or
// > between dots) stays on its hub. There is nothing in a message to tell one from another: while
// subscriptions change an event may come twice.
func NATSYoga(prefix string) (Format, error) {
	if strings.ContainsAny(prefix, " \t\r\n*>:") || prefix != "" && !isSubject(prefix) {
		return nil, fmt.Errorf("cluster: %.100q cannot begin a NATS subject", prefix)
	}
	if prefix != "" {
		prefix += ":"
	}
	return natsYoga{yogaMessages{prefix}}, nil
}

type natsYoga struct{ yogaMessages }

// isSubject reports whether s is a NATS subject without wildcards.
func isSubject(s string) bool {
	if strings.ContainsAny(s, " \t\r\n\f\x00") {
		return false
	}
	for word := range strings.SplitSeq(s, ".") {
		if word == "" || word == "*" || word == ">" {
			return false
		}
	}
	return true
}

// yogaTopic is what GraphQL gateways call a topic: the name of an event, or with an id name:id.
func yogaTopic(typ, id string) string {
	if id == "" {
		return typ
	}
	return typ + ":" + id
}

// yogaMessages is what of the format of GraphQL gateways is the same over any engine.
type yogaMessages struct{ prefix string }

// Topic is the inverse of yogaTopic, behind the prefix. It reports whether an event can have such a topic.
func (f yogaMessages) Topic(subject string) (typ, id string, ok bool) {
	topic, ours := strings.CutPrefix(subject, f.prefix)
	typ, id, _ = codec.SplitTopic(topic)
	return typ, id, ours && typ != "" && !strings.HasPrefix(typ, codec.ReservedPrefix)
}

// Control returns a topic of a type that no event can have.
func (f yogaMessages) Control(name string) string {
	return f.prefix + codec.ReservedPrefix + "hub:" + name
}

// Append appends the payload, which is the last member of an envelope that AppendEnvelope has made.
func (yogaMessages) Append(dst, message []byte, _ Stamp) []byte {
	return append(dst, payloadOf(message)...)
}

func (yogaMessages) Numbered() bool { return false }

// Event reads a payload: an empty one is that of a publisher that gave none, and what is not JSON the hub finds out
// when it makes a frame of it.
func (f yogaMessages) Event(subject string, data []byte) (codec.Envelope, Stamp, error) {
	typ, id, ok := f.Topic(subject)
	if !ok {
		return codec.Envelope{}, Stamp{}, errForeign
	}
	return codec.Envelope{Type: typ, ID: id, Payload: data}, Stamp{}, nil
}

func (f natsYoga) Subject(typ, id string) (string, bool) {
	subject := f.prefix + yogaTopic(typ, id)
	return subject, isSubject(subject) && !natsOwn(subject)
}

// natsOwn reports whether NATS itself uses the subject. They come as well when everything is asked for.
func natsOwn(subject string) bool {
	return strings.HasPrefix(subject, "_INBOX.") || strings.HasPrefix(subject, "$")
}

func (f natsYoga) Topic(subject string) (typ, id string, ok bool) {
	typ, id, ok = f.yogaMessages.Topic(subject)
	return typ, id, ok && !natsOwn(subject)
}

func (f natsYoga) Widen(p codec.Pattern) codec.Pattern {
	typ, id, _ := codec.SplitTopic(p.String())
	if _, ok := f.Subject(typ, id); p == p.OfType() || !ok {
		return codec.Everything
	}
	return p
}

func (f natsYoga) Subscriptions(p codec.Pattern) []Subject {
	if p == codec.Everything {
		return []Subject{{">", true}}
	}
	return []Subject{{f.prefix + p.String(), false}}
}

func (f natsYoga) Event(subject string, data []byte) (codec.Envelope, Stamp, error) {
	if natsOwn(subject) {
		return codec.Envelope{}, Stamp{}, errForeign
	}
	return f.yogaMessages.Event(subject, data)
}

// payloadOf returns the payload in an envelope that AppendEnvelope has made.
func payloadOf(message []byte) []byte {
	i := stringEnd(message, len(`{"type":`))
	i = stringEnd(message, i+len(`,"id":`))
	return message[i+len(`,"payload":`) : len(message)-1]
}

// stringEnd returns the end of the JSON string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}
