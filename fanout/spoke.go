package fanout

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/alkdev/hub/codec"
)

// Spoke is one connected peer as an event target of its own. Its exported methods may be called
// from any goroutine, except those that say otherwise.
type Spoke struct {
	// The shard's goroutine only. First, so that a delivery touches one cache line.
	sink   Sink
	outbox *outbox // nil while nothing is queued or in flight
	tally  tally
	pass   uint32 // the last pass that gave it a place in the lane
	place  int32  // how many items of the lane it has had in that pass
	state  spokeState
	dirty  bool // in shard.dirty

	deflates bool // set before Attach, read-only afterwards
	claimed  bool // the same: subs.claims is set

	// Guarded by shard.mu.
	inAll int32 // position in index.all, or notIndexed
	subs  *subscriptions

	// Set by Attach, read-only afterwards.
	id     uint64
	shard  *shard
	joined uint32 // joinedUnits after the hub began, modulo 497 days

	// Any goroutine.
	detached atomic.Bool
	aside    atomic.Pointer[aside]

	// The goroutine that reads the connection.
	fullAt int64 // when it may send Config.SpokeBurst again; or givenUp
}

// aside is what few spokes need.
type aside struct {
	listeners listeners

	// The goroutine that reads the connection.
	badSinceS uint32 // beginning of the minute in which bad envelopes are counted
	badCount  uint32
	refused   int   // messages of the run of refusals under way
	refusedAt int64 // the last of them
}

// asideOf returns what s has aside, new if it had nothing.
func (s *Spoke) asideOf() *aside {
	a := s.aside.Load()
	for a == nil {
		s.aside.CompareAndSwap(nil, &aside{})
		a = s.aside.Load()
	}
	return a
}

type spokeState uint8

const (
	open    spokeState = iota
	closing            // takes no more events; what is queued goes out, then the close frame
	shut               // Sink.Close was called, or the connection is gone
)

// closingOrder is how an orderly close is to end.
type closingOrder struct {
	cause Cause
	due   int64 // when to stop waiting for the queue, in nanoseconds of the hub's clock
}

// ID returns the spoke's id, unique in this hub, of a Cluster in all of them, and hard to guess.
func (s *Spoke) ID() string { return fmt.Sprintf("%016x%s", s.id, s.shard.hub.suffix) }

// TakeCompressed says that the peer has negotiated permessage-deflate, without context takeover: the
// spoke gets the compressed twin of a frame where Config.Deflater makes one. It is called before
// Attach.
func (s *Spoke) TakeCompressed() { s.deflates = s.shard.hub.config.Deflater != nil }

// Remote returns the peer's address.
func (s *Spoke) Remote() string { return s.sink.Remote() }

// Dispatch sends an event to this spoke alone, in order with the hub's broadcasts, whatever it is
// subscribed to. It never blocks. Receipt.Matched is 0 if the spoke is gone. The errors are those of
// Hub.Dispatch.
func (s *Spoke) Dispatch(e codec.Envelope) (Receipt, error) {
	it, err := s.shard.hub.newItem(e)
	if err != nil {
		return Receipt{}, err
	}
	if s.detached.Load() || s.shard.hub.config.Echo {
		return Receipt{}, nil
	}
	if err := s.shard.hub.reserve(it); err != nil {
		return Receipt{}, err
	}
	s.shard.post(post{item: it, one: s})
	return Receipt{Matched: 1}, nil
}

// tell sends one of the hub's own events, outside the limits.
func (s *Spoke) tell(e codec.Envelope) {
	if s.shard.hub.config.Echo {
		return
	}
	s.shard.post(post{item: s.shard.hub.reservedItem(e), one: s})
}

// Announce sends one of the hub's own events, such as __drain, outside the limits. The error is about
// the type or the payload; then nothing was sent.
func (s *Spoke) Announce(typ string, payload any) error {
	e, err := codec.NewEnvelope(typ, "", payload)
	if err == nil {
		err = e.Check()
	}
	if err == nil {
		s.tell(e)
	}
	return err
}

// Control sends a ping or pong, ahead of what is queued. Of the pongs for a flood of pings only some,
// and the last, go out (RFC 6455 section 5.5.3).
func (s *Spoke) Control(f *codec.Frame) {
	if f.Opcode() == codec.Pong {
		s.shard.postPong(s, f)
		return
	}
	s.shard.post(post{op: opControl, one: s, control: f})
}

// AddListener calls fn for every event from this spoke that the pattern selects; see
// Hub.AddListener.
func (s *Spoke) AddListener(pattern string, fn func(*Spoke, codec.Envelope)) (remove func(), err error) {
	return s.asideOf().listeners.add(pattern, fn)
}

// Subscribe adds patterns to those of the spoke, as if it had sent __subscribe. If that makes more
// than Config.MaxTopics (ErrTooManyTopics), one is beyond the spoke's claims (ErrForbidden) or the hub has no
// room for them (ErrTopicMemory), it adds none and returns the error.
func (s *Spoke) Subscribe(patterns ...codec.Pattern) error {
	sh := s.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.detached.Load() {
		return nil
	}
	if s.claimed {
		if err := s.subs.claims.allow(patterns); err != nil {
			return err
		}
	}
	n, bytes := s.subs.with(patterns)
	if most := sh.hub.config.MaxTopics; n > most {
		return tooManyTopics(n, most)
	}
	if err := sh.hub.reserveTopics(bytes); err != nil {
		return err
	}
	for _, p := range patterns {
		sh.index.subscribe(s, p)
	}
	sh.countTopicsLocked(bytes)
	return nil
}

// Unsubscribe takes patterns from those of the spoke. Without any left it gets no broadcasts.
func (s *Spoke) Unsubscribe(patterns ...codec.Pattern) {
	sh := s.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.detached.Load() {
		return
	}
	for _, p := range patterns {
		sh.index.unsubscribe(s, p)
	}
	sh.countTopicsLocked(0)
}

// Topics returns the patterns that the spoke is subscribed to, in the order of their text, and
// whether it gets everything because it has never subscribed to anything. One that has not, and may
// have only some, has those.
func (s *Spoke) Topics() (patterns []codec.Pattern, everything bool) {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if s.subs == nil {
		return nil, s.inAll != notIndexed
	}
	if s.subs.implied && s.inAll != notIndexed {
		return nil, true
	}
	for _, sub := range s.subs.list {
		patterns = append(patterns, sub.pattern)
	}
	return patterns, false
}

// Close ends the connection in order: events dispatched before go out, then the close frame. A spoke
// that does not take them within Config.CloseTimeout loses them.
func (s *Spoke) Close(code codec.CloseCode, reason string) {
	s.close(CauseOf(LocalSide, code, reason))
}

func (s *Spoke) close(cause Cause) { s.shard.post(post{op: opClose, one: s, cause: &cause}) }

// Fail ends the connection at once: what is queued is given up, the close frame goes out behind
// what is in flight. It is for a peer that has closed or has broken the protocol.
func (s *Spoke) Fail(code codec.CloseCode, reason string) {
	if s.shard.hub.config.Echo { // what came before is answered first
		s.Close(code, reason)
		return
	}
	cause := CauseOf(LocalSide, code, reason)
	s.shard.post(post{op: opFail, one: s, cause: &cause})
}

// Written is called by the sink when the last byte that it kept has left. It only leaves word for
// the shard, so it may be called with any lock held but the hub's own.
func (s *Spoke) Written() { s.shard.written(s) }

// Detach tells the hub that the connection is gone, by the sink's owner, once it will deliver no
// more messages. Later calls do nothing, nor does one for a spoke that was never attached.
// OnDisconnection runs before it returns.
func (s *Spoke) Detach(cause Cause) {
	if s.detached.CompareAndSwap(false, true) && s.shard.leave(s) {
		s.shard.hub.disconnected(s, cause)
	}
}

// SpokeInfo is a spoke as an operator sees it.
type SpokeInfo struct {
	ID          string        `json:"id"`
	Remote      string        `json:"remote"`
	Subject     string        `json:"sub,omitempty"` // of its claims
	ConnectedAt time.Time     `json:"connectedAt"`
	Topics      []string      `json:"topics"`
	Everything  bool          `json:"everything"` // it has never subscribed, and gets all
	Queued      int64         `json:"queuedBytes"`
	InFlight    int64         `json:"inFlightBytes"`
	Age         time.Duration `json:"ageNanos"` // of the oldest queued event
	Offered     uint64        `json:"offered"`
	Delivered   uint64        `json:"delivered"`
	QueuedCount uint64        `json:"queued"`
	Dropped     uint64        `json:"dropped"`
	Conflated   uint64        `json:"conflated"`
	Kernel      *Kernel       `json:"kernel,omitempty"` // of Info and Slowest, if the connection can tell
}

const joinedUnit = 10 * time.Millisecond

// info is called on the shard's goroutine.
func (s *Spoke) info(now int64) SpokeInfo {
	s.shard.checkOwned()
	h := s.shard.hub
	age := time.Duration(uint32(now/int64(joinedUnit))-s.joined) * joinedUnit
	i := SpokeInfo{
		ID: s.ID(), Remote: s.Remote(), Subject: s.Subject(),
		ConnectedAt: h.began.Add(time.Duration(now) - age),
		Offered:     s.tally.offered, Delivered: s.tally.delivered,
		Dropped: s.tally.losses().dropped, Conflated: s.tally.losses().conflated,
	}
	if o := s.outbox; o != nil {
		i.Queued, i.InFlight, i.QueuedCount = o.queuedBytes, o.inFlight, uint64(o.events)
		if it := o.oldest(); it != nil {
			i.Age = time.Duration(now - it.at)
		}
	}
	patterns, everything := s.Topics()
	i.Everything = everything
	i.Topics = make([]string, len(patterns))
	for n, p := range patterns {
		i.Topics[n] = p.String()
	}
	return i
}
