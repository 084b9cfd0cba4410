package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Server serves the operator's side. Its methods may be called from any goroutine.
type Server struct {
	// Set by New, read-only afterwards.
	config   Config
	registry *prometheus.Registry
	handler  http.Handler
	http     *http.Server

	// ending is done once Shutdown has begun. Every request ends with it.
	ending context.Context
	end    context.CancelFunc

	// What waits for the shards does so in its line.
	liveness, inspection line

	watch watch

	// Any goroutine, atomically.
	streams     atomic.Int64
	slowStreams atomic.Uint64
}

// The bounds on one request in time. Streams and profiles extend their time to write.
const (
	headTimeout    = 5 * time.Second
	requestTimeout = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeadBytes   = 16 << 10
)

// New returns a server that does nothing yet. Its streams end with Shutdown, or with the hub.
func New(c Config) (*Server, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{config: c, liveness: newLine(), inspection: newLine()}
	s.ending, s.end = context.WithCancel(context.Background())
	s.watch.server = s
	s.registry = s.newRegistry()
	s.handler = s.guarded(s.routes())
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeadBytes,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Handler returns what Serve serves, for a server of the caller's. Shutdown still ends its streams.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve accepts connections from ln, which it owns, until Shutdown or an error. After Shutdown it
// returns nil.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: serve: %w", err)
	}
	return nil
}

// Shutdown stops accepting, ends the streams, each with a last record that says so, and waits for
// the requests under way. When ctx is done the rest is cut off, and ctx's error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.end()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
		return fmt.Errorf("admin: shutdown: %w", err)
	}
	return nil
}
