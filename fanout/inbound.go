package fanout

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alkdev/hub/codec"
)

// Receive takes one message that the connection has read: it parses the envelope, and calls the
// listeners or does what a reserved event asks for. What is no envelope is answered by __error, and
// a spoke that goes on sending such things, or too many of any kind, is closed with 1008. The message may be overwritten once
// Receive has returned. It is called by the goroutine that reads the connection, one message at a
// time, after Attach has returned and before Detach.
func (s *Spoke) Receive(message []byte) {
	if !s.admit() {
		return
	}
	h := s.shard.hub
	e, err := codec.ParseEnvelope(message)
	if err != nil {
		var bad *codec.EnvelopeError
		errors.As(err, &bad)
		s.refuse(bad.ID, codec.CodeBadEnvelope, bad.Problem)
		return
	}
	if e.Reserved() {
		s.receiveReserved(e)
		return
	}
	if s.claimed {
		if problem := s.mayNotSend(e); problem != "" {
			s.forbid(e.ID, &h.forbiddenEvents, problem)
			return
		}
	}
	h.received.Add(1)
	h.emit(s, e)
}

func (s *Spoke) receiveReserved(e codec.Envelope) {
	var answer string
	switch e.Type {
	case codec.TypeSubscribe:
		answer = codec.TypeSubscribed
	case codec.TypeUnsubscribe:
		answer = codec.TypeUnsubscribed
	case codec.TypeAuth:
		s.renew(e)
		return
	default:
		s.refuse(e.ID, codec.CodeBadEnvelope, "type "+e.Type+" is not one that a spoke may send, types that begin with __ are reserved")
		return
	}
	if most := s.shard.hub.config.MaxTopics; codec.NamesMoreThan(most, e) {
		s.shard.hub.tooManyTopics.Add(1)
		s.refuse(e.ID, codec.CodeTooMany, fmt.Sprintf("a %s names at most %d topics", e.Type, most))
		return
	}
	patterns, err := codec.ParseTopics(e)
	if err != nil {
		s.refuse(e.ID, codec.CodeBadTopic, codec.Problem(err))
		return
	}
	if e.Type == codec.TypeSubscribe {
		err = s.Subscribe(patterns...)
	} else {
		s.Unsubscribe(patterns...)
	}
	switch {
	case errors.Is(err, ErrForbidden):
		s.forbid(e.ID, &s.shard.hub.forbiddenTopics, codec.Problem(err))
		return
	case errors.Is(err, ErrTopicMemory): // not the spoke's fault
		s.shard.hub.noTopicMemory.Add(1)
		s.tell(codec.Control(codec.TypeError, e.ID, codec.Error{Code: codec.CodeTopicMemory, Message: codec.Problem(err)}))
		return
	case err != nil:
		s.shard.hub.tooManyTopics.Add(1)
		s.refuse(e.ID, codec.CodeTooMany, codec.Problem(err))
		return
	}
	topics := codec.Topics{Topics: make([]string, len(patterns))}
	for i, p := range patterns {
		topics.Topics[i] = p.String()
	}
	s.tell(codec.Control(answer, e.ID, topics))
}

// refuse answers what could not be taken, and closes a spoke that has sent too much of it.
func (s *Spoke) refuse(id, code, problem string) {
	h := s.shard.hub
	h.refused.Add(1)
	s.tell(codec.Control(codec.TypeError, id, codec.Error{Code: code, Message: problem}))
	a, now := s.asideOf(), uint32(h.now()/int64(time.Second))
	if a.badCount == 0 || now-a.badSinceS >= 60 {
		a.badSinceS, a.badCount = now, 0
	}
	if a.badCount++; int(a.badCount) >= h.config.BadEnvelopesPerMin {
		s.giveUp("too many bad envelopes")
	}
}

// Refuse tells the spoke, by an __error event, that an event of it was not taken on. id is the
// event's. What is not UTF-8 is replaced, and an id that no event can have is left out.
func (s *Spoke) Refuse(id, code, problem string) {
	valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	e := codec.Control(codec.TypeError, "", codec.Error{Code: valid(code), Message: valid(problem)})
	if e.ID = id; e.Check() != nil {
		e.ID = ""
	}
	s.tell(e)
}

// emit calls the listeners for an event from s, those of the spoke first.
func (h *Hub) emit(s *Spoke, e codec.Envelope) {
	h.taps.event(s, e)
	call := func(l *listener) { h.contain("listener", func() { l.fn(s, e) }) }
	if a := s.aside.Load(); a != nil {
		a.listeners.emit(e, call)
	}
	h.listeners.emit(e, call)
}

// contain runs a callback of the hub's user. A panic in it is logged and counted, and goes no
// further: one bad listener must not take the hub with it.
func (h *Hub) contain(what string, fn func()) {
	defer func() {
		if r := recover(); r != nil {
			h.panics.Add(1)
			h.config.Logger.Error("fanout: panic in a callback", slog.String("callback", what),
				slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
		}
	}()
	fn()
}
