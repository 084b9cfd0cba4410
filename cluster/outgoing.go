package cluster

import "github.com/alkdev/hub/codec"

// outgoing is what waits for the engine, in order. Those who dispatch leave events in it and go on; one
// goroutine hands them over.
type outgoing struct{ queue[outMessage] }

// outMessage is an event for all hubs, or a note.
type outMessage struct {
	frame *codec.Frame // the event
	// A note is made when it is handed over, so that what it says is about what came before it.
	note   func() (subject string, data []byte)
	failed func() // the note could not be handed over
}

// events leaves events, all or none. It reports whether there was room.
func (o *outgoing) events(frames []*codec.Frame) bool {
	total := int64(0)
	for _, f := range frames {
		total += int64(f.Len()) + messageBytes
	}
	o.mu.Lock()
	fits := o.roomLocked(total)
	if fits {
		for _, f := range frames {
			o.waiting = append(o.waiting, outMessage{frame: f})
		}
	}
	o.mu.Unlock()
	o.wake()
	return fits
}
