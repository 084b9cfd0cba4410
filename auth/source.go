package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fetchTimeout bounds one fetch of a set.
	fetchTimeout = 5 * time.Second
	// retryPause is the time between two fetches while they fail, unless refreshing is more frequent.
	retryPause = 10 * time.Second
	// maxWaiting bounds the handshakes that wait for a fetch: others go on meanwhile.
	maxWaiting = 256
)

// source keeps a JSON Web Key Set up to date. What was fetched last stays in force while fetching fails:
// spokes can go on connecting without whoever signs the tokens.
type source struct {
	// Set by newSource, read-only afterwards.
	location string
	remote   bool
	refresh  time.Duration
	pause    time.Duration // the least time between two fetches that tokens cause
	http     *http.Client
	logger   *slog.Logger
	askc     chan struct{} // 1 deep, never closed
	cancel   context.CancelFunc
	donec    chan struct{} // closed by run

	// Any goroutine, atomically.
	keys    atomic.Pointer[keySet] // nil as long as none could be fetched
	waiting atomic.Int32
	good    atomic.Int64 // when the latest fetch that went well ended, in nanoseconds since began
	failed  atomic.Uint64

	began time.Time // read-only

	mu sync.Mutex // a leaf
	// +checklocks:mu
	fetched time.Time // when the latest fetch ended
	// +checklocks:mu
	fetchc chan struct{} // closed by run when the fetch that tokens have caused has ended; nil if there is none
}

// newSource returns a source that has been fetched once. A file that cannot be read is an error; an
// address may come to life later.
func newSource(location string, refresh time.Duration, logger *slog.Logger) (*source, error) {
	s := &source{
		location: location, refresh: refresh, pause: time.Second, logger: logger,
		askc: make(chan struct{}, 1), donec: make(chan struct{}), began: time.Now(),
	}
	if u, err := url.Parse(location); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		s.remote, s.pause = true, 5*time.Second
		s.http = &http.Client{Timeout: fetchTimeout, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	if err := s.fetch(ctx); err != nil && !s.remote {
		cancel()
		return nil, err
	}
	go s.run(ctx) // ends with close, which waits for it
	return s, nil
}

func (s *source) close() {
	s.cancel()
	<-s.donec
}

// run fetches when it is time, and when tokens ask for it.
func (s *source) run(ctx context.Context) {
	defer close(s.donec)
	timer := time.NewTimer(s.next(nil))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.askc:
		case <-ctx.Done():
			return
		}
		timer.Reset(s.next(s.fetch(ctx)))
	}
}

// next returns how long to wait after a fetch.
func (s *source) next(err error) time.Duration {
	switch {
	case s.keys.Load() == nil: // nobody can connect
		return min(time.Second, s.refresh)
	case err != nil:
		return min(retryPause, s.refresh)
	}
	return s.refresh
}

// fetch replaces the keys if that goes well, and logs it if not.
func (s *source) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	b, err := s.read(ctx)
	var set *keySet
	var problems []error
	if err == nil {
		set, problems, err = parseSet(b)
	}
	s.mu.Lock()
	s.fetched = time.Now()
	if err == nil {
		s.keys.Store(set)
		s.good.Store(int64(s.fetched.Sub(s.began)))
	}
	if s.fetchc != nil {
		close(s.fetchc)
		s.fetchc = nil
	}
	s.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("auth: %s: %w", s.shown(), err)
		if ctx.Err() != context.Canceled {
			s.failed.Add(1)
			s.logger.Error("auth: no new keys", slog.Any("error", err), slog.Bool("thoseFromBeforeStay", s.keys.Load() != nil))
		}
		return err
	}
	for _, p := range problems {
		s.logger.Warn("auth: a key is left out", slog.String("set", s.shown()), slog.Any("error", p))
	}
	s.logger.Debug("auth: keys", slog.String("set", s.shown()), slog.Int("keys", len(set.keys)))
	return nil
}

// shown is the location without what may be secret in it.
func (s *source) shown() string {
	if u, err := url.Parse(s.location); s.remote && err == nil {
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	}
	return s.location
}

// read returns the set as it is now.
func (s *source) read(ctx context.Context) ([]byte, error) {
	var body io.ReadCloser
	if s.remote {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.location, nil)
		if err != nil {
			return nil, errors.New("not an address")
		}
		r.Header.Set("Accept", "application/jwk-set+json, application/json")
		resp, err := s.http.Do(r)
		if err != nil {
			if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
				err = wrapped.Err // without the address, whose query may be secret
			}
			return nil, err
		}
		if body = resp.Body; resp.StatusCode != http.StatusOK {
			_ = body.Close()
			return nil, fmt.Errorf("answered %s", resp.Status)
		}
	} else {
		file, err := os.Open(strings.TrimPrefix(s.location, "file:"))
		if err != nil {
			return nil, errors.Unwrap(err)
		}
		body = file
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxSetBytes+1))
	if err == nil && len(b) > maxSetBytes {
		err = fmt.Errorf("larger than %d bytes", maxSetBytes)
	}
	return b, err
}

// ask has the set fetched for a key that is not in it, and returns what is closed when that has ended;
// nil if it was fetched a moment ago.
func (s *source) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetchc == nil {
		if time.Since(s.fetched) < s.pause {
			return nil
		}
		s.fetchc = make(chan struct{})
		select {
		case s.askc <- struct{}{}:
		default: // run is about to
		}
	}
	return s.fetchc
}
