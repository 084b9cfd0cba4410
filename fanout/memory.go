package fanout

import (
	"errors"
	"fmt"

	"github.com/alkdev/hub/codec"
)

// What subscriptions take. It is counted per shard under its lock, as they come and go, and the hub knows
// the sum.

// DefaultMaxTopics and DefaultMaxTopicBytes are the defaults of Config.MaxTopics and Config.MaxTopicBytes.
const (
	DefaultMaxTopics     = 1024
	DefaultMaxTopicBytes = 256 << 20
)

// The errors of subscriptions that are too many.
var (
	// ErrTooManyTopics: more than Config.MaxTopics for one spoke.
	ErrTooManyTopics = errors.New("fanout: too many topics")
	// ErrTopicMemory: the subscriptions of all spokes take Config.MaxTopicBytes.
	ErrTopicMemory = errors.New("fanout: the hub has no room for more subscriptions at the moment")
)

// What one takes beside its text, as measured (docs/capacity.md): an entry in the spoke's list and one in
// the set of the pattern, slices that grow by doubling; and for the first of its shard the set itself
// and its place in the map, under the text of that spoke.
const (
	entryBytes = 56
	setBytes   = 72
)

// patternBytes is what a spoke takes for being subscribed to p: each has its own copy of the text.
func patternBytes(p codec.Pattern) int64 { return entryBytes + int64(len(p.String())) }

// reserveTopics sets bytes aside for subscriptions to come, if there is room. countTopicsLocked takes them.
func (h *Hub) reserveTopics(bytes int64) error {
	if h.topicBytes.Add(bytes) > h.config.MaxTopicBytes && bytes > 0 && h.config.MaxTopicBytes >= 0 {
		h.topicBytes.Add(-bytes)
		return ErrTopicMemory
	}
	return nil
}

// countTopicsLocked tells the hub what the shard's subscriptions take now, in place of what was reserved.
func (sh *shard) countTopicsLocked(reserved int64) {
	sh.hub.topicBytes.Add(sh.index.bytes - sh.index.told - reserved)
	sh.index.told = sh.index.bytes
}

func tooManyTopics(n, max int) error {
	return fmt.Errorf("%w: a spoke has at most %d, these would make it %d", ErrTooManyTopics, max, n)
}
