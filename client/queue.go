package client

// queue holds the encoded events that the connection has not taken yet, oldest first. The caller holds
// Client.mu.
type queue struct {
	events [][]byte // immutable from push on
	bytes  int
	limit  int
}

// push takes ownership of event. It reports false, and takes nothing, if the limit would be passed.
func (q *queue) push(event []byte) bool {
	if q.bytes+len(event) > q.limit {
		return false
	}
	q.events = append(q.events, event)
	q.bytes += len(event)
	return true
}

// head returns the oldest event, nil if there is none. It stays queued, and counted, until pop: a write
// that fails leaves it for the next connection.
func (q *queue) head() []byte {
	if len(q.events) == 0 {
		return nil
	}
	return q.events[0]
}

func (q *queue) pop() {
	q.bytes -= len(q.events[0])
	q.events[0] = nil // let go of the bytes, the array stays
	q.events = q.events[1:]
}
