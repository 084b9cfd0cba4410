package main

import (
	"sync"
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// soakBooks is what the hub says about its spokes, from the connection of each to its disconnection.
type soakBooks struct {
	round *soakRound
	gonec chan *soakEntry // closed by stop

	// slowestLook is how long the shards have taken to answer at most; of one caller at a time. The admin
	// side gives them one second or five, too little for a process that waits so long for a core.
	slowestLook time.Duration

	closed sync.WaitGroup // audit

	mu sync.Mutex // a leaf
	// +checklocks:mu
	entries map[string]*soakEntry // by id
	// +checklocks:mu
	total fanout.SpokeInfo // the sums over those that have gone
	// +checklocks:mu
	connections, disconnections, messages uint64
}

// soakEntry is one spoke in the books.
type soakEntry struct {
	spoke *fanout.Spoke // nil once it has gone
	heard uint64        // events from it; the reading goroutine's
	cause fanout.Cause
	final fanout.SpokeInfo // its last account
	endc  chan struct{}    // closed when cause and final are there
}

func newSoakBooks(r *soakRound) *soakBooks {
	return &soakBooks{round: r, gonec: make(chan *soakEntry, 1<<16), entries: make(map[string]*soakEntry)}
}

// start lets several take last accounts at a time: each waits for its spoke's shard, and one behind the
// other hundreds of them wait for a minute on a busy machine.
func (b *soakBooks) start() {
	for range 16 {
		b.closed.Go(b.audit)
	}
}

func (b *soakBooks) stop() {
	close(b.gonec)
	b.closed.Wait()
}

// connected is the hub's OnConnection.
func (b *soakBooks) connected(s *fanout.Spoke) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[s.ID()] = &soakEntry{spoke: s, endc: make(chan struct{})}
	b.connections++
}

// heard is called for every event from a spoke.
func (b *soakBooks) heard(s *fanout.Spoke, _ codec.Envelope) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages++
	e := b.entries[s.ID()]
	if e == nil || e.spoke == nil {
		b.round.find("an event from spoke %s, which is not connected", s.ID())
		return
	}
	e.heard++
}

// disconnected is the hub's OnDisconnection.
func (b *soakBooks) disconnected(s *fanout.Spoke, cause fanout.Cause) {
	b.mu.Lock()
	e := b.entries[s.ID()]
	if e == nil || e.spoke != s {
		b.mu.Unlock()
		b.round.find("spoke %s is disconnected, and was not connected", s.ID())
		return
	}
	e.cause = cause
	b.disconnections++
	b.mu.Unlock()
	b.gonec <- e
}

// audit takes the last account of spokes that have gone: not in the callback, for it waits for the
// shard.
func (b *soakBooks) audit() {
	for e := range b.gonec {
		i := e.spoke.Info()
		b.checkSpoke(i)
		if i.QueuedCount != 0 || i.InFlight != 0 {
			b.round.find("spoke %s has gone, and has %d events queued, %d bytes in flight", i.ID, i.QueuedCount, i.InFlight)
		}
		b.mu.Lock()
		e.final, e.spoke = i, nil
		b.total.Offered += i.Offered
		b.total.Delivered += i.Delivered
		b.total.Dropped += i.Dropped
		b.total.Conflated += i.Conflated
		b.mu.Unlock()
		close(e.endc)
	}
}

// entry returns the entry of a spoke.
func (b *soakBooks) entry(id string) *soakEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entries[id]
}

// strike takes an entry out that has been looked at.
func (b *soakBooks) strike(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, id)
}

// checkSpoke is what holds for every spoke at every time.
func (b *soakBooks) checkSpoke(i fanout.SpokeInfo) {
	if i.Offered != i.Delivered+i.QueuedCount+i.Dropped+i.Conflated {
		b.round.find("offered is not delivered + queued + dropped + conflated: %+v", i)
	}
	if i.Queued < 0 || i.Queued > b.round.config.spokeBuffer {
		b.round.find("queued bytes are over the limit: %+v", i)
	}
}

// checkSpokes looks at every spoke as it is now.
func (b *soakBooks) checkSpokes() {
	began := time.Now()
	b.round.hub.Inspect(b.checkSpoke)
	took := time.Since(began)
	if took > soakPatience {
		b.round.find("the shards take %v to answer", took)
	}
	b.slowestLook = max(b.slowestLook, took)
	if n := b.round.hub.Stats().PendingBytes; n < 0 || n > 2*b.round.config.totalBuffer {
		b.round.find("%d bytes wait for their first pass", n)
	}
}

// checkTotals holds the hub's counters against the sums over all spokes there have been.
func (b *soakBooks) checkTotals() {
	r := b.round
	r.await("everybody's last account", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.entries {
			if e.spoke != nil {
				return false
			}
		}
		return true
	})
	r.hub.Flush()
	s := r.hub.Stats()
	var dropped, conflated, closed uint64
	for _, n := range s.Dropped {
		dropped += n
	}
	for _, n := range s.Conflated {
		conflated += n
	}
	for _, n := range s.Closed {
		closed += n
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"offered", b.total.Offered, b.total.Delivered + b.total.Dropped + b.total.Conflated},
		{"deliveries", s.Deliveries, b.total.Delivered},
		{"dropped", dropped, b.total.Dropped},
		{"conflated", conflated, b.total.Conflated},
		{"opened", s.Opened, b.connections},
		{"closed", closed, b.connections},
		{"disconnections", b.disconnections, b.connections},
		{"spokes", uint64(s.Spokes), 0},
		{"queued spokes", uint64(s.QueuedSpokes), 0},
		{"bytes queued", uint64(s.QueuedBytes), 0},
		{"bytes held", uint64(s.HeldBytes), 0},
		{"bytes pending", uint64(s.PendingBytes), 0},
		{"bytes in flight", uint64(s.InFlightBytes), 0},
		{"panics", s.Panics, 0},
		{"events received", s.Received, b.messages},
		{"connections of the loop", uint64(r.server.Stats().Connections), 0},
	} {
		if c.got != c.want {
			r.find("the books do not add up: %s %d, want %d; %+v", c.what, c.got, c.want, s)
		}
	}
}
