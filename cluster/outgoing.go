package cluster

import (
	"sync"

	"github.com/alkdev/hub/codec"
)

// outgoing is what waits for the engine, in order. Those who dispatch leave events in it and go on; one
// goroutine hands them over.
type outgoing struct {
	limit int64         // set by newOutgoing, read-only afterwards
	wakec chan struct{} // 1 deep, never closed

	mu sync.Mutex // a leaf
	// +checklocks:mu
	waiting []outMessage
	// +checklocks:mu
	bytes int64 // of the waiting, and of those being handed over
}

// outMessage is an event for all hubs, or a note.
type outMessage struct {
	frame *codec.Frame // the event
	// A note is made when it is handed over, so that what it says is about what came before it.
	note   func() (subject string, data []byte)
	failed func() // the note could not be handed over
	bytes  int64
}

// messageBytes is what a message takes beside its bytes.
const messageBytes = 160

func newOutgoing(limit int64) *outgoing {
	return &outgoing{limit: limit, wakec: make(chan struct{}, 1)}
}

// events leaves events, all or none. It reports whether there was room.
func (o *outgoing) events(frames []*codec.Frame) bool {
	total := int64(0)
	for _, f := range frames {
		total += int64(f.Len()) + messageBytes
	}
	o.mu.Lock()
	if o.bytes+total > o.limit {
		o.mu.Unlock()
		return false
	}
	o.bytes += total
	for _, f := range frames {
		o.waiting = append(o.waiting, outMessage{frame: f, bytes: int64(f.Len()) + messageBytes})
	}
	o.mu.Unlock()
	o.wake()
	return true
}

// notes leaves a note of about so many bytes; one of none always has room.
func (o *outgoing) note(m outMessage) bool {
	o.mu.Lock()
	if m.bytes > 0 && o.bytes+m.bytes > o.limit {
		o.mu.Unlock()
		return false
	}
	o.bytes += m.bytes
	o.waiting = append(o.waiting, m)
	o.mu.Unlock()
	o.wake()
	return true
}

func (o *outgoing) wake() {
	select {
	case o.wakec <- struct{}{}:
	default:
	}
}

// take returns what waits, swapped for the empty slice given, and gives back the room of what was handed over before.
func (o *outgoing) take(done []outMessage) []outMessage {
	freed := int64(0)
	for i := range done {
		freed += done[i].bytes
	}
	clear(done)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= freed
	taken := o.waiting
	o.waiting = done[:0]
	return taken
}

func (o *outgoing) size() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}
