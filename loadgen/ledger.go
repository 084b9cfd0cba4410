package loadgen

import (
	"sync"
	"sync/atomic"
)

// ledger knows what is under way: the deliveries that the spokes still connected have to get, and
// those that they have got or were told to be without.
type ledger struct {
	// Any goroutine, atomically.
	accounted   atomic.Int64 // by spokes that are still connected
	lastArrival atomic.Int64 // see now; also set when publishing begins
	deliveries  atomic.Int64 // each counted once

	arrivalsc chan struct{} // one slot, never closed: there are more arrivals

	// mu is a leaf lock: nothing is locked, written or called while holding it.
	mu sync.Mutex
	// +checklocks:mu
	topics []account
	// +checklocks:mu
	due int64 // deliveries that spokes still connected should have got since the beginning
	// +checklocks:mu
	live int // spokes that read and are still connected
}

// account is a topic's part.
type account struct {
	published uint64 // also the number of the next event
	refused   uint64 // of them, by the hub
	live      int
}

func newLedger(topics int) *ledger {
	return &ledger{topics: make([]account, topics), arrivalsc: make(chan struct{}, 1)}
}

// join adds a spoke that reads. Nothing may have been published yet.
func (l *ledger) join(topic int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[topic].live++
	l.live++
}

// leave takes a spoke out that has lost its connection and had so much accounted for.
func (l *ledger) leave(topic int, accounted int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.topics[topic]
	a.live--
	l.live--
	l.due -= int64(a.published - a.refused)
	l.accounted.Add(-accounted)
	l.wake()
}

// publish takes note of an event that is about to be published, and returns its number.
func (l *ledger) publish(topic int) (seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.topics[topic]
	seq = a.published
	a.published++
	l.due += int64(a.live)
	return seq
}

// withdraw takes back the latest event of a topic, which was not published after all.
func (l *ledger) withdraw(topic int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.topics[topic]
	a.published--
	l.due -= int64(a.live)
}

// refuse takes note of an event that the hub has refused after others were published.
func (l *ledger) refuse(topic int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.topics[topic]
	if a.refused < a.published {
		a.refused++
		l.due -= int64(a.live)
	}
	l.wake()
}

// missing returns how many of a topic's events a spoke is still without that has so many.
func (l *ledger) missing(topic int, accounted int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.topics[topic]
	return max(0, int64(a.published-a.refused)-accounted)
}

// underWay returns the deliveries still to come, and the spokes that read.
func (l *ledger) underWay() (deliveries int64, live int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.due-l.accounted.Load()), l.live
}

// liveIn returns the spokes of a topic that read.
func (l *ledger) liveIn(topic int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.topics[topic].live
}

// published returns the number of events that hubs have taken.
func (l *ledger) published() (events, refused uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.topics {
		events += a.published - a.refused
		refused += a.refused
	}
	return events, refused
}

// arrived adds what has come in.
func (l *ledger) arrived(deliveries, accounted, at int64) {
	l.deliveries.Add(deliveries)
	l.accounted.Add(accounted)
	l.lastArrival.Store(at)
	l.wake()
}

func (l *ledger) wake() {
	select {
	case l.arrivalsc <- struct{}{}:
	default:
	}
}
