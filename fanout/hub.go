package fanout

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/alkdev/hub/codec"
)

// Config says how a hub behaves. The zero value of every field is a sensible default.
type Config struct {
	// Node is the hub's name, told to every spoke.
	Node string
	// Shards is how many goroutines write, 1 to 256; GOMAXPROCS by default.
	Shards int
	// Limits bound what slow spokes may hold.
	Limits Limits
	// Policy is what happens to the slow, PolicyFor the same by the type of the event.
	Policy    Policy
	PolicyFor map[string]Policy
	// SlowCloseCode closes spokes under the policy Disconnect; codec.CloseSlow by default.
	SlowCloseCode codec.CloseCode
	// CloseTimeout is how long an orderly close waits for a spoke to take what is queued; 5 s by
	// default.
	CloseTimeout time.Duration
	// Explicit starts spokes with no events instead of all.
	Explicit bool
	// Opcode is codec.Text, the default, or codec.Binary.
	Opcode codec.Opcode
	// Deflater compresses what goes to spokes that take it; nil compresses nothing. An event is
	// compressed at most once, and only if a spoke is there that takes it so.
	Deflater *codec.Deflater
	// Echo makes the hub send every message back to the spoke that sent it and nothing else: no
	// events, none of its own either. It is for testing; see Spoke.Echo.
	Echo bool
	// BadEnvelopesPerMin is how many messages that are no envelopes a spoke may send before it is
	// closed; 16 by default.
	BadEnvelopesPerMin int
	// MaxTopics is how many patterns a spoke may subscribe to; 1024 by default. Those that it is given by its
	// claims, as long as it subscribes to nothing, do not count.
	MaxTopics int
	// MaxTopicBytes is what the subscriptions of all spokes may take; 256 MiB by default, negative for any.
	MaxTopicBytes int64
	// SpokeRatePerSec is how many messages a second a spoke may send, of any kind, and SpokeBurst how many
	// at once after a pause; 10,000 and twice the rate by default, a negative rate sets no limit. What is
	// beyond is refused, counted and told, and a spoke that goes on is closed: see admit.
	SpokeRatePerSec, SpokeBurst int

	// Renew returns what a spoke may do that has sent a fresh token in __auth. It runs on the goroutine
	// that reads the connection and must not block; ErrAuthUnavailable lets the spoke try again. The
	// text of the error is told to the spoke. Nil takes no tokens.
	Renew func(token string) (Claims, error)

	// Cluster joins the hub with others; nil for a hub that is alone.
	Cluster Cluster

	// OnConnection runs when a spoke has connected, before its first event reaches a listener.
	// OnDisconnection runs once, after its last. Both run on the goroutine of the connection's
	// owner: they must not block, but may call anything on the hub. A panic is contained.
	OnConnection    func(*Spoke)
	OnDisconnection func(*Spoke, Cause)

	Logger *slog.Logger // slog.Default by default
}

// DefaultCloseTimeout is the default of Config.CloseTimeout.
const DefaultCloseTimeout = 5 * time.Second

func (c *Config) setDefaults() error {
	if c.Shards == 0 {
		c.Shards = min(runtime.GOMAXPROCS(0), maxShards)
	}
	if c.Shards < 1 || c.Shards > maxShards {
		return fmt.Errorf("fanout: %d shards, 1 to %d are possible", c.Shards, maxShards)
	}
	if c.Limits.SpokeBytes == 0 {
		c.Limits.SpokeBytes = DefaultSpokeBytes
	}
	if c.Limits.TotalBytes == 0 {
		c.Limits.TotalBytes = DefaultTotalBytes
	}
	c.PolicyFor = maps.Clone(c.PolicyFor)
	for _, p := range append(slices.Collect(maps.Values(c.PolicyFor)), c.Policy) {
		if p >= numPolicies {
			return fmt.Errorf("fanout: there is no policy %d", p)
		}
	}
	if !utf8.ValidString(c.Node) {
		return fmt.Errorf("fanout: node name %q is not valid UTF-8", c.Node)
	}
	if c.Limits.SpokeBytes < 0 || c.Limits.TotalBytes < 0 || c.Limits.SpokeLag < 0 {
		return fmt.Errorf("fanout: negative limit in %+v", c.Limits)
	}
	if c.SlowCloseCode == 0 {
		c.SlowCloseCode = codec.CloseSlow
	}
	if !c.SlowCloseCode.Sendable() {
		return fmt.Errorf("fanout: close code %d may not be sent", c.SlowCloseCode)
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = DefaultCloseTimeout
	}
	if c.Opcode == 0 {
		c.Opcode = codec.Text
	}
	if c.MaxTopics == 0 {
		c.MaxTopics = DefaultMaxTopics
	}
	if c.MaxTopics < 0 {
		return fmt.Errorf("fanout: at most %d topics", c.MaxTopics)
	}
	if c.MaxTopicBytes == 0 {
		c.MaxTopicBytes = DefaultMaxTopicBytes
	}
	if c.BadEnvelopesPerMin == 0 {
		c.BadEnvelopesPerMin = 16
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

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

// Receipt says what became of a dispatched event.
type Receipt struct {
	// Matched is how many spokes of this hub took it on.
	Matched int
	// NotForwarded: other hubs do not get it, for they cannot be reached.
	NotForwarded bool
}

// Dispatch sends an event to every spoke that wants it. It never blocks. Events that one goroutine
// dispatches reach each spoke in that order. The payload is copied. The error is a
// *codec.EnvelopeError or one of those above; then nothing was sent.
func (h *Hub) Dispatch(e codec.Envelope) (Receipt, error) { return h.DispatchExcept(nil, e) }

// DispatchExcept is Dispatch to all but one spoke, for an event that came from it.
func (h *Hub) DispatchExcept(s *Spoke, e codec.Envelope) (Receipt, error) {
	it, err := h.newItem(e)
	if err != nil {
		return Receipt{}, err
	}
	it.except = s
	if err := h.reserve(it); err != nil {
		return Receipt{}, err
	}
	forwarded := true
	if h.config.Cluster != nil {
		if forwarded, err = h.forward(it); err != nil {
			return Receipt{}, err
		}
	}
	return Receipt{Matched: h.fanOut(it), NotForwarded: !forwarded}, nil
}

// fanOut posts items that have been reserved to the shards that hold takers, all of them at once: a
// shard that sleeps is woken for one pass.
func (h *Hub) fanOut(items ...*item) (matched int) {
	h.dispatched.Add(uint64(len(items)))
	for _, sh := range h.shards {
		matched += sh.dispatch(items)
	}
	for _, it := range items {
		h.passed(it)
	}
	return matched
}

// DispatchTo sends an event to the spoke with the given id alone, on whichever hub it is. It reports
// whether there is one; of another hub's, whether that hub is there: Carry waits for its answer.
func (h *Hub) DispatchTo(id string, e codec.Envelope) (found bool, err error) {
	if h.Elsewhere(id) {
		if e.Reserved() {
			return false, ErrReserved
		}
		if err := e.Check(); err != nil {
			return false, err
		}
		err := h.config.Cluster.Send(id, Order{Events: []codec.Envelope{e}}, nil)
		if errors.Is(err, ErrNoSpoke) {
			return false, nil
		}
		return err == nil, err
	}
	if s := h.Spoke(id); s != nil {
		r, err := s.Dispatch(e)
		return r.Matched > 0, err
	}
	return false, e.Check()
}

// AddListener calls fn for every event from any spoke whose topic the pattern selects: "type:id",
// "type:*" or "*". fn runs on the goroutine that read the event and must not block; it may call
// anything on the hub, and owns the event. Calling remove twice is harmless.
func (h *Hub) AddListener(pattern string, fn func(*Spoke, codec.Envelope)) (remove func(), err error) {
	return h.listeners.add(pattern, fn)
}

// newItem encodes and frames an event, once.
func (h *Hub) newItem(e codec.Envelope) (*item, error) {
	if h.closed.Load() {
		return nil, ErrClosed
	}
	if e.Reserved() {
		return nil, ErrReserved
	}
	f, err := codec.NewFrame(e, h.config.Opcode)
	if err != nil {
		return nil, err
	}
	if int64(f.Len()) > h.config.Limits.SpokeBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit", ErrTooLarge, f.Len(), h.config.Limits.SpokeBytes)
	}
	return &item{frame: f, at: h.now(), policy: h.policyOf(e.Type)}, nil
}

func (h *Hub) policyOf(typ string) Policy {
	if len(h.config.PolicyFor) > 0 {
		if p, ok := h.config.PolicyFor[typ]; ok {
			return p
		}
	}
	return h.config.Policy
}

func reservedFrame(op codec.Opcode, e codec.Envelope) *codec.Frame {
	f, err := codec.NewFrame(e, op)
	if err != nil {
		panic("fanout: bad event of the hub's own: " + err.Error())
	}
	return f
}

func (h *Hub) reservedItem(e codec.Envelope) *item {
	return &item{frame: reservedFrame(h.config.Opcode, e), at: h.now(), reserved: true}
}

// reserve counts it as waiting for its first pass, once for the caller, if there is room.
func (h *Hub) reserve(it *item) error {
	if h.pendingBytes.Add(it.memory()) > h.totalBytes.Load() {
		h.pendingBytes.Add(-it.memory())
		return ErrOverloaded
	}
	it.pending.Store(1)
	return nil
}

// passed counts off one of those that it waited for.
func (h *Hub) passed(it *item) {
	if !it.reserved && it.pending.Add(-1) == 0 {
		h.pendingBytes.Add(-it.memory())
	}
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

// Flush returns once everything dispatched before has been written or queued for its spokes, and
// counted in Stats. It must not be called from a callback.
func (h *Hub) Flush() {
	for _, sh := range h.shards {
		sh.do(sh.publish)
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
