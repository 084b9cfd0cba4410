package main

import (
	"encoding/json"
	"math/rand/v2"
	"sync"

	"github.com/alkdev/hub/codec"
)

// The types of events: a to d for all that want them, x for all but one spoke, t for one spoke, whose id
// is the event's, and r for those that the hub relays from a spoke.
const (
	soakTypes = "abcd"
	soakIDs   = 4
)

// soakMark is the payload of an event: who dispatched it, and in which place.
type soakMark struct {
	By    int    `json:"by"`    // a publisher, or a slot if it is relayed
	Conn  int    `json:"conn"`  // which connection of the slot
	N     uint64 `json:"n"`     // among the publisher's
	K     uint64 `json:"k"`     // among the publisher's of that topic
	Not   string `json:"not"`   // the spoke that must not get it
	Pad   string `json:"pad"`   // a piece of soakPadding
	Piece int    `json:"piece"` // where it begins
}

// soakPadding compresses, though not to nothing, and has what JSON and UTF-8 have to be careful with.
var soakPadding = func() string {
	rng := rand.New(rand.NewPCG(1, 5))
	b := make([]byte, 0, 400<<10)
	for len(b) < 200<<10 {
		b = append(b, []string{"a", "bcd", "e f", "ghi", "0123", "\u00e4", "\u20ac", "\U0001F310"}[rng.IntN(8)]...)
	}
	return string(b)
}()

// pad gives the mark a piece of the padding with about so many bytes.
func (m *soakMark) pad(rng *rand.Rand, size int) {
	m.Piece = runeStart(rng.IntN(len(soakPadding) - size))
	m.Pad = soakPadding[m.Piece:runeStart(m.Piece+size)]
}

// runeStart returns the place of the character that i is in.
func runeStart(i int) int {
	for soakPadding[i]&0xc0 == 0x80 {
		i--
	}
	return i
}

func (m *soakMark) padded() bool {
	return m.Piece >= 0 && m.Piece+len(m.Pad) <= len(soakPadding) && m.Pad == soakPadding[m.Piece:m.Piece+len(m.Pad)]
}

func (m *soakMark) event(typ, id string) codec.Envelope {
	payload, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return codec.Envelope{Type: typ, ID: id, Payload: payload}
}

// soakCounts is how many events the hub has taken of each topic.
type soakCounts struct {
	mu sync.Mutex // a leaf
	// +checklocks:mu
	topics map[soakTopic]uint64
}

type soakTopic struct{ typ, id string }

func newSoakCounts() *soakCounts { return &soakCounts{topics: make(map[soakTopic]uint64)} }

func (c *soakCounts) add(typ, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topics[soakTopic{typ, id}]++
}

// of returns the number of events of the topics that wants selects.
func (c *soakCounts) of(wants func(typ, id string) bool) (n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, count := range c.topics {
		if wants(topic.typ, topic.id) {
			n += count
		}
	}
	return n
}
