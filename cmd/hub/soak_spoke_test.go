package main

import (
	"bufio"
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
