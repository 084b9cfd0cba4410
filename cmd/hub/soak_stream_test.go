package main

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// soakStream is what one spoke has read, and the checks of it.
type soakStream struct {
	spoke  *soakSpoke
	acting chan struct{} // closed when act has ended; nil before it begins
	overc  chan struct{} // closed when there is nothing more to read
	asks   int           // guarded by the spoke's mu
	sent   atomic.Uint64 // events for the hub

	welcomed           bool
	received           uint64
	dropped, conflated uint64 // as announced
	missing            uint64 // as known from the numbers; steady spokes only
	last               map[int]soakPlace
	next               map[soakSource]soakPlace
	pong               int
	errors             int
	drained            bool

	closed bool // the hub's close frame has come
	code   codec.CloseCode
	reason string

	ring  [24]string
	rings int
}

// soakPlace is a place in the events of one publisher.
type soakPlace struct {
	conn int
	n    uint64
}

// soakSource is a publisher and a topic.
type soakSource struct {
	by      int
	typ, id string
}

// read reads until the connection is over.
func (st *soakStream) read() error {
	s := st.spoke
	st.overc = make(chan struct{})
	defer close(st.overc)
	for {
		h, err := ws.ReadHeader(s.in)
		if err != nil {
			return err
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(s.in, payload); err != nil {
			return fmt.Errorf("half a frame: %w", err)
		}
		st.note(h, payload)
		if st.closed {
			s.find("a frame behind the close frame")
			return nil
		}
		if h.Masked || !h.Fin || h.Rsv != 0 && !(h.Rsv1() && s.compressed && h.OpCode.IsData()) {
			s.find("not a frame for a client: %+v", h)
			return nil
		}
		if !st.frame(h, payload) {
			return nil
		}
	}
}

// note keeps the last frames.
func (st *soakStream) note(h ws.Header, payload []byte) {
	st.ring[st.rings%len(st.ring)] = fmt.Sprintf("%s opcode %d rsv %d length %d: %.200q",
		time.Now().Format("05.000"), h.OpCode, h.Rsv, h.Length, payload[:min(200, len(payload))])
	st.rings++
}

func (st *soakStream) recent() (lines []string) {
	for i := max(0, st.rings-len(st.ring)); i < st.rings; i++ {
		lines = append(lines, st.ring[i%len(st.ring)])
	}
	return lines
}

// frame reports whether to go on.
func (st *soakStream) frame(h ws.Header, payload []byte) bool {
	s := st.spoke
	data := ws.OpText
	if s.round.config.frames == "binary" {
		data = ws.OpBinary
	}
	switch h.OpCode {
	case data:
	case ws.OpPing:
		s.send(ws.OpPong, payload, false)
		return true
	case ws.OpPong:
		st.checkPong(payload)
		return true
	case ws.OpClose:
		return st.checkClose(payload)
	default:
		s.find("opcode %d", h.OpCode)
		return false
	}
	if h.Rsv1() {
		var err error
		payload, err = io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
		if err != nil {
			s.find("it does not inflate: %v", err)
			return false
		}
	}
	e, err := codec.ParseEnvelope(payload)
	if err != nil {
		s.find("not an envelope: %v", err)
		return false
	}
	if st.welcomed == (e.Type == codec.TypeWelcome) {
		s.find("__welcome comes first, and once")
		return false
	}
	if e.Reserved() {
		st.reserved(e)
	} else {
		st.event(e)
	}
	return s.round.ctx.Err() == nil
}

// checkPong holds a pong against our pings: in order, though not every one has to be answered.
func (st *soakStream) checkPong(payload []byte) {
	s := st.spoke
	n, err := strconv.Atoi(string(payload))
	s.mu.Lock()
	pings, last := s.pings, s.lastPing
	s.mu.Unlock()
	if err != nil || n <= st.pong || n > pings {
		s.find("pong %q, after %d of %d", payload, st.pong, pings)
	}
	if st.pong = n; n == last {
		s.onCalm()
	}
}

// checkClose takes the hub's close frame, and answers it. What may follow is the end.
func (st *soakStream) checkClose(payload []byte) bool {
	s := st.spoke
	var err error
	st.closed = true
	if st.code, st.reason, err = codec.ParseClose(payload); err != nil {
		s.find("close frame: %v", err)
		return false
	}
	s.mu.Lock()
	ours, bad := s.closeCode, s.bad
	s.mu.Unlock()
	ok := ours != 0 && st.code == ours
	switch st.code {
	case codec.CloseNormal:
		ok = ok || st.reason == "enough"
	case 4100:
		ok = ok || st.reason == "operator"
	case codec.CloseGoingAway:
		ok = ok || s.round.ending.Load() && st.drained
	case codec.CloseSlow:
		ok = ok || s.mayBeSlow() && strings.HasPrefix(st.reason, "slow: ")
	case codec.ClosePolicy:
		ok = ok || bad >= s.round.config.badEnvelopes || st.reason == "no answer to a ping"
	}
	if !ok {
		s.find("closed with %d %q", st.code, st.reason)
	}
	if ours == 0 {
		s.send(ws.OpClose, payload, false)
	}
	return true
}

// reserved takes one of the hub's own events.
func (st *soakStream) reserved(e codec.Envelope) {
	s := st.spoke
	decode := func(v any) {
		if err := json.Unmarshal(e.Payload, v); err != nil {
			s.find("%s: %v", e.Type, err)
		}
	}
	switch e.Type {
	case codec.TypeWelcome:
		var w codec.Welcome
		decode(&w)
		st.welcomed, s.id = true, w.Spoke
		if s.round.books.entry(s.id) == nil {
			s.awaitEntry()
		}
		s.round.enter(s)
		s.onWelcome()
		st.acting = make(chan struct{})
		go func() { // ends with overc at the latest
			defer close(st.acting)
			s.act()
		}()
	case codec.TypeSubscribed, codec.TypeUnsubscribed:
		s.answered(e.Type == codec.TypeSubscribed, e.ID)
	case codec.TypeGap:
		var gap codec.Gap
		decode(&gap)
		if gap.Dropped+gap.Conflated == 0 || gap.Reason == "" {
			s.find("__gap without a loss: %s", e.Payload)
		}
		st.dropped += gap.Dropped
		st.conflated += gap.Conflated
	case codec.TypeDrain:
		st.drained = true
	case codec.TypeError:
		var said codec.Error
		decode(&said)
		st.errors++
		s.mu.Lock()
		bad := s.bad
		s.mu.Unlock()
		if said.Code != codec.CodeBadEnvelope || st.errors > bad {
			s.find("__error: %s", e.Payload)
		}
	default:
		s.find("unknown event %s", e.Type)
	}
}

// awaitEntry waits for OnConnection: the welcome is posted before it runs.
func (s *soakSpoke) awaitEntry() {
	s.round.await("OnConnection", func() bool { return s.round.books.entry(s.id) != nil })
}

// event takes an event.
func (st *soakStream) event(e codec.Envelope) {
	s := st.spoke
	var m soakMark
	if err := json.Unmarshal(e.Payload, &m); err != nil || !m.padded() {
		if m.By != byFence || err != nil {
			s.find("the payload is not what was sent: %v", err)
			return
		}
	}
	st.received++
	if e.Type == "t" {
		if e.ID != s.id {
			s.find("an event for spoke %s", e.ID)
		}
	} else if !s.mayGet(e.Type, e.ID) {
		s.find("an event of topic %s, which it is not subscribed to", e.Topic())
	}
	if m.Not == s.id {
		s.find("an event that is for all others")
	}
	if m.By >= firstSlot && m.By-firstSlot == s.slot && m.Conn == s.conn {
		s.find("an event of its own")
	}
	before, seen := st.last[m.By]
	if seen && (m.Conn < before.conn || m.Conn == before.conn && m.N <= before.n) {
		s.find("event %d of connection %d of publisher %d, after %+v", m.N, m.Conn, m.By, before)
	}
	st.last[m.By] = soakPlace{m.Conn, m.N}
	if s.steady {
		st.count(e, m)
	}
	if m.By == byFence {
		close(s.fencec)
	}
}

// count keeps what is missing by the numbers in the events. Each must have been announced by now, for
// a gap stands before what came after it.
func (st *soakStream) count(e codec.Envelope, m soakMark) {
	source := soakSource{m.By, e.Type, e.ID}
	next := st.next[source] // the place that is to come
	if m.Conn != next.conn {
		next = soakPlace{conn: m.Conn}
	}
	if m.K < next.n {
		st.spoke.find("event %d of the topic, after %d", m.K, next.n)
	}
	st.missing += m.K - next.n
	st.next[source] = soakPlace{m.Conn, m.K + 1}
	if announced := st.dropped + st.conflated; st.missing > announced {
		st.spoke.find("%d events are missing, %d have been announced", st.missing, announced)
	}
}

// checkAll holds everything that has arrived against everything that was dispatched, without what the
// hub says.
func (st *soakStream) checkAll(i fanout.SpokeInfo) {
	s := st.spoke
	want := s.round.published.of(s.wish.wants)
	for n := range s.aimed {
		want += s.aimed[n].Load()
	}
	if got := st.received + st.dropped + st.conflated; got != want {
		s.find("%d events were for it: %d have come, %d were announced as dropped, %d as conflated; %+v", want, st.received, st.dropped, st.conflated, i)
	}
}
