package fanout

import (
	"maps"
	"slices"
	"strings"

	"github.com/alkdev/hub/codec"
)

// index says which spokes of one shard want which topic. It is guarded by shard.mu.
//
// A spoke stands in at most one set per topic: under "*" only in all, under "tick:*" not in
// "tick:42". So the takers of an event are up to three disjoint sets, and looking them up is three
// map look-ups whatever the number of spokes.
type index struct {
	all   takers             // those without subscriptions, and those subscribed to "*"
	sets  map[string]*takers // by pattern, "type:*" and "type:id"
	most  int                // how many sets there have been in that map
	bytes int64              // what subscriptions take, see memory.go
	told  int64              // how much of that is in Hub.topicBytes

	// want is told of the first taker of a pattern, with 1, and of the last one's leave, with -1. It is
	// Cluster.Want, nil without a cluster.
	want func(p codec.Pattern, n int)
}

// takers is a set of spokes as a dense slice.
type takers struct {
	spokes []*Spoke
	// lent says that a pass may still read spokes: then it may be appended to, for a pass does not
	// look beyond its own length, but not changed.
	lent bool
}

// lend returns the spokes as they are now, immutable, for as long as the borrower likes.
func (t *takers) lend() []*Spoke {
	t.lent = true
	return t.spokes[:len(t.spokes):len(t.spokes)]
}

func (t *takers) add(s *Spoke) (position int32) {
	t.spokes = append(t.spokes, s)
	return int32(len(t.spokes) - 1)
}

// remove takes out the spoke at position. It returns the spoke that has moved there, or nil.
func (t *takers) remove(position int32) (moved *Spoke) {
	last := len(t.spokes) - 1
	if t.lent {
		t.spokes, t.lent = slices.Clone(t.spokes), false
	}
	if int(position) != last {
		moved = t.spokes[last]
		t.spokes[position] = moved
	}
	t.spokes[last] = nil
	t.spokes = t.spokes[:last]
	return moved
}

// subscriptions is what a spoke has subscribed to; nil until it first does. Guarded by shard.mu.
type subscriptions struct {
	list []subscription // sorted by pattern

	// claims bound what the spoke may subscribe to and send; nil for one that may do everything. What
	// it points to is immutable.
	claims *Claims
	// implied: the spoke has not subscribed to anything, and the list is what its claims let it have.
	implied bool
}

// subscription is one pattern of a spoke.
type subscription struct {
	pattern  codec.Pattern
	position int32 // in the set of the pattern; notIndexed if a wider pattern covers it
}

const notIndexed = -1

func (subs *subscriptions) find(p codec.Pattern) (int, bool) {
	return slices.BinarySearchFunc(subs.list, p, func(s subscription, p codec.Pattern) int {
		return strings.Compare(s.pattern.String(), p.String())
	})
}

// with returns how many patterns there would be with those given, and what those that are new take at most.
func (subs *subscriptions) with(patterns []codec.Pattern) (total int, bytes int64) {
	n, added := 0, make(map[codec.Pattern]bool)
	own := subs != nil && !subs.implied
	if own {
		n = len(subs.list)
	}
	for _, p := range patterns {
		if own {
			if _, found := subs.find(p); found {
				continue
			}
		}
		added[p] = true
	}
	for p := range added {
		bytes += patternBytes(p) + setBytes
	}
	return n + len(added), bytes
}

// covered reports whether a pattern other than p covers it.
func (subs *subscriptions) covered(p codec.Pattern) bool {
	if p == codec.Everything {
		return false
	}
	if _, ok := subs.find(codec.Everything); ok {
		return true
	}
	if _, whole := p.WholeType(); whole {
		return false
	}
	_, ok := subs.find(p.OfType())
	return ok
}

// wantsLocked reports whether the spoke gets events of the topic. It needs shard.mu.
func (s *Spoke) wantsLocked(typ, id string) bool {
	if s.subs == nil {
		return s.inAll != notIndexed
	}
	for _, sub := range s.subs.list {
		if sub.position != notIndexed && sub.pattern.Matches(typ, id) {
			return true
		}
	}
	return s.inAll != notIndexed
}

// enter puts s into the set of p.
func (x *index) enter(s *Spoke, p codec.Pattern) (position int32) {
	if p == codec.Everything {
		if s.inAll = x.all.add(s); s.inAll == 0 {
			x.wanted(p, 1)
		}
		return s.inAll
	}
	set := x.sets[p.String()]
	if set == nil {
		set = &takers{}
		x.sets[p.String()] = set
		x.most = max(x.most, len(x.sets))
		x.bytes += setBytes
		x.wanted(p, 1)
	}
	return set.add(s)
}

// leave takes s out of the set of p.
func (x *index) leave(s *Spoke, p codec.Pattern, position int32) {
	if p == codec.Everything {
		if moved := x.all.remove(position); moved != nil {
			moved.inAll = position
		}
		s.inAll = notIndexed
		if len(x.all.spokes) == 0 {
			x.wanted(p, -1)
		}
		return
	}
	set := x.sets[p.String()]
	if moved := set.remove(position); moved != nil {
		i, _ := moved.subs.find(p)
		moved.subs.list[i].position = position
	}
	if len(set.spokes) == 0 {
		delete(x.sets, p.String())
		x.shrink()
		x.bytes -= setBytes
		x.wanted(p, -1)
	}
}

// shrink makes the map of sets anew once next to nothing is left of what it has held: it keeps room for that,
// some 30 bytes a set, and a flood of topics would never be over.
func (x *index) shrink() {
	if x.most < 1<<10 || len(x.sets) > x.most/32 {
		return
	}
	sets := make(map[string]*takers, len(x.sets))
	maps.Copy(sets, x.sets)
	x.sets, x.most = sets, len(sets)
}

func (x *index) wanted(p codec.Pattern, n int) {
	if x.want != nil {
		x.want(p, n)
	}
}

// subscribe adds a pattern to those of s.
func (x *index) subscribe(s *Spoke, p codec.Pattern) {
	if s.subs == nil {
		s.subs = &subscriptions{}
		if s.inAll != notIndexed && p != codec.Everything { // until now it got everything
			x.leave(s, codec.Everything, s.inAll)
		}
	}
	if s.subs.implied {
		x.clear(s)
	}
	x.insert(s, p)
}

// insert adds a pattern to the list of s.
func (x *index) insert(s *Spoke, p codec.Pattern) {
	i, found := s.subs.find(p)
	if found {
		return
	}
	sub := subscription{p, notIndexed}
	if !s.subs.covered(p) {
		if p == p.OfType() { // it may cover others
			for j, other := range s.subs.list {
				if other.position != notIndexed && p.Covers(other.pattern) {
					x.leave(s, other.pattern, other.position)
					s.subs.list[j].position = notIndexed
				}
			}
		}
		if p == codec.Everything && s.inAll != notIndexed {
			sub.position = s.inAll
		} else {
			sub.position = x.enter(s, p)
		}
	}
	s.subs.list = slices.Insert(s.subs.list, i, sub)
	x.bytes += patternBytes(p)
}

// unsubscribe takes a pattern from those of s; one that is not there does no harm. A spoke without
// patterns left gets nothing.
func (x *index) unsubscribe(s *Spoke, p codec.Pattern) {
	if s.subs == nil {
		if p == codec.Everything && s.inAll != notIndexed { // what it got without asking
			s.subs = &subscriptions{}
			x.leave(s, codec.Everything, s.inAll)
		}
		return
	}
	if s.subs.implied {
		if p == codec.Everything { // the same, as far as its claims went
			x.clear(s)
		}
		return
	}
	i, found := s.subs.find(p)
	if !found {
		return
	}
	// A position under "*" is kept in inAll alone: there is no list to search on a move.
	sub := s.subs.list[i]
	s.subs.list = slices.Delete(s.subs.list, i, i+1)
	x.bytes -= patternBytes(p)
	if p == codec.Everything {
		x.leave(s, p, s.inAll)
	} else if sub.position != notIndexed {
		x.leave(s, p, sub.position)
	} else {
		return
	}
	for j, other := range s.subs.list { // those that it covered
		if other.position == notIndexed && p.Covers(other.pattern) && !s.subs.covered(other.pattern) {
			s.subs.list[j].position = x.enter(s, other.pattern)
		}
	}
}

// imply gives s what its claims let it have, for as long as it subscribes to nothing.
func (x *index) imply(s *Spoke) {
	for _, p := range s.subs.claims.Topics {
		x.insert(s, p)
	}
	s.subs.implied = true
}

// implying returns how much more is taken, or less, when these patterns take the place of those of s. Both are
// as normal makes them, so that each stands in a set.
func (x *index) implying(s *Spoke, patterns []codec.Pattern) (bytes int64) {
	set := func(p codec.Pattern, without int) int64 { // what the set takes, if nobody is in it but so many
		if t := x.sets[p.String()]; p == codec.Everything || t != nil && len(t.spokes) > without {
			return 0
		}
		return setBytes
	}
	for _, p := range patterns {
		bytes += patternBytes(p)
		if _, found := s.subs.find(p); !found {
			bytes += set(p, 0)
		}
	}
	for _, sub := range s.subs.list {
		bytes -= patternBytes(sub.pattern)
		if _, stays := slices.BinarySearchFunc(patterns, sub.pattern, comparePatterns); !stays {
			bytes -= set(sub.pattern, 1)
		}
	}
	return bytes
}

// restrict holds s to other claims. It returns the subscriptions that they do not allow, which are
// taken away.
func (x *index) restrict(s *Spoke, c *Claims) (gone []codec.Pattern) {
	same := slices.Equal(s.subs.claims.Topics, c.Topics)
	s.subs.claims = c
	switch {
	case same:
	case s.subs.implied:
		x.clear(s)
		x.imply(s)
	default:
		for _, sub := range slices.Clone(s.subs.list) {
			if !covers(c.Topics, sub.pattern) {
				x.unsubscribe(s, sub.pattern)
				gone = append(gone, sub.pattern)
			}
		}
	}
	return gone
}

// removeAll takes s out of every set, and forgets its subscriptions. Its claims stay.
func (x *index) removeAll(s *Spoke) {
	x.clear(s)
	if s.subs != nil && s.subs.claims == nil {
		s.subs = nil
	}
}

// clear takes s out of every set, and every pattern from it.
func (x *index) clear(s *Spoke) {
	if s.inAll != notIndexed {
		x.leave(s, codec.Everything, s.inAll)
	}
	if s.subs != nil {
		for _, sub := range s.subs.list {
			if sub.position != notIndexed && sub.pattern != codec.Everything {
				x.leave(s, sub.pattern, sub.position)
			}
			x.bytes -= patternBytes(sub.pattern)
		}
		s.subs.list, s.subs.implied = nil, false
	}
}

// lookup calls post with every set of spokes that takes the topic.
func (x *index) lookup(topic, typ string, post func(*takers)) {
	if len(x.all.spokes) > 0 {
		post(&x.all)
	}
	if len(x.sets) == 0 {
		return
	}
	if set := x.sets[topic]; set != nil {
		post(set)
	}
	if set := x.sets[typ+":*"]; set != nil && topic != typ+":*" {
		post(set)
	}
}
