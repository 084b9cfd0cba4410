package client

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/alkdev/hub/codec"
)

// listener is one AddListener.
type listener struct {
	pattern codec.Pattern
	added   uint64 // its place in the order of calls
	fn      func(codec.Envelope)
	removed atomic.Bool
}

// listeners finds those that want an event with three look-ups. The caller holds Client.mu.
type listeners struct {
	byPattern map[string][]*listener // by the canonical text, in the order added
	count     uint64                 // of all ever added
}

func (ls *listeners) add(p codec.Pattern, fn func(codec.Envelope)) *listener {
	if ls.byPattern == nil {
		ls.byPattern = make(map[string][]*listener)
	}
	ls.count++
	l := &listener{pattern: p, added: ls.count, fn: fn}
	ls.byPattern[p.String()] = append(ls.byPattern[p.String()], l)
	return l
}

// remove reports whether l was there.
func (ls *listeners) remove(l *listener) bool {
	if l.removed.Swap(true) {
		return false
	}
	key := l.pattern.String()
	rest := slices.DeleteFunc(ls.byPattern[key], func(other *listener) bool { return other == l })
	if ls.byPattern[key] = rest; len(rest) == 0 {
		delete(ls.byPattern, key)
	}
	return true
}

// appendFor appends the listeners that want e to dst, in the order added.
func (ls *listeners) appendFor(dst []*listener, e codec.Envelope) []*listener {
	dst = append(dst, ls.byPattern["*"]...)
	dst = append(dst, ls.byPattern[e.Type+":*"]...)
	if e.ID != "*" { // else that was the same key
		dst = append(dst, ls.byPattern[e.Topic()]...)
	}
	slices.SortFunc(dst, func(a, b *listener) int { return cmp.Compare(a.added, b.added) })
	return dst
}
