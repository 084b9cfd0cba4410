package loop

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// askers are the goroutines in which Config.Authenticate runs for the server's own connections: what a
// signature costs, or a key that has to be fetched, is not to hold up the spokes of a poller.
type askers struct {
	// Set by New, read-only afterwards.
	ending context.Context
	end    context.CancelFunc

	count   atomic.Int32
	running sync.WaitGroup
}

// maxAskers bounds them, and with it the memory that a flood of handshakes takes while keys are being
// fetched: some 16 KB each.
const maxAskers = 1024

// authenticate asks what the spoke may do, in a goroutine that ends with the answer, which has
// Config.HandshakeTimeout. Stop waits for it. rest is what came behind the request.
func (c *conn) authenticate(r *http.Request, topics []codec.Pattern, rest []byte) {
	s := c.server
	if len(rest) > maxHeadBytes {
		c.refuse(tooEarly)
		return
	}
	if s.askers.count.Add(1) > maxAskers {
		s.askers.count.Add(-1)
		c.refuse(newRefusal(http.StatusServiceUnavailable, "too many are connecting at the moment", RefusedAuth))
		return
	}
	c.head = bytes.NewBuffer(bytes.Clone(rest))
	c.set(flagAsking)
	s.askers.running.Go(func() {
		defer s.askers.count.Add(-1)
		r = r.WithContext(s.askers.ending)
		r.RemoteAddr = c.Remote()
		claims, refusal := s.ask(r, topics)
		if !c.beginRead() {
			return // the peer is gone
		}
		c.answered(r, topics, claims, refusal)
		c.endRead()
		s.adopting.over()
	})
}

// answered goes on with a handshake. It has the reading side.
func (c *conn) answered(r *http.Request, topics []codec.Pattern, claims fanout.Claims, refusal *refusal) {
	rest := c.head.Bytes()
	c.head = nil
	c.flags.And(^uint32(flagAsking))
	switch {
	case c.has(flagCloseSent): // it took too long, or the peer said too much meanwhile
	case refusal != nil:
		c.refuse(refusal)
	default:
		h := handshakers.Get().(*handshaker)
		defer handshakers.Put(h)
		c.spoke.Restrict(claims)
		c.open(h, r, topics, rest)
	}
}

// keep puts aside what arrives while Config.Authenticate runs. A client has nothing to say before it
// has the answer to its handshake, so it is not much.
func (c *conn) keep(b []byte) {
	if c.head.Len()+len(b) > maxHeadBytes {
		c.refuse(tooEarly)
		return
	}
	c.head.Write(b)
}

var tooEarly = newRefusal(http.StatusBadRequest, "too much came before the handshake was answered", RefusedBadRequest)

// ask runs Config.Authenticate, and holds the topics against its answer. A panic in it ends this
// handshake alone.
func (s *Server) ask(r *http.Request, topics []codec.Pattern) (claims fanout.Claims, no *refusal) {
	defer func() {
		if v := recover(); v != nil {
			s.config.Logger.Error("loop: panic in Authenticate", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			no = newRefusal(http.StatusInternalServerError, "an internal error, the hub's log says more", RefusedAuth)
		}
	}()
	ctx, cancel := context.WithTimeout(r.Context(), s.config.HandshakeTimeout)
	defer cancel()
	claims, err := s.config.Authenticate(r.WithContext(ctx))
	switch {
	case errors.Is(err, fanout.ErrAuthUnavailable):
		return claims, newRefusal(http.StatusServiceUnavailable, codec.Problem(err), RefusedAuth)
	case err != nil:
		return claims, newRefusal(http.StatusUnauthorized, codec.Problem(err), RefusedUnauthenticated)
	}
	if err := claims.Allow(topics...); err != nil {
		return claims, newRefusal(http.StatusForbidden, codec.Problem(err), RefusedForbidden)
	}
	return claims, nil
}
