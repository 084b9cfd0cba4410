package cluster

import "time"

// incoming is what has come from the engine and waits for the hub, in order. It is filled as fast as the
// connection is read: an engine cuts off who does not read. What does not fit is shed, and what was
// shed stands in its place.
type incoming struct{ queue[inMessage] }

// inMessage is one thing that has come in.
type inMessage struct {
	kind    inKind
	source  string // inEvent
	subject string // inEvent
	data    []byte
	at      time.Time
	shed    *shed // inShed
	whole   bool  // inAsking
}

type inKind uint8

const (
	inEvent inKind = iota
	inNote
	inShed // events are missing here
	inTick
	inUp // the connection is back
	inDown
	inAsking // what is asked for changes, and is everything or not: what was missing until then was not wanted
)

// shed is what is missing.
type shed struct {
	count    uint64              // 0 if nobody knows
	subjects map[string]struct{} // of what; nil if nobody knows
	hub      string              // from where; "" if nobody knows
}

// maxShedSubjects bounds what is remembered of what was shed: of more, everybody is told.
const maxShedSubjects = 64

// bounded leaves an event or an order if there is room, else word that it is missing.
func (q *incoming) bounded(m inMessage) {
	q.mu.Lock()
	if q.roomLocked(int64(len(m.data)+len(m.subject)) + messageBytes) {
		q.waiting = append(q.waiting, m)
	} else {
		q.missingLocked(m)
	}
	q.mu.Unlock()
	q.wake()
}

func (q *incoming) missingLocked(m inMessage) {
	if n := len(q.waiting); n == 0 || q.waiting[n-1].kind != inShed || q.waiting[n-1].shed.count == 0 {
		q.waiting = append(q.waiting, inMessage{kind: inShed, shed: &shed{subjects: make(map[string]struct{})}})
	}
	s := q.waiting[len(q.waiting)-1].shed
	s.count++
	if s.subjects != nil {
		if s.subjects[m.subject] = struct{}{}; len(s.subjects) > maxShedSubjects || m.kind != inEvent {
			s.subjects = nil // of an order it is not known what is in it
		}
	}
}
