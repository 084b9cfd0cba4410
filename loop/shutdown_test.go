package loop

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// farewell is what a peer got until the end of its connection.
type farewell struct {
	events   int // their numbers are those from the first on
	slot     int64
	isReady  bool // when __drain came
	closedBy codec.CloseCode
}

// readFarewell reads to the close frame and answers it, and keeps read at the number of events so far.
// Behind __drain there may still be events that were dispatched at that very moment.
func (p *peer) readFarewell(s *Server, read *atomic.Int64) (f farewell) {
	defer read.Store(math.MaxInt64) // nobody is to wait for this one
	var got story
	for {
		op, payload := p.next()
		if op == ws.OpClose {
			f.closedBy, _, _ = codec.ParseClose(payload)
			f.events = len(got.numbers)
			p.write(closing(f.closedBy, ""))
			p.requireEnd()
			return f
		}
		e := parse(p.t, payload)
		if e.Type == codec.TypeDrain {
			f.isReady = s.Ready()
			var body codec.Drain
			require.NoError(p.t, json.Unmarshal(e.Payload, &body))
			f.slot = body.ReconnectAfterMs
			continue
		}
		got.add(p.t, e)
		if n := len(got.numbers) - 1; got.numbers[n] != n {
			require.FailNow(p.t, "an event is missing", "%d instead of %d", got.numbers[n], n)
		}
		read.Store(int64(len(got.numbers)))
	}
}

// awaitReaders returns when nobody is more than 64 events behind event i, so that a machine with more
// to do than this test does not make spokes slow.
func awaitReaders(readers []atomic.Int64, i int) {
	for r := range readers {
		for readers[r].Load() < int64(i-64) {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

func TestDrainUnderLoadSaysGoodbyeToEverySpoke(t *testing.T) {
	const total, before = 200, 100
	var hc fanout.Config
	life := watch(&hc)
	s, h, address := startServer(t, hc, Config{})
	farewells, readers := make(chan farewell, total), make([]atomic.Int64, total)
	for r := range readers {
		p := connect(t, address)
		go func() { farewells <- p.readFarewell(s, &readers[r]) }() // ends with the connection
	}
	over, stopped := make(chan error, 1), make(chan struct{})
	go func() { // ends when Shutdown has returned
		defer close(stopped)
		for i := 0; len(over) == 0; i++ {
			awaitReaders(readers, i)
			_, _ = h.Dispatch(numbered(i, 100))
			h.Flush()
			if i == before {
				go func() { over <- s.Shutdown(context.Background()) }()
			}
		}
	}()
	slots := make(map[int64]bool)
	for range total {
		f := receive(t, farewells, "a goodbye to every spoke")
		require.Equal(t, codec.CloseGoingAway, f.closedBy)
		require.False(t, f.isReady)
		require.GreaterOrEqual(t, f.events, before+1, "what was dispatched before arrives")
		slots[f.slot] = true
		cause := receive(t, life.ended, "its end is told")
		require.Equal(t, fanout.Cause{Side: fanout.LocalSide, Code: codec.CloseGoingAway, Reason: "the hub drains", Kind: fanout.KindDrain}, cause)
	}
	require.GreaterOrEqual(t, len(slots), total*9/10, "each has a time of its own at which to come back")
	receive(t, stopped, "Shutdown returns")
	require.NoError(t, <-over)
}

func TestWhoComesWhileDrainingIsToldToGoAway(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{CloseTimeout: time.Minute, DrainTimeout: time.Minute})
	mute := connect(t, address)
	early := dialPeer(t, address, from{}) // has not asked yet
	connOf(t, s, early)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	require.Equal(t, codec.TypeDrain, mute.event().Type)
	mute.requireClose(codec.CloseGoingAway) // and does not answer
	waiting := dialPeer(t, address, from{})
	for range 20 {
		p := dialPeer(t, address, from{})
		p.requireBusy("the hub is going away\n")
	}
	for _, p := range []*peer{early, waiting} {
		p.write([]byte(request("/ws")))
		resp, _ := p.answer()
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	}
	require.EqualValues(t, 22, s.Stats().Refused[RefusedDraining])
	dialPeer(t, address, from{}) // is not waited for
	mute.write(closing(codec.CloseGoingAway, ""))
	require.NoError(t, receive(t, done, "Shutdown returns"))
	cancel()
}

func TestSpokeThatDoesNotAnswerIsCutOffAtTheDrainTimeout(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	s, _, address := startServer(t, hc, Config{CloseTimeout: time.Minute, DrainTimeout: 100 * time.Millisecond})
	mute := connect(t, address)
	require.ErrorIs(t, s.Shutdown(context.Background()), context.DeadlineExceeded)
	require.Equal(t, fanout.KindDrain, receive(t, life.ended, "the spoke is gone").Kind)
	require.Equal(t, codec.TypeDrain, mute.event().Type)
	mute.requireClose(codec.CloseGoingAway)
	mute.requireEnd()
}

func TestSpokeThatDoesNotAnswerCostsNoMoreThanTheCloseTimeout(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{CloseTimeout: 50 * time.Millisecond, DrainTimeout: time.Minute})
	connect(t, address)
	require.NoError(t, s.Shutdown(context.Background()))
}

func TestShutdownEndsAtOnceWithItsContext(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	s, _, address := startServer(t, hc, Config{CloseTimeout: time.Minute, DrainTimeout: time.Minute})
	const total = 100
	for range total {
		connect(t, address)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.Canceled)
	for range total {
		require.Equal(t, fanout.KindDrain, receive(t, life.ended, "the spoke is gone").Kind)
	}
	require.NoError(t, s.Shutdown(ctx), "a second time there is nothing to wait for")
}

func TestShutdownMayBeCalledByManyAtOnce(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{})
	p := connect(t, address)
	go p.readFarewell(s, new(atomic.Int64))
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if s.Stats().Connections != 0 {
				t.Error("it is not over for everybody")
			}
		})
	}
	wg.Wait()
}

func TestShutdownDoesNotWaitForHandshakes(t *testing.T) {
	s, h, address := startServer(t, fanout.Config{}, Config{HandshakeTimeout: time.Hour, DrainTimeout: time.Hour})
	silent, half := dialPeer(t, address, from{}), dialPeer(t, address, from{})
	half.write([]byte("GET /ws HTTP/1.1\r\n"))
	connOf(t, s, silent)
	connOf(t, s, half)
	require.NoError(t, s.Shutdown(context.Background()))
	require.Zero(t, h.Stats().Opened)
}

// The pollers of an engine that is stopped before they have begun would never end.
func TestServersMayEndAsSoonAsTheyBegin(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 25 {
				h, err := fanout.New(fanout.Config{})
				if err != nil {
					t.Error(err)
					return
				}
				s, err := New(Config{Hub: h, Pollers: 1 + (i+j)%12})
				if err != nil {
					t.Error(err)
				} else if err := s.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
				h.Close()
			}
		})
	}
	wg.Wait()
}

func TestShutdownWhilePeersConnectLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 30 {
		var hc fanout.Config
		life := watch(&hc)
		s, h, address := startServer(t, hc, Config{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { // until nobody listens any more
				for {
					tcp, err := from{}.dial(address)
					if err != nil {
						return
					}
					_, _ = tcp.Write([]byte(request("/ws")))
					defer tcp.Close()
				}
			})
		}
		receive(t, life.began, "the first spoke connects")
		_ = s.Shutdown(ctx)
		wg.Wait()
		requireEmpty(t, s, h)
		require.EqualValues(t, h.Stats().Opened, uint64(len(life.ended)))
	}
}

func TestWhoComesWhileMemoryIsShortIsToldToComeLater(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{})
	there := connect(t, address)
	s.SetTight(true)
	require.False(t, s.Ready())
	for range 3 {
		dialPeer(t, address, from{}).requireBusy("the hub is short of memory\n")
	}
	ready := dialPeer(t, address, from{})
	ready.write([]byte("GET /readyz HTTP/1.1\r\nHost: hub.example\r\n\r\n"))
	resp, body := ready.answer()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "short of memory\n", body)
	require.EqualValues(t, 3, s.Stats().Refused[RefusedMemory])
	s.SetTight(false)
	require.True(t, s.Ready())
	connect(t, address)
	there.write(text(`{"type":"__subscribe","id":"a:1"}`))
	require.Equal(t, codec.TypeSubscribed, there.event().Type)
}
