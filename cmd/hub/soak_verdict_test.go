package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/alkdev/hub/fanout"
)

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
