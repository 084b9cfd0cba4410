package cluster

import (
	"errors"

	"github.com/alkdev/hub/codec"
)

// Format says how an event becomes a message of an engine and a topic one of its subjects, and back. It
// has no state.
type Format interface {
	// Subject returns where events of the topic are published; ok is false for a topic that this format
	// has no subject for.
	Subject(typ, id string) (subject string, ok bool)

	// Topic returns the topic that Subject has returned subject for. It reports whether there is one.
	Topic(subject string) (typ, id string, ok bool)

	// Subscriptions returns what to subscribe to for a pattern that Widen has returned: subjects of which
	// no two select the same, and one for everything.
	Subscriptions(p codec.Pattern) []Subject

	// Widen returns the narrowest pattern that covers p and that Subscriptions has something for.
	Widen(p codec.Pattern) codec.Pattern

	// Control returns a subject of the cluster's own, by a name of letters and digits.
	Control(name string) string

	// Append appends the message for an event to dst. message is the envelope as AppendEnvelope makes it.
	Append(dst []byte, message []byte, s Stamp) []byte

	// Numbered reports whether messages carry their Stamp. Without, what comes twice cannot be told from two events.
	Numbered() bool

	// Event reads a message back. The stamp is the zero Stamp if it has none. The error is
	// errForeign for what is not the message of an event, and says more if it was meant to be one.
	Event(subject string, data []byte) (codec.Envelope, Stamp, error)
}

// Stamp says which event of which hub a message is. Seq counts the events that a hub has given to the
// engine, from 1 on.
type Stamp struct {
	Hub string
	Seq uint64
}

// errForeign: the message is none of ours.
var errForeign = errors.New("cluster: not the message of an event")
