package fanout

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkdev/hub/codec"
)

// shard owns a part of the spokes, and the one goroutine that writes to them.
//
// Everything that is to happen to a spoke goes through post, and happens in that order.
type shard struct {
	// Set by newShard, read-only afterwards.
	hub    *Hub
	number uint8
	wakec  chan struct{} // 1 deep, never closed
	donec  chan struct{} // closed by run

	// mu is a leaf lock but for Cluster.Want: nothing else is locked, written or called while holding it.
	mu sync.Mutex
	// +checklocks:mu
	index index
	// +checklocks:mu
	slots []*Spoke // by the slot in the spoke's id; nil where free
	// +checklocks:mu
	freeSlots []uint32
	// +checklocks:mu
	inbox []post // in order
	// +checklocks:mu
	pongs map[*Spoke]pongs // of those that have any in the inbox
	// +checklocks:mu
	drained []*Spoke // their bytes in flight have left
	// +checklocks:mu
	asleep bool // run waits for wakec
	// +checklocks:mu
	poked bool // run is to look at the hub's total
	// +checklocks:mu
	stopping bool
	// +checklocks:mu
	ended bool // run has returned, or is about to: nothing that is posted happens any more
	// +checklocks:mu
	published counters

	// No spoke has more bytes queued, and one had that many when shed last looked: for the other
	// shards. Written by the shard's goroutine.
	largest atomic.Int64

	// The shard's goroutine only, of which checkOwned knows the number.
	goroutine uint64
	rules
	passNo   uint32
	fetched  uint64 // means nothing, see fetchAhead
	lane     lane
	scratch  []byte   // for outbox.chunk
	dirty    []*Spoke // have something new in their outbox
	waiting  []*Spoke // those with an outbox
	spare    []*outbox
	due      int64    // when sweep has to look at the waiting, 0 for never
	rested   int64    // when sweep may look at them again
	shedding []*Spoke // for shed
	counters counters
}

// post is one thing that is to happen.
type post struct {
	op      op
	item    *item        // opDeliver
	takers  []*Spoke     // opDeliver to many; immutable
	one     *Spoke       // everything else
	cause   *Cause       // opClose, opFail
	control *codec.Frame // opControl
	do      func()       // opDo
}

type op uint8

const (
	opDeliver op = iota
	opControl
	opClose
	opFail
	opLeave
	opDo
)

func newShard(h *Hub, number int) *shard {
	sh := &shard{
		hub: h, number: uint8(number),
		wakec: make(chan struct{}, 1), donec: make(chan struct{}),
		rules: rules{limits: h.config.Limits, op: h.config.Opcode, held: &h.heldBytes},
	}
	sh.index.sets = make(map[string]*takers)
	if c := h.config.Cluster; c != nil {
		sh.index.want = c.Want
	}
	sh.pongs = make(map[*Spoke]pongs)
	return sh
}

// post leaves posts for the shard's goroutine.
func (sh *shard) post(posts ...post) {
	sh.mu.Lock()
	sh.inbox = append(sh.inbox, posts...)
	sh.wakeLocked()
}

// pongs is what one spoke has in the inbox.
type pongs struct {
	waiting int
	last    *codec.Frame // to follow the last of them, nil but in a flood
}

// maxPongs bounds the pongs of one spoke in the inbox: a ping costs its sender less than us.
const maxPongs = 64

// postPong leaves f, or lets it take the place of the last one if there are many.
func (sh *shard) postPong(s *Spoke, f *codec.Frame) {
	sh.mu.Lock()
	p := sh.pongs[s]
	if p.waiting == maxPongs || p.last != nil { // not past one that has been put off
		p.last = f
		sh.pongs[s] = p
		sh.mu.Unlock()
		return
	}
	p.waiting++
	sh.pongs[s] = p
	sh.inbox = append(sh.inbox, post{op: opControl, one: s, control: f})
	sh.wakeLocked()
}

// pongTaken counts off a pong of s, and returns the one that is to follow it, or nil.
func (sh *shard) pongTaken(s *Spoke) (next *codec.Frame) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := sh.pongs[s]
	if p.waiting--; p.waiting > 0 {
		sh.pongs[s] = p
		return nil
	}
	delete(sh.pongs, s)
	return p.last
}

// wakeLocked unlocks mu, and wakes the goroutine if it sleeps.
func (sh *shard) wakeLocked() {
	if sh.ended {
		for i := range sh.inbox { // dispatched while the hub was closing
			if it := sh.inbox[i].item; it != nil {
				sh.hub.passed(it)
			}
		}
		sh.inbox, sh.drained = nil, nil
		clear(sh.pongs)
	}
	asleep := sh.asleep
	sh.asleep = false
	sh.mu.Unlock()
	if asleep {
		sh.wakec <- struct{}{}
	}
}

// dispatch posts each item for every spoke that takes its topic, and returns how many do.
func (sh *shard) dispatch(items []*item) (matched int) {
	sh.mu.Lock()
	before := len(sh.inbox)
	for _, it := range items {
		matched += sh.dispatchLocked(it)
	}
	if len(sh.inbox) == before {
		sh.mu.Unlock()
		return 0
	}
	sh.wakeLocked()
	return matched
}

func (sh *shard) dispatchLocked(it *item) (matched int) {
	sh.index.lookup(it.frame.Topic(), it.frame.Type(), func(t *takers) {
		matched += len(t.spokes)
		sh.inbox = append(sh.inbox, post{item: it, takers: t.lend()})
		it.pending.Add(1)
	})
	if s := it.except; matched > 0 && s != nil && s.shard == sh && s.wantsLocked(it.frame.Type(), it.frame.ID()) {
		matched--
	}
	return matched
}

// join enters a spoke into the table, with its first event before any other. The error is ErrClosed if the
// shard takes no more spokes, or ErrTopicMemory.
func (sh *shard) join(s *Spoke, topics []codec.Pattern, welcome func() *item) error {
	sh.mu.Lock()
	if sh.stopping {
		sh.mu.Unlock()
		return ErrClosed
	}
	bytes := sh.firstTopicBytesLocked(s, topics)
	if err := sh.hub.reserveTopics(bytes); err != nil {
		sh.mu.Unlock()
		return err
	}
	slot := uint32(len(sh.slots))
	if n := len(sh.freeSlots); n > 0 {
		slot, sh.freeSlots = sh.freeSlots[n-1], sh.freeSlots[:n-1]
	} else {
		sh.slots = append(sh.slots, nil)
	}
	sh.slots[slot] = s
	s.id = uint64(rand.Uint32())<<32 | uint64(sh.number)<<24 | uint64(slot)
	s.inAll = notIndexed
	switch {
	case sh.hub.config.Echo: // gets no events
	case len(topics) > 0:
		for _, p := range topics {
			sh.index.subscribe(s, p)
		}
	case s.claimed && !sh.hub.config.Explicit:
		sh.index.imply(s)
	case s.claimed:
	case sh.hub.config.Explicit:
		s.subs = &subscriptions{}
	default:
		sh.index.enter(s, codec.Everything)
	}
	if it := welcome(); it != nil {
		sh.inbox = append(sh.inbox, post{item: it, one: s})
	}
	sh.countTopicsLocked(bytes)
	sh.wakeLocked()
	return nil
}

// firstTopicBytesLocked returns what the subscriptions take at most that a spoke is to begin with.
func (sh *shard) firstTopicBytesLocked(s *Spoke, topics []codec.Pattern) (bytes int64) {
	switch {
	case sh.hub.config.Echo:
	case len(topics) > 0:
		_, bytes = s.subs.with(topics)
	case s.claimed && !sh.hub.config.Explicit:
		_, bytes = s.subs.with(s.subs.claims.Topics)
	}
	return bytes
}

// leave takes a spoke out of the table. It reports whether it was there.
func (sh *shard) leave(s *Spoke) bool {
	sh.mu.Lock()
	slot := uint32(s.id) & slotMask
	if int(slot) >= len(sh.slots) || sh.slots[slot] != s {
		sh.mu.Unlock()
		return false
	}
	sh.index.removeAll(s)
	sh.countTopicsLocked(0)
	sh.slots[slot] = nil
	sh.freeSlots = append(sh.freeSlots, slot)
	sh.inbox = append(sh.inbox, post{op: opLeave, one: s})
	sh.wakeLocked()
	return true
}

// find returns the spoke with the id, or nil.
func (sh *shard) find(id uint64) *Spoke {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	slot := uint32(id) & slotMask
	if int(slot) >= len(sh.slots) || sh.slots[slot] == nil || sh.slots[slot].id != id {
		return nil
	}
	return sh.slots[slot]
}

// spokes returns the spokes there are.
func (sh *shard) spokes() []*Spoke {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	all := make([]*Spoke, 0, len(sh.slots)-len(sh.freeSlots))
	for _, s := range sh.slots {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// written notes that nothing of s is in flight any more.
func (sh *shard) written(s *Spoke) {
	sh.mu.Lock()
	sh.drained = append(sh.drained, s)
	sh.wakeLocked()
}

// poke makes the shard look at the hub's total.
func (sh *shard) poke() {
	sh.mu.Lock()
	sh.poked = true
	sh.wakeLocked()
}

// do runs fn on the shard's goroutine and waits for it. A shard that has ended runs nothing.
func (sh *shard) do(fn func()) {
	ran := make(chan struct{})
	sh.post(post{op: opDo, do: func() { fn(); close(ran) }})
	select {
	case <-ran:
	case <-sh.donec:
	}
}

// stop makes run close every spoke and return, once everything posted before has happened.
func (sh *shard) stop() {
	sh.mu.Lock()
	sh.stopping = true
	sh.wakeLocked()
	<-sh.donec
}

// maxKeptPosts bounds what is left of an inbox after a burst.
const maxKeptPosts = 16 << 10

// sweepPause is the least time between two sweeps, less for a short Limits.SpokeLag: with many spokes
// waiting, every look has its price.
const sweepPause = 100 * time.Millisecond
