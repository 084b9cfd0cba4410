package cluster

import "slices"

// held is what a connection to Redis is subscribed to.
type held struct {
	channels map[string]struct{}
	patterns map[string]string // the pattern of channels that begin with the key
	lengths  []int             // of these keys, ascending, each once
	ofLength map[int]int       // how many keys there are
}

func (h *held) init() {
	h.channels, h.patterns, h.ofLength = make(map[string]struct{}), make(map[string]string), make(map[int]int)
}

// source returns the subscription whose copy of a message is taken: that to the channel itself, or else that to the
// widest pattern. ok is false if none selects it.
func (h *held) source(channel string) (name string, ok bool) {
	if _, ok := h.channels[channel]; ok {
		return channel, true
	}
	for _, n := range h.lengths {
		if n > len(channel) {
			break
		}
		if name, ok := h.patterns[channel[:n]]; ok {
			return name, true
		}
	}
	return "", false
}

func (h *held) addPattern(name string) {
	prefix := prefixOf(name)
	if _, ok := h.patterns[prefix]; ok {
		return
	}
	h.patterns[prefix] = name
	if h.ofLength[len(prefix)]++; h.ofLength[len(prefix)] == 1 {
		i, _ := slices.BinarySearch(h.lengths, len(prefix))
		h.lengths = slices.Insert(h.lengths, i, len(prefix))
	}
}

func (h *held) removePattern(name string) {
	prefix := prefixOf(name)
	if _, ok := h.patterns[prefix]; !ok {
		return
	}
	delete(h.patterns, prefix)
	if h.ofLength[len(prefix)]--; h.ofLength[len(prefix)] == 0 {
		i, _ := slices.BinarySearch(h.lengths, len(prefix))
		h.lengths = slices.Delete(h.lengths, i, i+1)
	}
}

// echoes are messages that the server will send back, in the order in which they were published.
type echoes struct {
	waiting []echo
	head    int // of waiting
	batch   uint64
}

type echo struct {
	publication
	batch uint64
}

// begin returns the number of a batch of messages, to which add belongs.
func (e *echoes) begin() uint64 { e.batch++; return e.batch }

func (e *echoes) add(p publication) { e.waiting = append(e.waiting, echo{p, e.batch}) }

// take reports whether a message is the next that is sent back.
func (e *echoes) take(channel, data string) bool {
	if e.head == len(e.waiting) || e.waiting[e.head].channel != channel || e.waiting[e.head].data != data {
		return false
	}
	e.pop()
	return true
}

func (e *echoes) pop() {
	e.waiting[e.head] = echo{}
	if e.head++; e.head == len(e.waiting) {
		e.waiting, e.head = e.waiting[:0], 0
	}
}

// forgetBefore forgets what is left of earlier batches when one has been answered: it has not come, for the server
// would have sent it before.
func (e *echoes) forgetBefore(batch uint64) {
	for e.head < len(e.waiting) && e.waiting[e.head].batch < batch {
		e.pop()
	}
}
