package main

import (
	"fmt"

	"github.com/gobwas/ws"

	"github.com/alkdev/hub/codec"
)

// soakTopics are what spokes subscribe to, from the beginning and later on; nil gets everything unless
// the hub wants to be asked.
var soakTopics = [][]string{nil, {"*"}, {"a:*", "b:1", "x:*"}, {"b:*", "r:*", "x:0"}, {"c:2", "d:*", "a:0", "x:*"}, nil}

var soakPatterns = []string{"*", "a:*", "a:0", "a:1", "b:*", "b:2", "c:*", "c:2", "d:1", "d:3", "r:*", "r:1", "x:*", "x:0"}

// subscribe asks for a topic, or asks to be rid of one.
func (s *soakSpoke) subscribe(more bool) {
	topic := soakPatterns[s.rng.IntN(len(soakPatterns))]
	typ := codec.TypeUnsubscribe
	if more {
		typ = codec.TypeSubscribe
	}
	s.mu.Lock()
	s.stream.asks++
	ask := soakAsk{more: more, topic: topic, id: fmt.Sprint(s.stream.asks)}
	s.asked = append(s.asked, ask)
	s.mu.Unlock()
	s.send(ws.OpText, fmt.Appendf(nil, `{"type":%q,"id":%q,"payload":{"topic":%q}}`, typ, ask.id, topic), false)
}

// soakAsk is a subscription, or the end of one, that the hub has been asked for.
type soakAsk struct {
	more  bool
	topic string
	id    string
}

// soakWish is what a spoke is subscribed to.
type soakWish struct {
	everything bool // it has never subscribed
	patterns   map[codec.Pattern]bool
}

func newSoakWish(topics []string, explicit bool) soakWish {
	w := soakWish{everything: !explicit, patterns: make(map[codec.Pattern]bool)}
	for _, topic := range topics {
		w.apply(soakAsk{more: true, topic: topic})
	}
	return w
}

func (w *soakWish) apply(a soakAsk) {
	p, err := codec.ParsePattern(a.topic)
	if err != nil {
		panic(err)
	}
	if a.more {
		w.everything = false
		w.patterns[p] = true
		return
	}
	delete(w.patterns, p)
	if p == codec.Everything {
		w.everything = false
	}
}

func (w *soakWish) wants(typ, id string) bool {
	if w.everything {
		return true
	}
	for p := range w.patterns {
		if p.Matches(typ, id) {
			return true
		}
	}
	return false
}

// mayGet reports whether an event of the topic may come now: by the subscriptions answered so far, or by
// what has been asked for since.
func (s *soakSpoke) mayGet(typ, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wish.wants(typ, id) {
		return true
	}
	later := soakWish{everything: s.wish.everything, patterns: make(map[codec.Pattern]bool)}
	for p := range s.wish.patterns {
		later.patterns[p] = true
	}
	for _, ask := range s.asked {
		if later.apply(ask); later.wants(typ, id) {
			return true
		}
	}
	return false
}

// answered takes the hub's answer to a subscription, which must be the next.
func (s *soakSpoke) answered(more bool, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) == 0 || s.asked[0].id != id || s.asked[0].more != more {
		s.find("an answer with id %q, asked for is %+v", id, s.asked)
		return
	}
	s.wish.apply(s.asked[0])
	s.asked = s.asked[1:]
}
