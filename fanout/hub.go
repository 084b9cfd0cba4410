package fanout

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alkdev/hub/codec"
)

// The errors of Dispatch that a caller may act on.
var (
	// ErrClosed: the hub has been closed.
	ErrClosed = errors.New("fanout: the hub is closed")
	// ErrOverloaded: more is dispatched than the hub can write; Limits.TotalBytes are waiting for
	// their first pass. Nothing was done, try later.
	ErrOverloaded = errors.New("fanout: overloaded, too much is waiting to be written")
	// ErrTooLarge: the event's frame is larger than Limits.SpokeBytes.
	ErrTooLarge = errors.New("fanout: event is larger than the spoke buffer")
	// ErrReserved: the type begins with "__".
	ErrReserved = errors.New("fanout: types that begin with __ are reserved for the hub")
)

// Hub is an event target: what is dispatched reaches every spoke that wants it, what any spoke
// sends reaches the listeners. All methods may be called from any goroutine, also from callbacks.
type Hub struct {
	// Set by New, read-only afterwards.
	config Config
	rate   rate // of config
	began  time.Time
	shards []*shard
	suffix string // of the ids of spokes, "" without a cluster

	// Any goroutine, atomically.
	totalBytes   atomic.Int64 // Limits.TotalBytes, or less for the time
	nextShard    atomic.Uint32
	closed       atomic.Bool
	heldBytes    atomic.Int64 // in outboxes, each frame once
	pendingBytes atomic.Int64 // dispatched and not yet passed, each frame once
	dispatched   atomic.Uint64
	received     atomic.Uint64
	refused      atomic.Uint64
	rateLimited  atomic.Uint64

	topicBytes atomic.Int64 // of subscriptions, those that are being added at their most

	forbiddenEvents, forbiddenTopics atomic.Uint64
	tooManyTopics, noTopicMemory     atomic.Uint64

	panics atomic.Uint64
	opened atomic.Uint64

	listeners listeners
	taps      taps
	ended     endings
}

// New returns a running hub. Close it to end its goroutines.
func New(c Config) (*Hub, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	rate, err := newRate(c.SpokeRatePerSec, c.SpokeBurst)
	if err != nil {
		return nil, err
	}
	h := &Hub{config: c, rate: rate, began: time.Now()}
	if c.Cluster != nil {
		h.suffix = "-" + c.Cluster.ID()
	}
	h.taps.hub = h
	h.totalBytes.Store(c.Limits.TotalBytes)
	for i := range c.Shards {
		h.shards = append(h.shards, newShard(h, i))
	}
	for _, sh := range h.shards {
		go sh.run() // ends with stop, which Close calls and waits for
	}
	return h, nil
}

// AddListener calls fn for every event from any spoke whose topic the pattern selects: "type:id",
// "type:*" or "*". fn runs on the goroutine that read the event and must not block; it may call
// anything on the hub, and owns the event. Calling remove twice is harmless.
func (h *Hub) AddListener(pattern string, fn func(*Spoke, codec.Envelope)) (remove func(), err error) {
	return h.listeners.add(pattern, fn)
}

// SetTotalBytes lowers Limits.TotalBytes for the time, when memory runs short, and takes it back up: it
// never becomes more than that. What is over it is shed at once, the largest queues first.
func (h *Hub) SetTotalBytes(n int64) {
	h.totalBytes.Store(min(max(n, 0), h.config.Limits.TotalBytes))
	for _, sh := range h.shards {
		sh.poke()
	}
}

// Echoes reports whether the hub was made with Config.Echo.
func (h *Hub) Echoes() bool { return h.config.Echo }

// Closed reports whether Close has been called.
func (h *Hub) Closed() bool { return h.closed.Load() }

// Node returns Config.Node.
func (h *Hub) Node() string { return h.config.Node }

// Limits returns the limits in force.
func (h *Hub) Limits() Limits { return h.config.Limits }

// TopicLimits returns how many patterns a spoke may subscribe to, and what those of all may take, 0 for any.
func (h *Hub) TopicLimits() (perSpoke int, bytes int64) {
	return h.config.MaxTopics, max(0, h.config.MaxTopicBytes)
}

// SpokeRate returns how many messages a spoke may send a second, and how many at once; 0 for any number.
func (h *Hub) SpokeRate() (perSec, burst int) { return h.rate.perSec, h.rate.burst }

// now is the hub's clock: monotonic nanoseconds since it began.
func (h *Hub) now() int64 { return int64(time.Since(h.began)) }

// NewSpoke returns a spoke for a connection that is open and can be written to. It takes part once
// it is attached.
func (h *Hub) NewSpoke(sink Sink) *Spoke {
	s := &Spoke{}
	h.InitSpoke(s, sink)
	return s
}

// InitSpoke is NewSpoke for an owner that has the spoke as a part of its connection: one object
// less for each. s must not be copied afterwards.
func (h *Hub) InitSpoke(s *Spoke, sink Sink) {
	n := h.nextShard.Add(1)
	s.sink, s.shard, s.inAll = sink, h.shards[int(n)%len(h.shards)], notIndexed
}

// Attach enters the spoke into the table, subscribed to the topics if there are any: from here on it
// gets events, __welcome first. Then it runs OnConnection. It is called once. The error is ErrClosed,
// ErrTooManyTopics, ErrTopicMemory, or ErrForbidden for topics beyond its claims; then the spoke takes no
// part.
func (s *Spoke) Attach(topics ...codec.Pattern) error { return s.AttachBehind(nil, topics...) }

// AttachBehind is Attach for a peer that has to be told something first, such as the answer to its
// handshake: hello goes out in front of __welcome, in one write with it. It is copied. With an error
// nothing of it has been written.
func (s *Spoke) AttachBehind(hello []byte, topics ...codec.Pattern) error {
	h := s.shard.hub
	if s.claimed {
		if err := s.subs.claims.allow(topics); err != nil {
			return err
		}
	}
	if n, most := len(topics), h.config.MaxTopics; n > most {
		return tooManyTopics(n, most)
	}
	s.joined = uint32(h.now() / int64(joinedUnit))
	if err := s.shard.join(s, topics, func() *item { return h.welcome(s, hello) }); err != nil {
		return err
	}
	h.opened.Add(1)
	h.taps.connected(s)
	if fn := h.config.OnConnection; fn != nil {
		h.contain("OnConnection", func() { fn(s) })
	}
	return nil
}

// welcome returns the first event of s, behind hello; of a hub that echoes hello alone, or nil.
func (h *Hub) welcome(s *Spoke, hello []byte) *item {
	if h.config.Echo {
		if len(hello) == 0 {
			return nil
		}
		return &item{frame: codec.NewRecord(codec.TypeWelcome, "", bytes.Clone(hello)), at: h.now(), reserved: true}
	}
	it := h.reservedItem(codec.Control(codec.TypeWelcome, "", codec.Welcome{Spoke: s.ID(), Node: h.config.Node, ExpiresInMs: s.expiresInMsLocked()}))
	if len(hello) > 0 {
		frame := it.frame
		if s.deflates {
			frame = compressed(frame, h.config.Deflater)
		}
		it.frame = codec.NewRecord(codec.TypeWelcome, "", slices.Concat(hello, frame.Bytes()))
	}
	return it
}

func (h *Hub) disconnected(s *Spoke, cause Cause) {
	h.ended.add(cause)
	if fn := h.config.OnDisconnection; fn != nil {
		h.contain("OnDisconnection", func() { fn(s, cause) })
	}
	h.taps.disconnected(s, cause)
}

const (
	maxShards = 256
	slotMask  = 1<<24 - 1 // of a spoke's id; above it are the shard and a random number
)

// Spoke returns the spoke of this hub with the given id, or nil if there is none.
func (h *Hub) Spoke(id string) *Spoke {
	id, ours := strings.CutSuffix(id, h.suffix)
	if !ours {
		return nil
	}
	n, err := strconv.ParseUint(id, 16, 64)
	shard := int(n>>24) & (maxShards - 1)
	if err != nil || len(id) != 16 || shard >= len(h.shards) {
		return nil
	}
	return h.shards[shard].find(n)
}

// Spokes returns all spokes, in no order. The slice is the caller's.
func (h *Hub) Spokes() []*Spoke {
	var all []*Spoke
	for _, sh := range h.shards {
		all = append(all, sh.spokes()...)
	}
	return all
}

// Inspect calls fn with what is known of every spoke. It waits for the passes under way, and must
// not be called from a callback. fn runs on the caller's goroutine, so it may take its time.
func (h *Hub) Inspect(fn func(SpokeInfo)) {
	for _, sh := range h.shards {
		var infos []SpokeInfo
		sh.do(func() {
			now := h.now()
			for _, s := range sh.spokes() {
				infos = append(infos, s.info(now))
			}
		})
		for _, i := range infos {
			fn(i)
		}
	}
}

// Info returns what is known of the spoke, by the kernel as well. It waits for the pass under way, and
// must not be called from a callback.
func (s *Spoke) Info() (i SpokeInfo) {
	s.shard.do(func() { i = s.info(s.shard.hub.now()) })
	i.Kernel = s.kernel()
	return i
}

// Flush returns once everything dispatched before has been written or queued for its spokes, what was
// over Limits.TotalBytes in a shard has been shed, and all of it is counted in Stats. It must not be
// called from a callback.
func (h *Hub) Flush() {
	for _, sh := range h.shards {
		sh.do(func() { sh.shed(); sh.publish() })
	}
}

// largestBut returns which of the other shards has the spoke with the most queued, and how much that
// is at most; nil and 0 if there is none.
func (h *Hub) largestBut(not *shard) (other *shard, bytes int64) {
	for _, sh := range h.shards {
		if n := sh.largest.Load(); sh != not && n > bytes {
			other, bytes = sh, n
		}
	}
	return other, bytes
}

// Close closes every spoke with 1001 behind what was dispatched before, and ends the hub's
// goroutines. Spokes that do not take at once what is queued for them lose it. It does not wait for
// the connections: their owner does. Later calls do nothing.
func (h *Hub) Close() {
	if !h.closed.CompareAndSwap(false, true) {
		return
	}
	for _, sh := range h.shards {
		sh.stop()
	}
	h.taps.close()
}
