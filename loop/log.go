package loop

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// What is normal on the open internet is counted, and logged at debug level only. The exceptions are mistakes
// whose makers would look for the reason here, and who come again and again: they have a line a minute.

// seldom lets something happen once a minute.
type seldom struct{ last atomic.Int64 } // when it did, in seconds after began, and 60

func (s *Server) mayAgain(what *seldom) bool {
	now, last := int64(time.Since(s.began)/time.Second)+60, what.last.Load()
	return now-last >= 60 && what.last.CompareAndSwap(last, now)
}

// warnOfTLS logs that somebody speaks TLS to a port without it.
func (s *Server) warnOfTLS() {
	if s.mayAgain(&s.tlsWarning) {
		s.config.Logger.Warn("loop: a client speaks TLS to a port without it: it wants ws://, or the hub a certificate")
	}
}

// warnOfSuspension logs who sends more than there is time for: nobody else would say which spoke it is.
func (s *Server) warnOfSuspension(c *conn) {
	if c.has(flagUpgraded) && s.mayAgain(&s.suspensionWarning) {
		s.config.Logger.Warn("loop: a spoke sends more than can be read within Config.SpokeCPU (hub serve --spoke-cpu): the rest is read later",
			slog.String("spoke", c.spoke.ID()), slog.String("peer", c.Remote()))
	}
}

// refused counts a refusal and logs it, with nothing of the request: there may be a token in any part of it. A
// browser does not show its page that an origin is not allowed.
func (s *Server) refused(c *conn, r *refusal) {
	s.refusals.add(r.why)
	level, hint := slog.LevelDebug, ""
	if r.why == RefusedOrigin && s.mayAgain(&s.originWarning) {
		level, hint = slog.LevelWarn, ": the page's origin is not one of Config.Origins (hub serve --origins)"
	}
	if l := s.config.Logger; l.Enabled(context.Background(), level) {
		l.Log(context.Background(), level, "loop: refused"+hint, slog.String("reason", r.why.String()), slog.Int("status", r.status), slog.String("peer", c.Remote()))
	}
}

// logEnd logs how the connection of a spoke has ended.
func (c *conn) logEnd() {
	if l := c.server.config.Logger; l.Enabled(context.Background(), slog.LevelDebug) {
		l.Debug("loop: a spoke has gone, "+c.cause.Load().String(), slog.String("spoke", c.spoke.ID()), slog.String("peer", c.Remote()))
	}
}
