package fanout

// What leaves a queue that is over a limit, and the gap that stands in its place.

// pinnedBytes is what is still queued of an event that the sink has in part, and must have whole.
func (o *outbox) pinnedBytes() int64 {
	if o.sent == 0 || !o.items[o.head].event() {
		return 0
	}
	return o.lenOf(o.items[o.head]) - int64(o.sent)
}

// offer queues an event, or loses what the policies say.
func (o *outbox) offer(it *item, now int64) (verdict, LossReason) {
	o.count.offered++
	if o.queuedBytes+o.lenOf(it) > o.limits.SpokeBytes {
		if v := o.makeRoom(it); v != queued {
			return v, OverSpokeBytes
		}
	} else if it.policy == Conflate {
		o.repeats = true
	}
	if it.policy == DropNewest && o.tooOld(now) {
		o.dropNew(it, OverSpokeLag)
		return dropped, OverSpokeLag
	}
	o.push(it)
	return queued, 0
}

// makeRoom lets events go until it fits.
func (o *outbox) makeRoom(it *item) verdict {
	limit := o.limits.SpokeBytes - o.lenOf(it)
	if it.policy != Disconnect && o.pinnedBytes() > limit {
		o.dropNew(it, OverSpokeBytes) // whatever else leaves, it does not fit
		return dropped
	}
	o.conflate(it, OverSpokeBytes)
	if o.queuedBytes <= limit {
		return queued
	}
	switch it.policy {
	case DropNewest:
		o.dropNew(it, OverSpokeBytes)
		return dropped
	case DropOldest:
		o.dropOldest(limit, OverSpokeBytes)
	case Conflate:
		// More topics than fit. A little more than needed leaves, so that not every event pays for
		// a look at the whole queue.
		o.dropOldest(min(limit, o.limits.SpokeBytes*7/8), OverSpokeBytes)
	}
	if o.queuedBytes > limit {
		o.drops(OverSpokeBytes)
		return tooSlow
	}
	return queued
}

// drops counts an event that is lost.
func (o *outbox) drops(why LossReason) {
	o.count.lose(1, 0)
	o.losses.dropped[why]++
}

// dropNew loses an event that was not queued, and says so at the end of the queue.
func (o *outbox) dropNew(it *item, why LossReason) {
	o.drops(why)
	if n := len(o.items); n > o.head && o.items[n-1].open() {
		o.items[n-1].addGap(1, 0, why)
		return
	}
	o.push(newGap(it, 1, 0, why))
}

// dropOldest lets events leave from the head until at most limit bytes are queued. An event whose
// own policy is Disconnect is never dropped.
func (o *outbox) dropOldest(limit int64, why LossReason) {
	for i := o.first(); i < len(o.items) && o.queuedBytes > limit; i++ {
		if it := o.items[i]; it.event() && it.policy != Disconnect {
			i = o.drop(i, why)
		}
	}
}

// drop replaces items[i] by a gap, or lets the gap beside it grow. It returns the index of the gap.
func (o *outbox) drop(i int, why LossReason) int {
	it := o.items[i]
	o.release(it, o.lenOf(it))
	o.drops(why)
	if i > o.head && o.items[i-1].open() {
		o.items[i-1].addGap(1, 0, why)
		copy(o.items[o.head+1:i+1], o.items[o.head:i]) // the few before it move up
		o.items[o.head] = nil
		o.head++
		return i
	}
	o.items[i] = newGap(it, 1, 0, why)
	return i
}

// conflate keeps, of the events whose policy is Conflate, only the newest of each topic. newest, if
// not nil, is about to be queued and replaces those of its own topic.
func (o *outbox) conflate(newest *item, why LossReason) {
	replaces := newest != nil && newest.policy == Conflate
	if o.byPolicy[Conflate] == 0 || !o.repeats && !replaces {
		return
	}
	if o.seen == nil {
		o.seen = make(map[string]bool)
	}
	lost := uint64(0)
	for i := len(o.items) - 1; i >= o.first(); i-- {
		it := o.items[i]
		if !it.event() || it.policy != Conflate {
			continue
		}
		topic := it.frame.Topic()
		if !(replaces && topic == newest.frame.Topic()) {
			if !o.repeats { // there is one to look for, and that is not it
				continue
			}
			if !o.seen[topic] {
				o.seen[topic] = true
				continue
			}
		}
		o.release(it, o.lenOf(it))
		o.items[i] = newGap(it, 0, 1, why)
		if lost++; !o.repeats {
			break
		}
	}
	o.repeats = false
	clear(o.seen)
	if lost == 0 {
		return
	}
	o.count.lose(0, lost)
	o.losses.conflated[why] += lost
	o.joinGaps()
}

// joinGaps merges gaps that stand side by side.
func (o *outbox) joinGaps() {
	out := o.items[:o.first()]
	for _, it := range o.items[o.first():] {
		if it.open() && len(out) > o.head && out[len(out)-1].open() {
			gap := &out[len(out)-1].gap
			gap.Dropped += it.gap.Dropped
			gap.Conflated += it.gap.Conflated
			continue
		}
		out = append(out, it)
	}
	clear(o.items[len(out):])
	o.items = out
}

// oldest returns the oldest event in the queue, or nil.
func (o *outbox) oldest() *item {
	for _, it := range o.items[o.head:] {
		if it.event() {
			return it
		}
	}
	return nil
}

// tooOld reports whether the oldest event waits for longer than Limits.SpokeLag.
func (o *outbox) tooOld(now int64) bool {
	if o.limits.SpokeLag == 0 {
		return false
	}
	it := o.oldest()
	return it != nil && now-it.at >= int64(o.limits.SpokeLag)
}

// expire applies the policies to events that wait for too long. It returns tooSlow if the spoke is
// to be disconnected, and when to look again, 0 for when there is no need.
func (o *outbox) expire(now int64) (verdict, int64) {
	lag := int64(o.limits.SpokeLag)
	it := o.oldest()
	if lag == 0 || it == nil {
		return queued, 0
	}
	if due := max(it.at+lag, o.ageAgain); now < due {
		return queued, due
	}
	o.ageAgain = now + lag
	switch it.policy {
	case Disconnect:
		return tooSlow, 0
	case DropOldest:
		i := o.first()
		for ; i < len(o.items) && now-o.items[i].at >= lag; i++ {
			if it := o.items[i]; !it.event() {
				continue
			} else if it.policy == Disconnect {
				return tooSlow, 0
			}
			i = o.drop(i, OverSpokeLag)
		}
		if i < len(o.items) {
			o.ageAgain = o.items[i].at + lag
		}
		return queued, o.ageAgain
	case Conflate:
		o.conflate(nil, OverSpokeLag)
	}
	// What is left is the newest of its topic, or was there before what is refused now. Behind it may
	// stand what must not become too old.
	if o.byPolicy[Disconnect] > 0 {
		for _, it := range o.items[o.first():] {
			if it.event() && it.policy == Disconnect {
				if now-it.at >= lag {
					return tooSlow, 0
				}
				o.ageAgain = min(o.ageAgain, it.at+lag)
				break
			}
		}
	}
	return queued, o.ageAgain
}

// shed makes the queue half as large, for the hub's total. It returns tooSlow if the policies of
// what is queued do not allow it.
func (o *outbox) shed() verdict {
	before := o.queuedBytes
	o.conflate(nil, OverTotalBytes)
	if o.queuedBytes <= before/2 {
		return queued
	}
	it := o.oldest()
	if it == nil || it.policy == Disconnect {
		return tooSlow
	}
	if it.policy == DropNewest {
		o.dropTail(before/2, OverTotalBytes)
	} else {
		o.dropOldest(before/2, OverTotalBytes)
	}
	if o.queuedBytes == before {
		return tooSlow
	}
	return queued
}

// dropTail lets events leave from the tail until at most limit bytes are queued.
func (o *outbox) dropTail(limit int64, why LossReason) {
	for i := len(o.items) - 1; i >= o.first() && o.queuedBytes > limit; i-- {
		if it := o.items[i]; it.event() && it.policy != Disconnect {
			o.release(it, o.lenOf(it))
			o.drops(why)
			o.items[i] = newGap(it, 1, 0, why)
		}
	}
	o.joinGaps()
}
