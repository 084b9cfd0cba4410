package client

import (
	"slices"

	"github.com/alkdev/hub/codec"
)

// subscriptions compares what the program wants with what the hub has been told on this connection. A
// new connection is then nothing special: the hub has been told little, so all that is wanted is sent.
// The caller holds Client.mu.
type subscriptions struct {
	fromURL []codec.Pattern // what every connection begins with

	explicit  map[codec.Pattern]bool // by Subscribe
	listening map[codec.Pattern]int  // listeners by pattern, with Options.SubscribeListeners
	last      codec.Pattern          // the one most recently wanted

	told     map[codec.Pattern]bool // the hub has these
	changed  map[codec.Pattern]bool // may be wanted and not told, or told and not wanted
	narrowed bool                   // the hub does not send everything any more
}

func newSubscriptions(fromURL []codec.Pattern) subscriptions {
	s := subscriptions{
		fromURL:   fromURL,
		explicit:  make(map[codec.Pattern]bool),
		listening: make(map[codec.Pattern]int),
	}
	for _, p := range fromURL {
		s.explicit[p] = true
	}
	s.reset()
	return s
}

// reset is called for every new connection.
func (s *subscriptions) reset() {
	s.told = make(map[codec.Pattern]bool)
	s.changed = make(map[codec.Pattern]bool)
	for _, p := range s.fromURL {
		s.told[p], s.changed[p] = true, true
	}
	for p := range s.explicit {
		s.changed[p] = true
	}
	for p := range s.listening {
		s.changed[p] = true
	}
	s.narrowed = len(s.fromURL) > 0
}

func (s *subscriptions) subscribe(p codec.Pattern) {
	s.explicit[p], s.changed[p] = true, true
	s.last = p
}

func (s *subscriptions) unsubscribe(p codec.Pattern) {
	delete(s.explicit, p)
	s.changed[p] = true
}

// listen counts one listener more (by = 1) or less (by = -1).
func (s *subscriptions) listen(p codec.Pattern, by int) {
	s.listening[p] += by
	if s.listening[p] == 0 {
		delete(s.listening, p)
	}
	s.changed[p] = true
	s.last = p
}

func (s *subscriptions) wanted(p codec.Pattern) bool {
	return s.explicit[p] || s.listening[p] > 0
}

// changes returns what the hub is to be told now, as encoded envelopes, and takes it for told.
func (s *subscriptions) changes() [][]byte {
	if len(s.changed) == 0 && s.narrowed {
		return nil
	}
	var add, remove []string
	for p := range s.changed {
		switch want := s.wanted(p); {
		case want && !s.told[p]:
			add = append(add, p.String())
			s.told[p] = true
		case !want && s.told[p]:
			remove = append(remove, p.String())
			delete(s.told, p)
		}
	}
	clear(s.changed)
	// Everything was unsubscribed on an earlier connection. This one would begin with everything: to
	// have it begin with nothing, subscribe to something and take that back.
	if len(s.told) == 0 && !s.narrowed && s.last != (codec.Pattern{}) {
		add, remove = []string{s.last.String()}, []string{s.last.String()}
	}
	s.narrowed = s.narrowed || len(add) > 0
	return append(topicMessages(codec.TypeSubscribe, add), topicMessages(codec.TypeUnsubscribe, remove)...)
}

// topicsPerMessage keeps a message at some 32 KiB for the longest of topics.
const topicsPerMessage = 64

func topicMessages(typ string, topics []string) (messages [][]byte) {
	slices.Sort(topics)
	for some := range slices.Chunk(topics, topicsPerMessage) {
		message, err := codec.AppendEnvelope(nil, codec.Control(typ, "", codec.Topics{Topics: some}))
		if err != nil {
			panic("client: " + typ + " of parsed patterns: " + err.Error())
		}
		messages = append(messages, message)
	}
	return messages
}
