package loop

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/leak"
)

// manners are the ways in which a peer comes and goes. hello is its handshake. They tell nobody when
// they fail: the hub ends connections, too.
var manners = []struct {
	name string
	meet func(c *net.TCPConn, hello []byte, r *rand.Rand)
}{
	{"leaves before the handshake", func(*net.TCPConn, []byte, *rand.Rand) {}},
	{"leaves in the middle of the handshake", func(c *net.TCPConn, hello []byte, r *rand.Rand) {
		_, _ = c.Write(hello[:r.IntN(len(hello))])
	}},
	{"is refused", func(c *net.TCPConn, _ []byte, _ *rand.Rand) {
		_, _ = c.Write([]byte("GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
		_, _ = io.Copy(io.Discard, c)
	}},
	{"does not wait for the answer", func(c *net.TCPConn, hello []byte, _ *rand.Rand) {
		_, _ = c.Write(append(hello, message("ask", "")...))
	}},
	{"closes in order", func(c *net.TCPConn, hello []byte, _ *rand.Rand) {
		_, _ = c.Write(append(append(hello, message("ask", "")...), closing(codec.CloseNormal, "bye")...))
		_, _ = io.Copy(io.Discard, c)
	}},
	{"leaves at some byte", func(c *net.TCPConn, hello []byte, r *rand.Rand) {
		_, _ = c.Write(hello)
		_, _ = io.ReadFull(c, make([]byte, r.IntN(400)+1))
		m := message("ask", "0123456789")
		_, _ = c.Write(m[:r.IntN(len(m)+1)])
	}},
	{"subscribes, breaks the protocol and waits", func(c *net.TCPConn, hello []byte, _ *rand.Rand) {
		_, _ = c.Write(append(hello, text(`{"type":"__subscribe","id":"tick:*"}`)...))
		_, _ = c.Write(bytes.Repeat([]byte{0xff}, 14)) // a header with everything wrong
		_, _ = io.Copy(io.Discard, c)
	}},
}

func TestChurnLeavesNothing(t *testing.T) {
	const workers, each = 20, 100
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	goroutines, descriptors := runtime.NumGoroutine(), leak.Descriptors()
	var connected, disconnected, received atomic.Int64
	hc := fanout.Config{
		Policy:          fanout.DropOldest,
		Limits:          fanout.Limits{SpokeBytes: 64 << 10},
		OnConnection:    func(*fanout.Spoke) { connected.Add(1) },
		OnDisconnection: func(*fanout.Spoke, fanout.Cause) { disconnected.Add(1) },
	}
	t.Run("churn", func(t *testing.T) {
		s, h, address := startServer(t, hc, Config{Pollers: 2, SendBufferBytes: 8 << 10, CloseTimeout: time.Second})
		_, err := h.AddListener("*", func(*fanout.Spoke, codec.Envelope) { received.Add(1) })
		require.NoError(t, err)
		ts := httptest.NewServer(s.Handler())
		defer ts.Close()
		stay := connect(t, address)

		stopc, broadcast := make(chan struct{}), make(chan struct{})
		go func() { // ends with stopc
			defer close(broadcast)
			for i := 0; ; i++ {
				select {
				case <-stopc:
					return
				default:
					_, _ = h.Dispatch(numbered(i, 200))
					h.Flush()
				}
			}
		}()
		reading := make(chan struct{})
		go func() { // ends with its connection
			defer close(reading)
			_, _ = io.Copy(io.Discard, stay.in)
		}()
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(w)))
				for range each {
					target, hello := address, request("/ws")
					if r.IntN(2) == 0 {
						target, hello = addressOf(ts), request("/live")
					}
					tcp, err := from{ip: fmt.Sprintf("127.0.0.%d", 1+r.IntN(4))}.dial(target)
					if err != nil {
						t.Error(err)
						return
					}
					_ = tcp.SetDeadline(time.Now().Add(patience))
					manners[r.IntN(len(manners))].meet(tcp, []byte(hello), r)
					if r.IntN(2) == 0 {
						_ = tcp.SetLinger(0) // and Close resets the connection
					}
					_ = tcp.Close()
				}
			})
		}
		wg.Wait()
		await(t, func() bool { return s.Stats().Connections == 1 }, "all but the one that stays are gone")
		await(t, func() bool { return h.Stats().Spokes == 1 }, "the hub knows the one that stays")
		close(stopc)
		receive(t, broadcast, "the broadcasts end")
		stay.write(whole(ws.OpClose, nil))
		receive(t, reading, "the one that stays is closed")
		requireEmpty(t, s, h)
		require.Equal(t, connected.Load(), disconnected.Load())
		require.EqualValues(t, connected.Load(), h.Stats().Opened)
		require.EqualValues(t, received.Load(), h.Stats().Received)
		require.Greater(t, connected.Load(), int64(workers*each/4))
		var ended uint64
		for _, n := range h.Stats().Closed {
			ended += n
		}
		require.EqualValues(t, connected.Load(), ended)
		require.NotZero(t, received.Load())
	})
	await(t, func() bool { return runtime.NumGoroutine() <= goroutines }, "the goroutines end")
	require.NoError(t, leak.AwaitDescriptors(descriptors))
}

func TestSpokesCostNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	_, h, address := startServer(t, fanout.Config{}, Config{})
	const total = 1000
	peers := make([]*peer, total)
	for i := range peers {
		peers[i] = connect(t, address)
	}
	dispatch(t, h, codec.Envelope{Type: "tick"})
	for _, p := range peers {
		require.Equal(t, "tick:", p.event().Topic())
	}
	require.Less(t, runtime.NumGoroutine()-before, 20)
}
