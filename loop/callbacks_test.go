package loop

import (
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// A listener that blocks holds up what its poller reads, and nothing else: not what is dispatched, not
// the other pollers, not a close.
func TestListenerThatBlocksHoldsUpItsPollerAlone(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	_, h, address := startServer(t, hc, Config{Pollers: 1, CloseTimeout: time.Second})
	entered, release := make(chan struct{}), make(chan struct{})
	_, err := h.AddListener("block:*", func(*fanout.Spoke, codec.Envelope) { close(entered); <-release })
	require.NoError(t, err)
	p := connect(t, address)
	blocked := receive(t, life.began, "the spoke connects")
	p.write(message("block", ""))
	receive(t, entered, "the listener runs")

	for i := range 100 {
		dispatch(t, h, numbered(i, 100))
	}
	for range 100 {
		require.Equal(t, "tick", p.event().Type, "it is written to while its listener blocks")
	}
	blocked.Close(4000, "bye")
	p.requireClose(4000)
	require.Empty(t, life.ended, "the disconnection comes after the listener")
	close(release)
	require.EqualValues(t, 4000, receive(t, life.ended, "the spoke is gone").Code)
}

// Callbacks that panic, close their own spoke, dispatch and end the hub's other spokes, while peers
// come and go and the hub is closed at last: nothing deadlocks, and nothing is left.
func TestCallbacksAndClosingRace(t *testing.T) {
	for range 5 {
		var connected, disconnected atomic.Int64
		var h *fanout.Hub
		var ready sync.WaitGroup
		ready.Add(1)
		act := func(s *fanout.Spoke) {
			ready.Wait()
			switch rand.IntN(6) {
			case 0:
				panic("a callback panics")
			case 1:
				s.Close(4000, "by its own callback")
			case 2:
				s.Fail(4001, "by its own callback")
			case 3:
				_, _ = h.Dispatch(codec.Envelope{Type: "tick"})
			case 4:
				if others := h.Spokes(); len(others) > 0 {
					others[rand.IntN(len(others))].Close(4002, "by another")
				}
			}
		}
		hc := fanout.Config{
			OnConnection:    func(s *fanout.Spoke) { connected.Add(1); act(s) },
			OnDisconnection: func(s *fanout.Spoke, _ fanout.Cause) { defer act(s); disconnected.Add(1) },
		}
		s, hub, address := startServer(t, hc, Config{Pollers: 2, CloseTimeout: 100 * time.Millisecond})
		h = hub
		ready.Done()
		_, err := h.AddListener("*", func(s *fanout.Spoke, _ codec.Envelope) { act(s) })
		require.NoError(t, err)
		stopc := make(chan struct{})
		var peers, publishing sync.WaitGroup
		for range 2 {
			publishing.Go(func() {
				for {
					select {
					case <-stopc:
						return
					default:
						_, _ = h.Dispatch(codec.Envelope{Type: "tick"})
						h.Flush()
					}
				}
			})
		}
		for range 16 {
			peers.Go(func() {
				for range 20 {
					tcp, err := from{}.dial(address)
					if err != nil {
						t.Error(err)
						return
					}
					_ = tcp.SetDeadline(time.Now().Add(patience))
					_, _ = tcp.Write([]byte(request("/ws")))
					for range 5 {
						_, _ = tcp.Write(message("ask", ""))
					}
					if rand.IntN(2) == 0 {
						_, _ = tcp.Write(whole(ws.OpClose, nil))
						_, _ = io.Copy(io.Discard, tcp)
					}
					_ = tcp.Close()
				}
			})
		}
		if rand.IntN(2) == 0 { // the hub goes first, in the middle of it
			await(t, func() bool { return connected.Load() > 50 }, "spokes connect")
			h.Close()
		}
		peers.Wait()
		close(stopc)
		publishing.Wait()
		await(t, func() bool { return s.Stats().Connections == 0 }, "all are gone")
		require.Equal(t, connected.Load(), disconnected.Load())
		require.NotZero(t, connected.Load())
		require.NotZero(t, h.Stats().Panics)
	}
}
