package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/faulty"
)

// soakSpoke is one connection of a slot: what it does, and what it has seen.
//
// live is its goroutine, which reads; act is another one, which sends.
type soakSpoke struct {
	// Set by newSoakSpoke, read-only afterwards.
	round      *soakRound
	slot, conn int
	steady     bool       // it stays, and its subscriptions are what they were at first
	rng        *rand.Rand // live's until act begins, then act's
	script     faulty.Script
	topics     []string // asked for at connect
	deflates   bool     // it offers compression
	onWelcome  func()
	onCalm     func()        // called when the hub has read all that was sent, and nothing more will be
	fencec     chan struct{} // closed by the reader, at the last event
	endc       chan struct{} // closed by live

	link  *faulty.Conn
	in    *bufio.Reader
	aimed [soakPublishers]atomic.Uint64 // events for it alone that the hub has taken

	// The reader's; live's, and of anybody after fencec or endc.
	id         string
	compressed bool // negotiated
	stream     soakStream

	position int // in the round's list, guarded by its mutex

	writing sync.Mutex // one frame at a time
	// +checklocks:writing
	taken bool // a close frame has been sent, after which comes nothing (RFC 6455 section 5.5.1)

	mu sync.Mutex // a leaf
	// +checklocks:mu
	wish soakWish // the subscriptions that the hub has answered
	// +checklocks:mu
	asked []soakAsk // those that it has not
	// +checklocks:mu
	leaving string // why the connection may end without a word: by what act has done
	// +checklocks:mu
	closeCode codec.CloseCode // of the close frame that act has sent
	// +checklocks:mu
	pings int
	// +checklocks:mu
	lastPing int // the one that nothing follows; 0 before it is sent
	// +checklocks:mu
	bad int // messages sent that are no envelopes
}

// soakTopics are what spokes subscribe to, from the beginning and later on; nil gets everything unless
// the hub wants to be asked.
var soakTopics = [][]string{nil, {"*"}, {"a:*", "b:1", "x:*"}, {"b:*", "r:*", "x:0"}, {"c:2", "d:*", "a:0", "x:*"}, nil}

var soakPatterns = []string{"*", "a:*", "a:0", "a:1", "b:*", "b:2", "c:*", "c:2", "d:1", "d:3", "r:*", "r:1", "x:*", "x:0"}

func newSoakSpoke(r *soakRound, slot, conn int, steady bool) *soakSpoke {
	rng := r.rng(1<<24 | uint64(slot)<<12 | uint64(conn&0xfff))
	s := &soakSpoke{
		round: r, slot: slot, conn: conn, steady: steady, rng: rng, onWelcome: func() {}, onCalm: func() {},
		fencec: make(chan struct{}), endc: make(chan struct{}),
	}
	switch {
	case steady, rng.IntN(3) == 0:
		s.script = faulty.Slow(rng, soakPause)
	default:
		s.script = faulty.Fatal(rng, soakPause)
	}
	s.topics = soakTopics[rng.IntN(len(soakTopics))]
	s.deflates = rng.IntN(2) == 0
	s.wish = newSoakWish(s.topics, r.config.subscribe == "explicit")
	s.stream.spoke = s
	s.stream.last = make(map[int]soakPlace)
	s.stream.next = make(map[soakSource]soakPlace)
	return s
}

// live is the connection from its beginning to its end.
func (s *soakSpoke) live() {
	defer close(s.endc)
	link, err := s.round.proxy.Dial(s.script)
	if err != nil {
		if !s.round.ending.Load() {
			s.find("no connection: %v", err)
		}
		return
	}
	s.link, s.in = link, bufio.NewReaderSize(link, 2<<10)
	stop := context.AfterFunc(s.round.ctx, func() { _ = link.SetDeadline(time.Now()) })
	defer stop()
	defer link.Close()
	if err := s.shake(); err != nil {
		s.checkHandshake(err)
		return
	}
	err = s.stream.read()
	s.round.leave(s)
	if s.stream.acting != nil {
		_ = link.Close() // act may be writing
		<-s.stream.acting
	}
	_ = link.Close()
	s.checkEnd(err)
}

// shake does the handshake.
func (s *soakSpoke) shake() error {
	var target strings.Builder
	target.WriteString("/ws")
	for i, topic := range s.topics {
		target.WriteString(string("?&"[min(i, 1)]) + "topic=" + topic)
	}
	extra := ""
	if s.deflates {
		extra = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	}
	hello := "GET " + target.String() + " HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + extra +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	if _, err := s.link.Write([]byte(hello)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(s.in, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	s.compressed = strings.HasPrefix(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
	if s.compressed != (s.deflates && s.round.config.compress) {
		s.find("compression is %v", s.compressed)
	}
	return nil
}

// send writes one frame, masked, and compressed if the connection is and chance has it.
func (s *soakSpoke) send(op ws.OpCode, payload []byte, compress bool) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.taken {
		return
	}
	s.taken = op == ws.OpClose
	f := ws.NewFrame(op, true, payload)
	if compress && s.compressed {
		var err error
		if f, err = wsflate.CompressFrame(f); err != nil {
			panic(err)
		}
	}
	b, err := ws.CompileFrame(ws.MaskFrame(f))
	if err != nil {
		panic(err)
	}
	_ = s.link.SetWriteDeadline(time.Now().Add(soakPatience))
	_, _ = s.link.Write(b) // the reader sees how it ends
}

// act sends until the round is quiet, or the connection is over.
func (s *soakSpoke) act() {
	select {
	case <-s.round.beginc:
	case <-s.stream.overc:
		return
	}
	stay := time.Duration(s.rng.ExpFloat64() * float64(4*time.Second))
	began := time.Now()
	var n, k uint64
	for {
		select {
		case <-time.After(time.Duration(s.rng.ExpFloat64() * float64(250*time.Millisecond))):
		case <-s.stream.overc:
			return
		case <-s.round.quietc:
			s.ping(true)
			return
		case <-s.round.ctx.Done():
			return
		}
		if !s.steady && time.Since(began) > stay {
			s.take()
			return
		}
		action := s.rng.IntN(16)
		switch {
		case s.steady || action < 4:
			s.ping(false)
		case action < 7:
			s.subscribe(true)
		case action < 9:
			s.subscribe(false)
		case action == 9 && s.rng.IntN(8) == 0:
			s.mu.Lock()
			s.bad++
			s.mu.Unlock()
			s.send(ws.OpText, []byte(`{"type":7}`), false)
		case s.slot%8 == 1 && action < 12: // few do: what one sends goes to all
			m := soakMark{By: firstSlot + s.slot, Conn: s.conn, N: n, K: k}
			m.pad(s.rng, s.rng.IntN(1000))
			n, k = n+1, k+1
			line, err := codec.AppendEnvelope(nil, m.event("r", fmt.Sprint(s.slot%2)))
			if err != nil {
				panic(err)
			}
			s.stream.sent.Add(1)
			s.send(ws.OpText, line, s.rng.IntN(2) == 0)
		}
	}
}

// ping sends a ping, with its number. The answer to the last one says that the hub has read everything.
func (s *soakSpoke) ping(last bool) {
	s.mu.Lock()
	s.pings++
	payload := fmt.Appendf(nil, "%d", s.pings)
	if last {
		s.lastPing = s.pings
	}
	s.mu.Unlock()
	s.send(ws.OpPing, payload, false)
}

// take takes its leave: in order, or not.
func (s *soakSpoke) take() {
	switch s.rng.IntN(4) {
	case 0, 1:
		s.mu.Lock()
		s.closeCode = codec.CloseCode(4000 + s.rng.IntN(8))
		code := s.closeCode
		s.mu.Unlock()
		s.send(ws.OpClose, append([]byte{byte(code >> 8), byte(code)}, "bye"...), false)
	case 2:
		s.setLeaving("left with a reset")
		_ = s.link.SetLinger(0)
		_ = s.link.Close()
	case 3:
		s.setLeaving("left")
		_ = s.link.Close()
	}
}

func (s *soakSpoke) setLeaving(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = how
}

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

// find reports what is wrong with this spoke.
func (s *soakSpoke) find(format string, args ...any) {
	s.round.find("%s\n%s", fmt.Sprintf(format, args...), s.describe())
}

// describe says who it is, what happened to its connection, and what it has seen last.
func (s *soakSpoke) describe() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "slot %d, connection %d, spoke %s, steady %v, topics %q, compressed %v\nscript: %v\n", s.slot, s.conn, s.id, s.steady, s.topics, s.compressed, s.script)
	if s.link != nil {
		fmt.Fprintf(&b, "faults so far: %s\n", strings.Join(s.link.Happened(), "; "))
	}
	if e := s.round.books.entry(s.id); e != nil {
		select {
		case <-e.endc:
			fmt.Fprintf(&b, "the hub says: %v; %+v\n", e.cause, e.final)
		default:
			fmt.Fprintf(&b, "the hub has not seen its end\n")
		}
	}
	fmt.Fprintf(&b, "last frames:\n  %s\n", strings.Join(s.stream.recent(), "\n  "))
	return b.String()
}

// checkHandshake is for connections that have not become spokes, as far as they know.
func (s *soakSpoke) checkHandshake(err error) {
	if !s.link.Ended() && !s.round.ending.Load() && s.round.ctx.Err() == nil {
		s.find("the handshake fails: %v", err)
	}
}

// checkEnd holds the end of the connection, and what came before it, against what the hub says.
func (s *soakSpoke) checkEnd(err error) {
	if s.round.ctx.Err() != nil {
		return
	}
	st := &s.stream
	s.mu.Lock()
	leaving, closeCode := s.leaving, s.closeCode
	s.mu.Unlock()
	excused := leaving != "" || s.link.Ended()
	if !excused && !st.closed {
		s.find("the connection ends without a close frame: %v", err)
		return
	}
	if st.closed && closeCode != 0 && !excused && st.code != closeCode && st.reason == "bye" {
		s.find("closed with %d, answered with %d", closeCode, st.code)
	}
	if s.id == "" {
		return
	}
	e := s.round.books.entry(s.id)
	if e == nil {
		s.find("the hub does not know spoke %s", s.id)
		return
	}
	select {
	case <-e.endc:
	case <-s.round.ctx.Done():
		return
	case <-time.After(soakPatience):
		s.find("the hub does not notice that the connection is over")
		return
	}
	s.checkBooks(e.final, st.closed && !excused, false)
	s.checkCause(e.cause, st.closed && !excused && closeCode == 0)
	if e.heard > st.sent.Load() {
		s.find("the hub has heard %d events, of %d", e.heard, st.sent.Load())
	}
	s.round.books.strike(s.id)
}

// checkBooks holds what has arrived against the hub's account. whole says that everything that was
// written has been read, open that the connection is as it was.
func (s *soakSpoke) checkBooks(i fanout.SpokeInfo, whole, open bool) {
	st := &s.stream
	switch {
	case st.received > i.Delivered || whole && st.received != i.Delivered:
		s.find("%d events have come, %d were delivered: %+v", st.received, i.Delivered, i)
	case st.dropped > i.Dropped || open && st.dropped != i.Dropped:
		s.find("__gap has announced %d dropped, it is %d: %+v", st.dropped, i.Dropped, i)
	case st.conflated > i.Conflated || open && st.conflated != i.Conflated:
		s.find("__gap has announced %d conflated, it is %d: %+v", st.conflated, i.Conflated, i)
	}
}

// checkCause holds the hub's cause against the close frame that has come. local says that the hub was
// the one to close.
func (s *soakSpoke) checkCause(c fanout.Cause, local bool) {
	st := &s.stream
	if local && (c.Code != st.code || c.Side != fanout.LocalSide) {
		s.find("closed with %d %q, and the hub says %v", st.code, st.reason, c)
	}
	if c.Kind == fanout.KindSlow && !s.mayBeSlow() {
		s.find("closed for being slow, under policies that do not: %v", c)
	}
}

// mayBeSlow reports whether any policy disconnects, or the hub's total may take the last event of a
// queue that has no other.
func (s *soakSpoke) mayBeSlow() bool {
	c := &s.round.config
	if c.slow == fanout.Disconnect.String() || c.totalBuffer < fanout.DefaultTotalBytes {
		return true
	}
	for _, p := range c.slowFor {
		if p == fanout.Disconnect {
			return true
		}
	}
	return false
}

// checkSettled is for spokes that are there at the end, when everything has arrived.
func (s *soakSpoke) checkSettled() {
	select {
	case <-s.fencec:
	default:
		return // it has gone
	}
	spoke := s.round.hub.Spoke(s.id)
	if spoke == nil || s.round.ctx.Err() != nil {
		return
	}
	i := spoke.Info()
	if s.round.hub.Spoke(s.id) == nil || i.QueuedCount > 0 {
		return
	}
	s.checkBooks(i, true, true)
	if s.steady && s.conn == 0 {
		s.stream.checkAll(i)
	}
}
