package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/admin"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/faulty"
	"github.com/alkdev/hub/loop"
)

// soakPatience is how long what must happen may take, on a machine that is busy with other things.
const soakPatience = 60 * time.Second

// soakPause is the longest pause of a connection: below the hub's patience for a pong.
const soakPause = 1500 * time.Millisecond

// soakRound is one hub from its start to its end, as runHub has it, and everybody around it.
type soakRound struct {
	// Set by newSoakRound, read-only afterwards.
	t        *testing.T
	seed     uint64
	number   int
	args     []string
	config   config
	hub      *fanout.Hub
	server   *loop.Server
	operator *admin.Server
	adminURL string
	address  string
	proxy    *faulty.Proxy
	books    *soakBooks
	rate     float64
	ctx      context.Context // done when the round ends, or with the first finding
	cancel   context.CancelCauseFunc
	beginc   chan struct{} // closed when events may flow
	quietc   chan struct{} // closed when the spokes are to do nothing more of their own
	ending   atomic.Bool   // the hub drains

	busy      atomic.Int64 // slots from which events may still be on their way to the hub
	published *soakCounts
	spokes    sync.WaitGroup // the slots
	serving   sync.WaitGroup

	mu sync.Mutex // a leaf
	// +checklocks:mu
	here map[*soakSpoke]struct{} // welcomed, and not at their end
	// +checklocks:mu
	list []*soakSpoke // the same, for picking one
	// +checklocks:mu
	finding string
}

// runSoakRound is one round, from nothing to nothing.
func runSoakRound(t *testing.T, seed uint64, number int, length time.Duration) {
	spokes, rate := 40, 300.0
	if *soakMinutes > 0 {
		spokes, rate = 240, 40
	}
	if *soakSpokes > 0 {
		spokes = *soakSpokes
	}
	if *soakRate > 0 {
		rate = *soakRate
	}
	r := newSoakRound(t, seed, number, rate)
	t.Logf("soak: round %d: %s", number, strings.Join(r.args, " "))
	defer r.stop()
	r.connect(spokes)
	var publishing sync.WaitGroup
	stopc := make(chan struct{})
	r.publish(stopc, &publishing)
	publishing.Go(func() { r.watch(stopc) })
	select {
	case <-time.After(length):
	case <-r.ctx.Done():
	}
	close(stopc)
	publishing.Wait()
	r.settle()
	r.drain()
	r.check()
	r.report()
}

func newSoakRound(t *testing.T, seed uint64, number int, rate float64) *soakRound {
	r := &soakRound{
		t: t, seed: seed, number: number, rate: rate, beginc: make(chan struct{}), quietc: make(chan struct{}), published: newSoakCounts(),
		here: make(map[*soakSpoke]struct{}),
	}
	r.ctx, r.cancel = context.WithCancelCause(t.Context())
	r.args = soakFlags(r.rng(0), number)
	var err error
	r.config, err = parseServe(t, append([]string{"--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}, r.args...)...)
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	hc := r.config.fanout(logger)
	r.books = newSoakBooks(r)
	hc.OnConnection, hc.OnDisconnection = r.books.connected, r.books.disconnected
	r.hub, err = fanout.New(hc)
	require.NoError(t, err)
	r.books.start()
	_, err = r.hub.AddListener("r:*", r.listen)
	require.NoError(t, err)
	r.server, err = loop.New(r.config.loop(r.hub, logger))
	require.NoError(t, err)
	ln, err := loop.Listen(r.config.listen)
	require.NoError(t, err)
	r.address = ln.Addr().String()
	var adminLn net.Listener
	r.operator, adminLn, err = r.config.startAdmin(r.hub, r.server, nil, nil, nil, logger)
	require.NoError(t, err)
	r.adminURL = "http://" + adminLn.Addr().String()
	r.serving.Go(func() { r.must(r.server.Serve(ln)) })
	r.serving.Go(func() { r.must(r.operator.Serve(adminLn)) })
	r.proxy, err = faulty.New(r.address)
	require.NoError(t, err)
	return r
}

// rng returns a source of its own for every purpose: what one draws does not depend on another.
func (r *soakRound) rng(purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.seed, uint64(r.number)<<32|purpose))
}

// listen is the hub's listener for what spokes send, as hub serve has it.
func (r *soakRound) listen(s *fanout.Spoke, e codec.Envelope) {
	r.books.heard(s, e)
	if r.config.relay == "others" {
		r.published.add(e.Type, e.ID) // before anybody can have it
		relay(r.hub, s, e)
	}
}

func (r *soakRound) must(err error) {
	if err != nil {
		r.find("%v", err)
	}
}

// find notes what is wrong, the first time, and ends the round.
func (r *soakRound) find(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finding == "" {
		r.finding = fmt.Sprintf("seed %d, round %d (%s): %s", r.seed, r.number, strings.Join(r.args, " "), fmt.Sprintf(format, args...))
		r.cancel(fmt.Errorf("there is a finding"))
	}
}

// connect starts the slots. It returns when the steady ones have had their welcome: events flow from
// then on, so that all of them are theirs.
func (r *soakRound) connect(n int) {
	var steady sync.WaitGroup
	r.busy.Store(int64(n))
	for slot := range n {
		isSteady := slot%4 == 0
		if isSteady {
			steady.Add(1)
		}
		r.spokes.Go(func() { r.occupy(slot, isSteady, steady.Done) })
	}
	steady.Wait()
	close(r.beginc)
}

// occupy keeps a slot: one connection after the other, until the hub goes away. The first one of a
// steady slot stays, and only slow things happen to it.
func (r *soakRound) occupy(slot int, steady bool, welcomed func()) {
	calm := sync.OnceFunc(func() { r.busy.Add(-1) })
	defer calm()
	for n := 0; r.ctx.Err() == nil && !r.ending.Load(); n++ {
		first := steady && n == 0
		s := newSoakSpoke(r, slot, n, first)
		s.onCalm = calm
		if first {
			s.onWelcome = sync.OnceFunc(welcomed)
		}
		s.live()
		s.onWelcome()
		select {
		case <-r.quietc: // who is gone by now stays away
			return
		case <-time.After(time.Duration(s.rng.IntN(200)) * time.Millisecond):
		}
	}
}

// enter adds a spoke that has had its welcome.
func (r *soakRound) enter(s *soakSpoke) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.position = len(r.list)
	r.list = append(r.list, s)
	r.here[s] = struct{}{}
}

func (r *soakRound) leave(s *soakSpoke) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.here[s]; !ok {
		return
	}
	delete(r.here, s)
	last := r.list[len(r.list)-1]
	r.list[s.position], last.position = last, s.position
	r.list = r.list[:len(r.list)-1]
}

// anySpoke returns one that is connected, nil if there is none; any but the steady ones if asked.
func (r *soakRound) anySpoke(rng *rand.Rand, notSteady bool) *soakSpoke {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range 8 {
		if len(r.list) == 0 {
			return nil
		}
		if s := r.list[rng.IntN(len(r.list))]; !s.steady || !notSteady {
			return s
		}
	}
	return nil
}

// settle lets everything arrive, and puts a fence behind it.
func (r *soakRound) settle() {
	close(r.quietc)
	r.await("everything sent reaches the hub", func() bool { return r.busy.Load() == 0 })
	r.await("the queues drain", func() bool {
		r.hub.Flush()
		s := r.hub.Stats()
		return s.QueuedSpokes == 0 && s.PendingBytes == 0
	})
	r.mu.Lock()
	left := append([]*soakSpoke(nil), r.list...)
	r.mu.Unlock()
	for _, s := range left {
		r.fence(s)
	}
	for _, s := range left {
		select {
		case <-s.fencec:
		case <-s.endc:
		case <-r.ctx.Done():
			return
		case <-time.After(soakPatience):
			r.find("the last event does not arrive at %s", s.describe())
			return
		}
	}
	r.books.checkSpokes()
	for _, s := range left {
		s.checkSettled()
	}
}

// await waits for a condition, or for a finding.
func (r *soakRound) await(what string, ok func() bool) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); !ok(); {
		if time.Since(began) > soakPatience {
			s := r.hub.Stats()
			r.find("%s: not within %v; %+v", what, soakPatience, s)
		}
		select {
		case <-ticker.C:
		case <-r.ctx.Done():
			return
		}
	}
}

// drain lets the hub go away, which every spoke that is left is told.
func (r *soakRound) drain() {
	r.ending.Store(true)
	began := time.Now()
	if err := r.server.Shutdown(context.Background()); err != nil && r.ctx.Err() == nil {
		r.find("shutdown after %v: %v", time.Since(began), err)
	}
	ended := make(chan struct{})
	go func() { r.spokes.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(soakPatience):
		r.find("spokes do not notice that the hub has gone")
		r.proxy.Close()
		<-ended
	}
}

// check is about the hub's books, when everybody has gone.
func (r *soakRound) check() {
	if r.ctx.Err() == nil {
		r.books.checkTotals()
	}
}

func (r *soakRound) stop() {
	r.cancel(nil)
	r.ending.Store(true)
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.server.Shutdown(now)
	r.proxy.Close()
	r.spokes.Wait()
	http.DefaultClient.CloseIdleConnections() // connections without a request would be waited for
	deadline, cancel := context.WithTimeout(context.Background(), adminShutdown)
	defer cancel()
	_ = r.operator.Shutdown(deadline)
	r.serving.Wait()
	r.books.stop()
	r.hub.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finding != "" {
		require.FailNow(r.t, "soak: "+r.finding)
	}
}

// watch holds the books against the queues while events flow.
func (r *soakRound) watch(stopc <-chan struct{}) {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for looks := 1; ; looks++ {
		select {
		case <-ticker.C:
			r.books.checkSpokes()
			if looks%20 == 0 {
				r.report()
			}
		case <-stopc:
			return
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *soakRound) report() {
	s := r.hub.Stats()
	r.t.Logf("soak: round %d: %d spokes of %d, %d events dispatched, %d received, %d deliveries in %d writes, dropped %v, conflated %v, slow %v, closed %v; the shards answered within %v",
		r.number, s.Spokes, s.Opened, s.Dispatched, s.Received, s.Deliveries, s.Writes, s.Dropped, s.Conflated, s.Disconnected, s.Closed, r.books.slowestLook)
}
