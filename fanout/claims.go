package fanout

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alkdev/hub/codec"
)

// Claims say what a spoke may do, as whoever has authenticated it found out. The zero Claims allow
// nothing. They bind what comes from the spoke and the broadcasts to it: an event that the program
// sends to this spoke alone is the program's own decision.
type Claims struct {
	// Subject is who the spoke is. A fresh token must be about the same one.
	Subject string
	// Topics is what the spoke may receive, Publish what it may send.
	Topics, Publish []codec.Pattern
	// Expires is when the spoke is to be closed; zero for never.
	Expires time.Time
}

// The errors about claims.
var (
	// ErrForbidden: a subscription beyond the spoke's claims.
	ErrForbidden = errors.New("fanout: forbidden")
	// ErrAuthUnavailable, from whoever authenticates: it cannot be told at the moment who this is.
	ErrAuthUnavailable = errors.New("fanout: authentication is not possible at the moment")
)

// Allow returns an ErrForbidden that names the first of the topics that may not be received, nil if
// there is none.
func (c Claims) Allow(topics ...codec.Pattern) error {
	if len(topics) == 0 {
		return nil
	}
	c = c.normal()
	return c.allow(topics)
}

// normal returns claims whose patterns are sorted, and none covers another.
func (c Claims) normal() Claims {
	c.Topics, c.Publish = normal(c.Topics), normal(c.Publish)
	return c
}

func (c *Claims) expired() bool { return !c.Expires.IsZero() && !time.Now().Before(c.Expires) }

// allow is Allow for claims that are as normal makes them.
func (c *Claims) allow(patterns []codec.Pattern) error {
	for _, p := range patterns {
		if !covers(c.Topics, p) {
			return fmt.Errorf("%w: %s is beyond what the token allows to receive", ErrForbidden, p)
		}
	}
	return nil
}

// covers reports whether one of the patterns, which are as normal makes them, covers p.
func covers(patterns []codec.Pattern, p codec.Pattern) bool {
	for _, wider := range [...]codec.Pattern{codec.Everything, p.OfType(), p} {
		if _, ok := slices.BinarySearchFunc(patterns, wider, comparePatterns); ok {
			return true
		}
	}
	return false
}

func comparePatterns(a, b codec.Pattern) int { return cmp.Compare(a.String(), b.String()) }

// normal returns the patterns sorted, without those that others cover.
func normal(patterns []codec.Pattern) []codec.Pattern {
	sorted := slices.Clone(patterns)
	slices.SortFunc(sorted, comparePatterns)
	sorted = slices.Compact(sorted)
	return slices.DeleteFunc(slices.Clone(sorted), func(p codec.Pattern) bool {
		_, everything := slices.BinarySearchFunc(sorted, codec.Everything, comparePatterns)
		_, whole := slices.BinarySearchFunc(sorted, p.OfType(), comparePatterns)
		return everything && p != codec.Everything || whole && p != p.OfType()
	})
}

// Restrict holds the spoke to claims. It is called before Attach; whom it is not called for may do
// everything.
func (s *Spoke) Restrict(c Claims) {
	c = c.normal()
	s.subs, s.claimed = &subscriptions{claims: &c}, true
}

// claims returns what the spoke is held to, nil if it may do everything.
func (s *Spoke) claims() *Claims {
	if !s.claimed {
		return nil
	}
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	return s.subs.claims
}

// Subject returns who the spoke is, "" if it did not have to say.
func (s *Spoke) Subject() string {
	if c := s.claims(); c != nil {
		return c.Subject
	}
	return ""
}

// Expired reports whether the spoke's time is up: its owner is to close it with
// codec.CloseUnauthenticated.
func (s *Spoke) Expired() bool {
	c := s.claims()
	return c != nil && c.expired()
}

// expiresInMsLocked returns the time that is left, 0 for no end. It needs shard.mu.
func (s *Spoke) expiresInMsLocked() int64 {
	if !s.claimed {
		return 0
	}
	return s.subs.claims.expiresInMs()
}

func (c *Claims) expiresInMs() int64 {
	if c.Expires.IsZero() {
		return 0
	}
	return max(1, time.Until(c.Expires).Milliseconds())
}

// mayNotSend says why the spoke may not send the event, or nothing.
func (s *Spoke) mayNotSend(e codec.Envelope) (problem string) {
	switch c := s.claims(); {
	case c.expired():
		return "the token has expired"
	case !covers(c.Publish, codec.TopicPattern(e)):
		return e.Topic() + " is beyond what the token allows to send"
	}
	return ""
}

// forbid answers what is beyond the spoke's claims, and counts it.
func (s *Spoke) forbid(id string, count *atomic.Uint64, problem string) {
	count.Add(1)
	s.tell(codec.Control(codec.TypeError, id, codec.Error{Code: codec.CodeForbidden, Message: problem}))
}

// renew answers __auth. With a token that is not taken, or for which there is no room, everything stays as it is.
func (s *Spoke) renew(e codec.Envelope) {
	h := s.shard.hub
	if !s.claimed || h.config.Renew == nil {
		s.refuse(e.ID, codec.CodeBadEnvelope, "there is no token to renew here")
		return
	}
	var fresh codec.Auth
	if err := e.Decode(&fresh); err != nil || fresh.Token == "" {
		s.refuse(e.ID, codec.CodeBadEnvelope, `payload of `+codec.TypeAuth+` must be {"token":"..."}`)
		return
	}
	answer := func(typ string, payload any) { s.tell(codec.Control(typ, e.ID, payload)) }
	c, err := h.config.Renew(fresh.Token)
	var authed codec.Authed
	if err == nil {
		authed, err = s.rebind(c)
	}
	switch {
	case err == nil:
		answer(codec.TypeAuthed, authed)
	case errors.Is(err, ErrTopicMemory):
		h.noTopicMemory.Add(1)
		answer(codec.TypeError, codec.Error{Code: codec.CodeTopicMemory, Message: codec.Problem(err)})
	case errors.Is(err, ErrAuthUnavailable):
		answer(codec.TypeError, codec.Error{Code: codec.CodeUnavailable, Message: problemOf(err)})
	default:
		answer(codec.TypeError, codec.Error{Code: codec.CodeBadToken, Message: problemOf(err)})
	}
}

// problemOf is codec.Problem for the errors of others, which may hold anything.
func problemOf(err error) string { return strings.ToValidUTF8(codec.Problem(err), "\uFFFD") }

// rebind holds the spoke to fresh claims. Subscriptions that they do not allow end; a spoke without
// any gets what they allow, if there is room for what is more of that.
func (s *Spoke) rebind(c Claims) (codec.Authed, error) {
	c = c.normal()
	sh := s.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch old := s.subs.claims; {
	case old.expired():
		return codec.Authed{}, errors.New("fanout: too late, the token has expired")
	case old.Subject != c.Subject:
		return codec.Authed{}, errors.New("fanout: the token is about somebody else")
	case c.expired():
		return codec.Authed{}, errors.New("fanout: the token is expired")
	case s.detached.Load():
		return codec.Authed{}, nil
	}
	var bytes int64
	if s.subs.implied {
		bytes = max(0, sh.index.implying(s, c.Topics))
	}
	if err := sh.hub.reserveTopics(bytes); err != nil {
		return codec.Authed{}, err
	}
	authed := codec.Authed{ExpiresInMs: c.expiresInMs()}
	for _, p := range sh.index.restrict(s, &c) {
		authed.Unsubscribed = append(authed.Unsubscribed, p.String())
	}
	sh.countTopicsLocked(bytes)
	return authed, nil
}
