package cluster

import "sync"

// queue is what waits for one goroutine, in order. Whoever leaves something in it goes on.
type queue[T any] struct {
	limit int64         // in bytes; set by newQueue, read-only afterwards
	wakec chan struct{} // 1 deep, never closed

	mu sync.Mutex // a leaf
	// +checklocks:mu
	waiting []T
	// +checklocks:mu
	bytes int64 // of the waiting, and of those taken
	// +checklocks:mu
	takenBytes int64
}

// messageBytes is what a message takes beside its bytes.
const messageBytes = 160

func newQueue[T any](limit int64) queue[T] {
	return queue[T]{limit: limit, wakec: make(chan struct{}, 1)}
}

// put leaves something if there is room for so many bytes; for none there always is. It reports whether there was.
func (q *queue[T]) put(m T, bytes int64) bool {
	q.mu.Lock()
	fits := q.roomLocked(bytes)
	if fits {
		q.waiting = append(q.waiting, m)
	}
	q.mu.Unlock()
	q.wake()
	return fits
}

// roomLocked takes room for so many bytes, and reports whether there was as much.
func (q *queue[T]) roomLocked(bytes int64) bool {
	if bytes > 0 && q.bytes+bytes > q.limit {
		return false
	}
	q.bytes += bytes
	return true
}

func (q *queue[T]) wake() {
	select {
	case q.wakec <- struct{}{}:
	default:
	}
}

// take returns what waits, swapped for the slice that it returned before, whose room it gives back.
func (q *queue[T]) take(done []T) []T {
	clear(done)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= q.takenBytes
	q.takenBytes = q.bytes
	taken := q.waiting
	q.waiting = done[:0]
	return taken
}

func (q *queue[T]) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}
