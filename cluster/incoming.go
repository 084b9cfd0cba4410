package cluster

import (
	"sync"
	"time"
)

// incoming is what has come from the engine and waits for the hub, in order. It is filled as fast as the
// connection is read: an engine cuts off who does not read. What does not fit is shed, and what was
// shed stands in its place.
type incoming struct {
	limit int64         // set by newIncoming, read-only afterwards
	wakec chan struct{} // 1 deep, never closed

	mu sync.Mutex // a leaf
	// +checklocks:mu
	waiting []inMessage
	// +checklocks:mu
	bytes int64 // of the waiting, and of those being taken
}

// inMessage is one thing that has come in.
type inMessage struct {
	kind    inKind
	source  string // inEvent
	subject string // inEvent
	data    []byte
	at      time.Time
	shed    *shed // inShed
	bytes   int64
}

type inKind uint8

const (
	inEvent inKind = iota
	inNote
	inShed // events are missing here
	inTick
	inUp // the connection is back
	inDown
	inAsking // more is asked for: what was missing until then was not wanted
)

// shed is what is missing.
type shed struct {
	count    uint64              // 0 if nobody knows
	subjects map[string]struct{} // of what; nil if nobody knows
	hub      string              // from where; "" if nobody knows
}

// maxShedSubjects bounds what is remembered of what was shed: of more, everybody is told.
const maxShedSubjects = 64

func newIncoming(limit int64) *incoming {
	return &incoming{limit: limit, wakec: make(chan struct{}, 1)}
}

// event leaves an event if there is room, else word that it is missing.
func (q *incoming) event(m inMessage) {
	m.bytes = int64(len(m.data)+len(m.subject)) + messageBytes
	q.mu.Lock()
	if q.bytes+m.bytes > q.limit {
		q.missingLocked(m.subject)
	} else {
		q.bytes += m.bytes
		q.waiting = append(q.waiting, m)
	}
	q.mu.Unlock()
	q.wake()
}

func (q *incoming) missingLocked(subject string) {
	if n := len(q.waiting); n == 0 || q.waiting[n-1].kind != inShed || q.waiting[n-1].shed.count == 0 {
		q.waiting = append(q.waiting, inMessage{kind: inShed, shed: &shed{subjects: make(map[string]struct{})}})
	}
	s := q.waiting[len(q.waiting)-1].shed
	s.count++
	if s.subjects != nil {
		if s.subjects[subject] = struct{}{}; len(s.subjects) > maxShedSubjects {
			s.subjects = nil
		}
	}
}

// put leaves what is never shed.
func (q *incoming) put(m inMessage) {
	q.mu.Lock()
	q.waiting = append(q.waiting, m)
	q.mu.Unlock()
	q.wake()
}

func (q *incoming) wake() {
	select {
	case q.wakec <- struct{}{}:
	default:
	}
}

// take returns what waits, swapped for the empty slice given, and gives back the room of what was taken before.
func (q *incoming) take(done []inMessage) []inMessage {
	freed := int64(0)
	for i := range done {
		freed += done[i].bytes
	}
	clear(done)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= freed
	taken := q.waiting
	q.waiting = done[:0]
	return taken
}

func (q *incoming) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}
