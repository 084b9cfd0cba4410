package cluster

import (
	"slices"
	"sync"
	"time"

	"github.com/alkdev/hub/codec"
)

// interest is what a hub wants, and what it asks the engine for: the wanted patterns, but for those that
// a wider one covers, and for a while after the last taker has gone, for it may come back.
type interest struct {
	// Set by newInterest, read-only afterwards.
	format Format
	linger time.Duration
	wakec  chan struct{} // 1 deep, never closed

	mu sync.Mutex // a leaf; a shard's lock may be held
	// +checklocks:mu
	counts map[codec.Pattern]int // shards that want it
	// +checklocks:mu
	changed map[codec.Pattern]struct{} // from or to no shard since the last step

	// The goroutine that calls step only.
	held      map[codec.Pattern]struct{}  // wanted, or wanted a moment ago
	lingering map[codec.Pattern]time.Time // which of them are not wanted any more, and when that ends
	asked     map[codec.Pattern]struct{}  // what the engine is asked for
}

func newInterest(f Format, linger time.Duration) *interest {
	return &interest{
		format: f, linger: linger, wakec: make(chan struct{}, 1),
		counts: make(map[codec.Pattern]int), changed: make(map[codec.Pattern]struct{}),
		held: make(map[codec.Pattern]struct{}), lingering: make(map[codec.Pattern]time.Time),
		asked: make(map[codec.Pattern]struct{}),
	}
}

// want notes that n shards more want p.
func (i *interest) want(p codec.Pattern, n int) {
	p = i.format.Widen(p)
	i.mu.Lock()
	before := i.counts[p]
	after := before + n
	if after == 0 {
		delete(i.counts, p)
	} else {
		i.counts[p] = after
	}
	first := false
	if (before == 0) != (after == 0) {
		first = len(i.changed) == 0
		i.changed[p] = struct{}{}
	}
	i.mu.Unlock()
	if first {
		select {
		case i.wakec <- struct{}{}:
		default:
		}
	}
}

// step returns what to ask the engine for and what to give up, in this order, after what has changed by
// now; and when to call it again, the zero time for when something changes.
func (i *interest) step(now time.Time) (add, remove []Subject, again time.Time) {
	touched := make(map[codec.Pattern]struct{})
	i.mu.Lock()
	for p := range i.changed {
		if i.counts[p] > 0 {
			i.held[p] = struct{}{}
			delete(i.lingering, p)
		} else if _, ok := i.held[p]; ok {
			i.lingering[p] = now.Add(i.linger)
		}
		touched[p] = struct{}{}
	}
	clear(i.changed)
	i.mu.Unlock()
	for p, until := range i.lingering {
		if !until.After(now) {
			delete(i.held, p)
			delete(i.lingering, p)
			touched[p] = struct{}{}
		} else if again.IsZero() || until.Before(again) {
			again = until
		}
	}
	i.widen(touched)
	for p := range touched {
		_, held := i.held[p]
		_, asked := i.asked[p]
		switch wanted := held && !i.covered(p); {
		case wanted && !asked:
			i.asked[p] = struct{}{}
			add = append(add, i.format.Subscriptions(p)...)
		case !wanted && asked:
			delete(i.asked, p)
			remove = append(remove, i.format.Subscriptions(p)...)
		}
	}
	return add, remove, again
}

// widen adds to the touched what those that are wide cover.
func (i *interest) widen(touched map[codec.Pattern]struct{}) {
	var wide []codec.Pattern
	for p := range touched {
		if p == p.OfType() {
			if _, held := i.held[p]; held == has(i.asked, p) {
				continue // nothing has changed by it
			}
			wide = append(wide, p)
		}
	}
	if len(wide) == 0 {
		return
	}
	for p := range i.held {
		for _, w := range wide {
			if w.Covers(p) {
				touched[p] = struct{}{}
			}
		}
	}
}

func has[K comparable](m map[K]struct{}, k K) bool { _, ok := m[k]; return ok }

// covered reports whether a wider pattern that is held covers p.
func (i *interest) covered(p codec.Pattern) bool {
	if p != codec.Everything && has(i.held, codec.Everything) {
		return true
	}
	return p != p.OfType() && has(i.held, p.OfType())
}

// settle is how long what is not asked for any more is still received, if its events carry numbers. An engine may have
// found who takes an event before a narrower subscription was there, and get to send it when the wider one has
// been given up: then it would be lost, and nobody would say so.
const settle = time.Second

// farewell is what is still received, by the names of the subjects, and until when.
type farewell map[string]leaving

type leaving struct {
	subject Subject
	until   time.Time
}

// stay takes from the subjects to ask for those that are still received, and keeps these.
func (f farewell) stay(add []Subject) []Subject {
	return slices.DeleteFunc(add, func(s Subject) bool {
		_, still := f[s.Name]
		delete(f, s.Name)
		return still
	})
}

// due takes out what it is time for, and returns when there will be more, the zero time for never.
func (f farewell) due(now time.Time) (gone []Subject, again time.Time) {
	for name, l := range f {
		if !l.until.After(now) {
			gone = append(gone, l.subject)
			delete(f, name)
		} else if again.IsZero() || l.until.Before(again) {
			again = l.until
		}
	}
	return gone, again
}

// run keeps the engine asked, until stop is closed. It calls asking before each change that asks for more, or for
// everything no more, with whether everything is asked for from then on; and asked after every one with how much is.
func (i *interest) run(e Engine, stop <-chan struct{}, asking func(whole bool), asked func(int)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	leave, before := farewell{}, false
	for {
		now := time.Now()
		add, remove, again := i.step(now)
		add = leave.stay(add)
		if whole := has(i.asked, codec.Everything); len(add) > 0 || whole != before {
			asking(whole)
			before = whole
		}
		if len(add) > 0 {
			e.Subscribe(add...)
		}
		if i.format.Numbered() {
			for _, s := range remove {
				leave[s.Name] = leaving{s, now.Add(settle)}
			}
			var next time.Time
			if remove, next = leave.due(now); again.IsZero() || !next.IsZero() && next.Before(again) {
				again = next
			}
		}
		if len(remove) > 0 {
			e.Unsubscribe(remove...)
		}
		asked(len(i.asked))
		var expired <-chan time.Time
		if !again.IsZero() {
			timer.Reset(time.Until(again))
			expired = timer.C
		}
		select {
		case <-i.wakec:
		case <-expired:
		case <-stop:
			return
		}
	}
}
