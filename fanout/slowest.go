package fanout

import (
	"cmp"
	"slices"
)

// slow is a spoke beside others, by how much waits for it.
type slow struct {
	spoke   *Spoke
	waiting int64 // bytes, queued and in flight
	info    SpokeInfo
}

func bySlowness(a, b slow) int {
	return cmp.Or(cmp.Compare(b.waiting, a.waiting), cmp.Compare(a.spoke.id, b.spoke.id))
}

// Slowest returns the n spokes with the most queued and in flight, the most first, and with what the
// kernel knows of them. If fewer than n have anything the list is filled up with some that have nothing.
// It costs a look at those that have something, not at all spokes: so it can be asked again and again.
// It waits for the passes under way, and must not be called from a callback.
func (h *Hub) Slowest(n int) []SpokeInfo {
	if n <= 0 {
		return nil
	}
	var all []slow
	for _, sh := range h.shards {
		sh.do(func() { all = append(all, sh.slowest(n)...) })
	}
	slices.SortFunc(all, bySlowness)
	infos := make([]SpokeInfo, 0, min(n, len(all)))
	for _, s := range all[:cap(infos)] {
		s.info.Kernel = s.spoke.kernel()
		infos = append(infos, s.info)
	}
	return infos
}

// slowest is called on the shard's goroutine.
func (sh *shard) slowest(n int) []slow {
	sh.checkOwned()
	var top []slow // at most twice n, of which the first n are the slowest of those seen up to the last cut
	floor := int64(-1)
	for _, s := range sh.waiting {
		if waiting := s.outbox.queuedBytes + s.outbox.inFlight; waiting > floor {
			if top = append(top, slow{spoke: s, waiting: waiting}); len(top) == 2*n {
				slices.SortFunc(top, bySlowness)
				top = top[:n]
				floor = top[n-1].waiting
			}
		}
	}
	slices.SortFunc(top, bySlowness)
	top = top[:min(n, len(top))]
	for _, s := range sh.some(n - len(top)) {
		top = append(top, slow{spoke: s})
	}
	now := sh.hub.now()
	for i := range top {
		top[i].info = top[i].spoke.info(now)
	}
	return top
}

// some returns up to n spokes that have no outbox.
func (sh *shard) some(n int) []*Spoke {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var found []*Spoke
	for _, s := range sh.slots {
		if len(found) == n {
			break
		}
		if s != nil && s.outbox == nil {
			found = append(found, s)
		}
	}
	return found
}
