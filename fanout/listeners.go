package fanout

import (
	"fmt"
	"slices"
	"sync"

	"github.com/alkdev/hub/codec"
)

// listeners is a registry of callbacks by pattern. The zero value is ready.
type listeners struct {
	mu sync.RWMutex // a leaf: not held while a listener runs
	// +checklocks:mu
	byPattern map[codec.Pattern][]*listener // the slices are immutable
}

type listener struct {
	fn func(*Spoke, codec.Envelope)
}

func (l *listeners) add(pattern string, fn func(*Spoke, codec.Envelope)) (remove func(), err error) {
	p, err := codec.ParsePattern(pattern)
	if err != nil {
		return nil, err
	}
	if fn == nil {
		return nil, fmt.Errorf("fanout: listener for %s is nil", p)
	}
	entry := &listener{fn}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byPattern == nil {
		l.byPattern = make(map[codec.Pattern][]*listener)
	}
	list := l.byPattern[p]
	l.byPattern[p] = append(list[:len(list):len(list)], entry)
	return func() { l.remove(p, entry) }, nil
}

func (l *listeners) remove(p codec.Pattern, entry *listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(l.byPattern[p]), func(e *listener) bool { return e == entry })
	if len(list) == 0 {
		delete(l.byPattern, p)
		return
	}
	l.byPattern[p] = list
}

// emit calls the listeners of the event's topic, then those of its type, then those of everything;
// among each in the order in which they were added. call runs one of them.
func (l *listeners) emit(e codec.Envelope, call func(*listener)) {
	topic := codec.TopicPattern(e)
	l.mu.RLock()
	exact, typed, all := l.byPattern[topic], l.byPattern[topic.OfType()], l.byPattern[codec.Everything]
	if topic == topic.OfType() {
		typed = nil
	}
	l.mu.RUnlock()
	for _, list := range [][]*listener{exact, typed, all} {
		for _, entry := range list {
			call(entry)
		}
	}
}
