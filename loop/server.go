package loop

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Server brings connections to a hub. Its methods may be called from any goroutine.
type Server struct {
	// Set by New, read-only afterwards.
	config Config
	engine *engine
	began  time.Time
	stopc  chan struct{} // closed by stop
	sweptc chan struct{} // closed by sweep

	throttle  *throttle // nil without a limit
	allowance allowance

	conns    registry
	adopting adoptions
	askers   askers
	shakers  shakers

	// Any goroutine, atomically.
	leaving     atomic.Bool // others have the port; then draining
	draining    atomic.Bool
	tight       atomic.Bool // memory is short
	stopping    atomic.Bool
	received    atomic.Uint64
	suspensions atomic.Uint64
	refusals    refusals

	tlsFailures                                  atomic.Uint64 // connections that broke TLS after the handshake
	tlsWarning, originWarning, suspensionWarning seldom

	mu sync.Mutex // a leaf
	// +checklocks:mu
	listeners []*listener
	shutdown  sync.Once
}

// New returns a server with its pollers running. Shutdown ends it.
func New(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c, began: time.Now(), stopc: make(chan struct{}), sweptc: make(chan struct{})}
	s.adopting.ended.L = &s.adopting.mu
	s.shakers.limit = s.config.TLSHandshakes
	s.askers.ending, s.askers.end = context.WithCancel(context.Background())
	s.throttle = newThrottle(&s.config)
	s.allowance = allowanceOf(s.config.SpokeCPU)
	if c.MaxSpokesPerIP > 0 {
		s.conns.perIP = make(map[addressKey]int)
	}
	var err error
	if s.engine, err = startEngine(&s.config); err != nil {
		return nil, err
	}
	go s.sweep() // ends with stopc; stop waits for it
	return s, nil
}

// Config returns the configuration in force, defaults filled in.
func (s *Server) Config() Config { return s.config }

// Ready reports whether new connections are welcome.
func (s *Server) Ready() bool {
	return !s.leaving.Load() && !s.draining.Load() && !s.tight.Load()
}

// SetTight says whether memory is short. As long as it is, new connections are refused with 503; those
// there are stay.
func (s *Server) SetTight(tight bool) { s.tight.Store(tight) }

// trackListener remembers l, to be closed by Shutdown. It reports false if that is over.
func (s *Server) trackListener(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.listeners = append(s.listeners, l)
	return true
}

// checkListeners ends Serve for the listeners that somebody else has closed.
func (s *Server) checkListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = slices.DeleteFunc(s.listeners, func(l *listener) bool {
		err := l.control(func(int) {})
		if err != nil {
			l.end(err)
		}
		return err != nil
	})
}

// drainPace is the least time between two spokes that are sent away, for hubs with few of them.
const drainPace = 5 * time.Millisecond

// reconnectAfter is the least time after which a spoke is asked to come back: before, it would mostly
// find this same hub going away.
const reconnectAfter = time.Second

// Shutdown drains the server. Readiness fails at once, and new connections are refused; at a port of
// ListenShared that others have as well they are left to them, which takes a second. Then each
// spoke gets __drain with a time of its own at which to reconnect, and is closed with 1001 behind
// what was dispatched before; this is spread over four fifths of Config.DrainTimeout, less for few
// spokes. What is left after DrainTimeout, or when ctx is done, is cut off, and Shutdown then
// returns ctx's error or context.DeadlineExceeded. It returns nil if every spoke has gone by then, of
// its own or after Config.CloseTimeout.
func (s *Server) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.DrainTimeout)
	defer cancel()
	s.leavePorts(ctx)
	s.draining.Store(true)
	s.sendAway(ctx)
	err := s.waitForSpokes(ctx)
	s.stop()
	return err
}

// sendAway closes every spoke, spread over time.
func (s *Server) sendAway(ctx context.Context) {
	var spokes []*conn
	s.conns.each(func(c *conn) {
		if c.has(flagUpgraded) {
			spokes = append(spokes, c)
		}
	})
	n := time.Duration(len(spokes))
	window := min(s.config.DrainTimeout*4/5, n*drainPace)
	ticker := time.NewTicker(drainPace)
	defer ticker.Stop()
	began := time.Now()
	for i, c := range spokes {
		slot := window * time.Duration(i) / n
		for time.Since(began) < slot {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
		// They leave one after the other; coming back at twice the distance keeps them apart.
		c.sendAway(slot + reconnectAfter)
	}
}

func (c *conn) sendAway(slot time.Duration) {
	if !c.set(flagSentAway) {
		return
	}
	_ = c.spoke.Announce(codec.TypeDrain, codec.Drain{ReconnectAfterMs: slot.Milliseconds()})
	c.spoke.Close(codec.CloseGoingAway, "the hub drains")
}

// waitForSpokes waits until every spoke is gone, also those that were being upgraded when draining
// began: hence the second look. Who comes meanwhile is told to go away, and not waited for.
func (s *Server) waitForSpokes(ctx context.Context) error {
	ticker := time.NewTicker(drainPace)
	defer ticker.Stop()
	for quiet := 0; ; {
		left := 0
		s.conns.each(func(c *conn) {
			switch {
			case c.has(flagUpgraded):
				c.sendAway(reconnectAfter)
				left++
			case c.has(flagReading | flagAsking): // may be just about to become one
				left++
			}
		})
		if left > 0 {
			quiet = 0
		} else if quiet++; quiet == 2 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if left == 0 {
				return nil
			}
			return ctx.Err()
		}
	}
}

// stop ends everything, and waits for it.
func (s *Server) stop() {
	s.shutdown.Do(func() {
		s.mu.Lock()
		s.stopping.Store(true)
		close(s.stopc)
		for _, l := range s.listeners {
			_ = l.tcp.Close()
		}
		s.mu.Unlock()
		<-s.sweptc
		s.conns.each(func(c *conn) {
			c.setCause(fanout.Cause{Side: fanout.LocalSide, Code: codec.CloseGoingAway, Reason: "the hub is gone", Kind: fanout.KindDrain})
		})
		s.askers.end()
		s.engine.stop()
		s.shakers.running.Wait() // the pollers, who start them, have ended
		s.askers.running.Wait()
	})
}
