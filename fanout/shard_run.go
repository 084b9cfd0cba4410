package fanout

import (
	"cmp"
	"slices"
	"time"

	"github.com/alkdev/hub/internal/verify"
)

// run is the shard's goroutine: take everything posted, make one pass, wait if nothing is posted.
// While a pass runs new frames gather, so an idle hub sends at once and a busy one batches by itself.
func (sh *shard) run() {
	defer close(sh.donec)
	if verify.On {
		sh.goroutine = verify.Goroutine()
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var posts []post
	var drained []*Spoke
	for {
		clear(posts)
		clear(drained)
		if cap(posts) > maxKeptPosts {
			posts = nil
		}
		var stopping bool
		posts, drained, stopping = sh.take(posts[:0], drained[:0], timer)
		sh.passAll(posts)
		for _, s := range drained {
			sh.landed(s)
			sh.flush(s)
		}
		if now := sh.hub.now(); sh.due != 0 && now >= sh.due {
			sh.sweep(now)
		}
		sh.shed()
		if stopping {
			sh.end()
			return
		}
	}
}

// take waits until there is something to do. It swaps the inbox for the empty slices given.
func (sh *shard) take(posts []post, drained []*Spoke, timer *time.Timer) ([]post, []*Spoke, bool) {
	sh.mu.Lock()
	sh.publishLocked()
	for len(sh.inbox) == 0 && len(sh.drained) == 0 && !sh.stopping && !sh.poked {
		var timeout <-chan time.Time
		if sh.due != 0 {
			timer.Reset(time.Duration(max(0, sh.due-sh.hub.now())))
			timeout = timer.C
		}
		sh.asleep = true
		sh.mu.Unlock()
		var expired bool
		select {
		case <-sh.wakec:
		case <-timeout:
			expired = true
		}
		sh.mu.Lock()
		if expired {
			if !sh.asleep { // somebody has sent, or is about to
				sh.mu.Unlock()
				<-sh.wakec
				sh.mu.Lock()
			}
			sh.asleep = false
			break
		}
	}
	sh.gatherLocked()
	sh.poked = false
	taken, drainedNow := sh.inbox, sh.drained
	sh.inbox, sh.drained = posts, drained
	stopping := sh.stopping
	sh.mu.Unlock()
	return taken, drainedNow, stopping
}

// sweep applies the limits of time to the spokes that have an outbox.
func (sh *shard) sweep(now int64) {
	sh.checkOwned()
	pause := sweepPause
	if lag := sh.limits.SpokeLag; lag > 0 {
		pause = min(pause, lag/64)
	}
	sh.due, sh.rested = 0, now+int64(pause)
	for i := len(sh.waiting) - 1; i >= 0; i-- { // a spoke that is shut leaves the list
		s := sh.waiting[i]
		due := int64(0)
		if c := s.outbox.closing; c != nil {
			if now >= c.due {
				sh.shut(s, c.cause, Closed)
				continue
			}
			due = c.due
		} else {
			v, again := s.outbox.expire(now)
			if v == tooSlow {
				sh.disconnectSlow(s, OverSpokeLag)
				continue
			}
			sh.checkTally(s)
			due = again
		}
		sh.wakeBy(due)
	}
}

// wakeBy makes run sweep at the given time, or before; 0 for never.
func (sh *shard) wakeBy(due int64) {
	if due == 0 {
		return
	}
	if due = max(due, sh.rested); sh.due == 0 || due < sh.due {
		sh.due = due
	}
}

// shed lets the spokes with the largest queues pay until the hub holds no more than its total. Each
// shard knows its own spokes only: if another one's largest is larger it is that one's turn.
func (sh *shard) shed() {
	for sh.held.Load() > sh.hub.totalBytes.Load() {
		largest := int64(0)
		for _, s := range sh.waiting {
			largest = max(largest, s.outbox.queuedBytes)
		}
		sh.largest.Store(largest)
		other, theirs := sh.hub.largestBut(sh)
		if theirs > largest {
			other.poke()
			return
		}
		if largest == 0 {
			return
		}
		sh.shedDown(max(theirs, largest/2))
	}
}

// shedDown lets the spokes with at least floor bytes queued pay, largest first. Each halves its
// queue: so with a floor of half the largest none gets its turn twice, and looking for the largest
// costs one pass over the spokes for many of them.
func (sh *shard) shedDown(floor int64) {
	for _, s := range sh.waiting {
		if s.outbox.queuedBytes >= floor {
			sh.shedding = append(sh.shedding, s)
		}
	}
	slices.SortFunc(sh.shedding, func(a, b *Spoke) int {
		return cmp.Compare(b.outbox.queuedBytes, a.outbox.queuedBytes)
	})
	for _, s := range sh.shedding {
		if sh.held.Load() <= sh.hub.totalBytes.Load() {
			break
		}
		if s.outbox.shed() == tooSlow {
			sh.disconnectSlow(s, OverTotalBytes)
		} else {
			sh.checkTally(s)
		}
	}
	clear(sh.shedding)
	sh.shedding = sh.shedding[:0]
}
