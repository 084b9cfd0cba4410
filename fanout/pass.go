package fanout

import "github.com/alkdev/hub/codec"

const (
	// chunkBytes is what one write hands to the loop: large enough that system calls do not matter,
	// small enough that little is in flight when a spoke stalls.
	chunkBytes = 64 << 10
	// lagChunkBytes is the same for a spoke that did not take its last chunk whole, for the loop
	// keeps a copy of what is left.
	lagChunkBytes = 16 << 10
	// fetchAhead is how many spokes ahead a field is read, for its cache line to be there in time: with
	// ten thousand spokes it is not, and waiting for it is a part of a delivery that shows.
	fetchAhead = 2
	// stampEvery is how many writes share one look at the clock for the latency histogram.
	stampEvery = 32
)

// lane is the largest set of takers in a pass, and what goes to all of them.
type lane struct {
	takers   []*Spoke
	items    []*item
	plain    batch
	deflated batch // the same for spokes that take compressed frames; made when there is one
}

// batch is some frames, joined.
type batch struct {
	bytes []byte
	buf   []byte // where they are joined, kept from pass to pass
}

// join makes b the frames of items, of their compressed twins if there is a deflater.
func (b *batch) join(items []*item, d *codec.Deflater) {
	if len(items) == 1 {
		b.bytes = compressed(items[0].frame, d).Bytes()
		return
	}
	b.buf = b.buf[:0]
	for _, it := range items {
		b.buf = append(b.buf, compressed(it.frame, d).Bytes()...)
	}
	b.bytes = b.buf
}

// passAll makes what was posted happen, in order.
func (sh *shard) passAll(posts []post) {
	for len(posts) > 0 {
		n := deliveries(posts)
		if n == 0 {
			n = 1
			sh.perform(&posts[0])
		} else {
			sh.deliver(posts[:n])
		}
		posts = posts[n:]
	}
}

// deliveries returns how many posts from the first on can share one pass: events, together not more
// than one chunk.
func deliveries(posts []post) int {
	size := 0
	for i := range posts {
		if posts[i].op != opDeliver {
			return i
		}
		if size += posts[i].item.frame.Len(); size > chunkBytes && i > 0 {
			return i
		}
	}
	return len(posts)
}

// deliver gives every taker of every post its share, in one pass over the spokes.
//
// Mostly there is but one set of takers, the lane. Its frames are joined once, and every spoke that
// is idle and gets nothing else gets those bytes with one write. Everyone else gets references in
// an outbox: the part of the lane before the post at hand, then the post's own, so that each spoke
// sees the order of the posts.
func (sh *shard) deliver(posts []post) {
	sh.checkOwned()
	now := sh.hub.now()
	special := sh.chooseLane(posts)
	if special {
		sh.deliverSpecial(posts, now)
	}
	sh.deliverLane(special, now)
	for i, s := range sh.dirty {
		sh.dirty[i] = nil
		s.dirty = false
		sh.flush(s)
	}
	sh.dirty = sh.dirty[:0]
	for i := range posts {
		sh.hub.passed(posts[i].item)
	}
}

// chooseLane makes the largest set of takers the lane. It reports whether there is anything that
// does not go to exactly the spokes of the lane.
func (sh *shard) chooseLane(posts []post) (special bool) {
	l := &sh.lane
	l.takers = nil
	for i := range posts {
		if len(posts[i].takers) > len(l.takers) {
			l.takers = posts[i].takers
		}
	}
	clear(l.items)
	l.items, l.plain.bytes, l.deflated.bytes = l.items[:0], nil, nil
	for i := range posts {
		if !l.carries(&posts[i]) {
			special = true
			continue
		}
		special = special || posts[i].item.except != nil
		l.items = append(l.items, posts[i].item)
	}
	l.plain.join(l.items, nil)
	return special
}

// carries reports whether p goes to the spokes of the lane: the same slice, of the same length.
func (l *lane) carries(p *post) bool {
	return len(p.takers) > 0 && len(p.takers) == len(l.takers) && &p.takers[0] == &l.takers[0]
}

// deliverSpecial queues what is not for the lane as it is. place says how much of the lane a spoke
// has already had; it counts only for the spokes of the lane, which pass marks.
func (sh *shard) deliverSpecial(posts []post, now int64) {
	sh.passNo++
	for _, s := range sh.lane.takers {
		s.pass, s.place = sh.passNo, 0
	}
	done := int32(0) // items of the lane before this post
	for i := range posts {
		p := &posts[i]
		if sh.lane.carries(p) {
			if s := p.item.except; s != nil && s.shard == sh && s.pass == sh.passNo {
				sh.catchUp(s, done, now)
				s.place = done + 1
			}
			done++
			continue
		}
		if p.one != nil {
			sh.catchUp(p.one, done, now)
			sh.enqueue(p.one, p.item, now)
		}
		for _, s := range p.takers {
			if s != p.item.except {
				sh.catchUp(s, done, now)
				sh.enqueue(s, p.item, now)
			}
		}
	}
}

// catchUp queues for s the items of the lane that come before what is queued next.
func (sh *shard) catchUp(s *Spoke, done int32, now int64) {
	if s.pass != sh.passNo {
		return
	}
	for _, it := range sh.lane.items[s.place:done] {
		sh.enqueue(s, it, now)
	}
	s.place = done
}

// deliverLane is the hot path: one write per idle spoke.
func (sh *shard) deliverLane(special bool, now int64) {
	l := &sh.lane
	n := uint64(len(l.items))
	if n == 0 {
		return
	}
	whole := len(l.plain.bytes) <= 2*chunkBytes
	writes, stamped, saved := 0, 0, 0
	for i, s := range l.takers {
		if i+fetchAhead < len(l.takers) {
			sh.fetched += l.takers[i+fetchAhead].tally.offered
		}
		if s.outbox != nil || s.state != open || !whole || special && s.place > 0 {
			start := int32(0)
			if special {
				start = s.place
			}
			for _, it := range l.items[start:] {
				sh.enqueue(s, it, now)
			}
			continue
		}
		b := l.plain.bytes
		if s.deflates {
			b = l.compressed(sh.hub.config.Deflater)
			saved += len(l.plain.bytes) - len(b)
		}
		kept, err := s.sink.Write(b)
		s.tally.offered += n
		s.tally.delivered += n
		if kept > 0 {
			sh.hold(s, kept)
		}
		if err != nil {
			sh.lose(s)
		}
		if writes++; writes-stamped == stampEvery {
			sh.stamp(l.items, writes-stamped)
			stamped = writes
		}
	}
	sh.stamp(l.items, writes-stamped)
	sh.counters.writes += uint64(writes)
	sh.counters.deliveries += uint64(writes) * n
	sh.counters.deliveredBytes += uint64(writes*len(l.plain.bytes) - saved)
}

// compressed returns the batch for spokes that take compressed frames.
func (l *lane) compressed(d *codec.Deflater) []byte {
	if l.deflated.bytes == nil {
		l.deflated.join(l.items, d)
	}
	return l.deflated.bytes
}

// stamp counts the items as written to so many spokes just now.
func (sh *shard) stamp(items []*item, writes int) {
	if writes == 0 {
		return
	}
	now := sh.hub.now()
	for _, it := range items {
		sh.counters.latency.observe(now-it.at, uint64(writes))
	}
}

// enqueue puts it into the outbox of s, under the limits.
func (sh *shard) enqueue(s *Spoke, it *item, now int64) {
	if s.state != open {
		return
	}
	o := sh.outboxOf(s)
	if o.inFlight == 0 && o.queuedBytes+o.lenOf(it) > sh.limits.SpokeBytes {
		// It is not slow, it has not had its turn in this pass.
		if sh.flush(s); s.state != open {
			return
		}
		o = sh.outboxOf(s)
	}
	if it.reserved {
		if o.reservedBytes > maxReservedBytes {
			sh.shut(s, CauseOf(LocalSide, codec.ClosePolicy, "too many answers unread"), Closed)
			return
		}
		o.push(it)
	} else if v, why := o.offer(it, now); v == tooSlow {
		sh.disconnectSlow(s, why)
		return
	} else if o.queuedBytes > sh.largest.Load() {
		sh.largest.Store(o.queuedBytes)
	}
	sh.checkTally(s)
	if o.inFlight > 0 {
		sh.watch(o)
	}
	if !s.dirty {
		s.dirty = true
		sh.dirty = append(sh.dirty, s)
	}
}

// flush writes what is queued for s, until the sink keeps some of it.
func (sh *shard) flush(s *Spoke) {
	sh.checkOwned()
	o := s.outbox
	if o == nil || o.inFlight > 0 {
		return
	}
	for !o.empty() {
		size := chunkBytes
		if o.lagging {
			size = lagChunkBytes
		}
		b := o.chunk(size, &sh.scratch)
		kept, err := s.sink.Write(b)
		o.advance(len(b), &sh.counters, sh.hub)
		sh.counters.writes++
		if err != nil {
			sh.lose(s)
			return
		}
		if kept > 0 {
			sh.hold(s, kept)
			sh.watch(o)
			return
		}
	}
	if c := o.closing; c != nil {
		sh.shut(s, c.cause, Closed)
		return
	}
	sh.freeOutbox(s)
}

// watch makes run look at a queue that is not on its way when its oldest event becomes too old.
func (sh *shard) watch(o *outbox) {
	if sh.limits.SpokeLag == 0 {
		return
	}
	if it := o.oldest(); it != nil {
		sh.wakeBy(it.at + int64(sh.limits.SpokeLag))
	}
}

// hold notes that the sink of s kept some bytes.
func (sh *shard) hold(s *Spoke, kept int) {
	o := sh.outboxOf(s)
	o.inFlight, o.lagging = int64(kept), true
	sh.counters.inFlightBytes += o.inFlight
}

// landed notes that nothing of s is in flight any more.
func (sh *shard) landed(s *Spoke) {
	if o := s.outbox; o != nil {
		sh.counters.inFlightBytes -= o.inFlight
		o.inFlight = 0
	}
}
