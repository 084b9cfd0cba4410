package fanout

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// connectSlow attaches a spoke whose kernel takes what is written in its own time: part of it at
// once, part of it later on another goroutine, which ends when stopc is closed.
func connectSlow(t *testing.T, h *Hub, seed uint64, stopc <-chan struct{}, kernels *sync.WaitGroup) *scriptSink {
	k := &scriptSink{keptc: make(chan struct{}, 1)}
	k.spoke = h.NewSpoke(k)
	k.block(0)
	require.NoError(t, k.spoke.Attach())
	kernels.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 4))
		for {
			select {
			case <-stopc:
				k.resume()
				return
			case <-k.keptc:
				for !k.give(rng.IntN(3000)) {
					runtime.Gosched()
				}
				k.block(rng.IntN(1000))
			}
		}
	})
	return k
}

// publish dispatches n events of a type of its own, numbered from 0, or until the hub is closed. It
// waits for the hub now and then, as a publisher with a window does.
func publish(t *testing.T, h *Hub, typ string, n int) {
	for i := range n {
		if i%100 == 0 {
			h.Flush()
		}
		_, err := h.Dispatch(codec.Envelope{Type: typ, ID: strconv.Itoa(i % 3), Payload: strconv.AppendInt(nil, int64(i), 10)})
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// checkOrder reads a stream in which the events of each type must be numbered without a hole. It
// returns the number that would come next of each.
func checkOrder(t *testing.T, k *scriptSink) map[string]int {
	events, _ := k.events(t)
	next := make(map[string]int)
	for _, e := range events {
		n, err := strconv.Atoi(string(e.Payload))
		if e.Reserved() && e.Type != codec.TypeGap {
			continue
		}
		if expected, seen := next[e.Type]; err != nil || seen && expected != n {
			require.Fail(t, "out of order", "%s %s instead of %d", e.Type, e.Payload, expected)
		}
		next[e.Type] = n + 1
	}
	return next
}

func TestOrderOfEachPublisherIsKeptUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const publishers, events = 4, 1500
		h := newHub(t, Config{Shards: 3, Limits: Limits{SpokeBytes: 64 << 20}})
		stopc := make(chan struct{})
		var kernels, others, publishing sync.WaitGroup
		var steady []*scriptSink
		for i := range 8 {
			steady = append(steady, connectSlow(t, h, uint64(i), stopc, &kernels))
		}
		for i := range 4 { // they come and go, subscribe, ping, and inspect
			others.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), 5))
				for {
					select {
					case <-stopc:
						return
					default:
					}
					s, k := connect(t, h)
					for range rng.IntN(20) {
						switch rng.IntN(6) {
						case 0:
							_ = s.Subscribe(pattern(t, fmt.Sprint("p", rng.IntN(publishers), ":*")))
						case 1:
							s.Unsubscribe(pattern(t, fmt.Sprint("p", rng.IntN(publishers), ":*")))
						case 2:
							s.Control(codec.NewControlFrame(codec.Ping, nil))
						case 3:
							s.Info()
						case 4:
							h.Flush()
						default:
							h.Stats()
						}
					}
					if rng.IntN(2) == 0 {
						s.Close(codec.CloseNormal, "")
						h.Flush()
					}
					s.Detach(CauseOf(PeerSide, codec.CloseNormal, ""))
					h.Flush()
					_, _ = k.events(t)
				}
			})
		}
		for i := range publishers {
			publishing.Go(func() { publish(t, h, fmt.Sprint("p", i), events) })
		}
		publishing.Wait()
		close(stopc)
		kernels.Wait()
		others.Wait()
		synctest.Wait() // all that is to happen has happened: nobody may have been forgotten
		for _, k := range steady {
			next := checkOrder(t, k)
			for i := range publishers {
				require.Equal(t, events, next[fmt.Sprint("p", i)])
			}
		}
		s := h.Stats()
		require.Equal(t, 8, s.Spokes)
		require.EqualValues(t, publishers*events, s.Dispatched)
		require.Zero(t, s.QueuedSpokes)
		require.Zero(t, s.HeldBytes+s.PendingBytes+s.QueuedBytes+s.InFlightBytes)
	})
}

func TestClosingUnderLoadLosesNoOrderAndNobody(t *testing.T) {
	for round := range 10 {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, Config{Shards: 3, Limits: Limits{SpokeBytes: 64 << 20}})
			stopc := make(chan struct{})
			var kernels, publishing, attaching sync.WaitGroup
			var steady []*scriptSink
			for i := range 3 {
				_, k := connect(t, h)
				steady = append(steady, k, connectSlow(t, h, uint64(i), stopc, &kernels))
			}
			var late []*scriptSink
			attaching.Go(func() {
				for range 20 {
					k := &scriptSink{}
					k.spoke = h.NewSpoke(k)
					if k.spoke.Attach() != nil {
						return
					}
					late = append(late, k)
				}
			})
			for i := range 3 {
				publishing.Go(func() { publish(t, h, fmt.Sprint("p", i), 1<<20) })
			}
			for range round {
				h.Flush()
			}
			h.Close()
			publishing.Wait()
			attaching.Wait()
			close(stopc)
			kernels.Wait()
			for _, k := range append(steady, late...) {
				closed, code, _ := k.ending()
				require.True(t, closed)
				require.Equal(t, codec.CloseGoingAway, code)
				checkOrder(t, k)
			}
		})
	}
}
