package admin

import (
	"context"
	"net/http"
	"time"
)

// livez exercises the way that events take: something posted now has to get through every shard.
func (s *Server) livez(w http.ResponseWriter, r *http.Request) *problem {
	if !s.liveness.run(r.Context(), s.config.Patience, s.config.Hub.Flush) {
		return stuck()
	}
	answer(w, http.StatusOK, status{"alive"})
	return nil
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) *problem {
	if ready := s.config.Loop.Ready; ready != nil && !ready() {
		return newProblem(http.StatusServiceUnavailable, "not_ready", "new connections are not welcome")
	}
	answer(w, http.StatusOK, status{"ready"})
	return nil
}

type status struct {
	Status string `json:"status"`
}

func stuck() *problem {
	return newProblem(http.StatusServiceUnavailable, "stuck", "a shard of the hub does not answer in time")
}

// inspect runs fn, which asks all the shards at some length. It reports whether fn is done.
func (s *Server) inspect(r *http.Request, fn func()) bool {
	return s.inspection.run(r.Context(), 5*s.config.Patience, fn)
}

// line lets one caller at a time wait for the shards, so that requests at a stuck hub leave one
// goroutine behind and not one each.
type line chan struct{}

func newLine() line { return make(line, 1) }

// run runs fn once those before it are through, and waits for it, for at most the given time in all.
// It reports whether fn is done. If not, fn may still be running: what it writes is not to be read.
func (l line) run(ctx context.Context, patience time.Duration, fn func()) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case l <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	donec := make(chan struct{}) // closed by the goroutine
	go func() {                  // ends once the shards have answered; a shard ends with its hub
		fn()
		<-l
		close(donec)
	}()
	select {
	case <-donec:
		return true
	case <-ctx.Done():
		return false
	}
}
