package embedded_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster/embedded"
	"github.com/alkdev/hub/codec"
)

// late returns a spoke that comes when the engine has been there for a moment, so that it is not told of that.
func late(t *testing.T, n *node, topics ...string) *spoke {
	t.Helper()
	eventually(t, "the engine is there", n.member.Up)
	time.Sleep(50 * time.Millisecond)
	return n.spoke(t, topics...)
}

// TestWhatIsLostUntilARouteIsBackIsAnnounced: also if that is between two beats, which then know of nothing.
func TestWhatIsLostUntilARouteIsBackIsAnnounced(t *testing.T) {
	const beat = 5 * time.Second
	a := startAs(t, embedded.Config{}, beat)
	cable := newCable(t, a.engine.Addr().String())
	b := startAs(t, embedded.Config{Peers: []string{cable.ln.Addr().String()}}, beat)
	s := late(t, b, "tick:1")
	meet(t, a, b)
	eventually(t, "events arrive", func() bool { dispatch(t, a, `"before"`); return s.has(`"before"`) })
	time.Sleep(600 * time.Millisecond) // the route has been there for a while, else it is not seen to break
	last := lastSeen(b, a)
	eventually(t, "a beat has just come", func() bool { return lastSeen(b, a) != last })

	cable.pull(true)
	eventually(t, "the broken route is announced", func() bool { return s.gaps(t) > 0 })
	dispatch(t, a, `"lost"`)
	cable.plug()
	eventually(t, "events arrive again", func() bool { dispatch(t, a, `"after"`); return s.has(`"after"`) })
	require.False(t, s.has(`"lost"`))
	eventually(t, "what was lost since is announced", func() bool { return s.gaps(t) > 1 })
}

// TestALeavingHubTakesNothingWithIt: all that it has dispatched arrives, though the others go on sending, and nobody is
// told of a loss.
func TestALeavingHubTakesNothingWithIt(t *testing.T) {
	const beat = 5 * time.Second // a busy machine does not make it late
	a := startAs(t, embedded.Config{}, beat)
	s := late(t, a, "tick:1")
	filler := strings.Repeat("x", 4<<10)
	stopc := make(chan struct{})
	var publishing sync.WaitGroup
	defer publishing.Wait()
	defer close(stopc)
	publishing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stopc:
				return
			default:
			}
			_, err := a.hub.Dispatch(codec.Envelope{Type: "flood", ID: "1", Payload: fmt.Appendf(nil, `"%s"`, filler)})
			if err != nil || i%4 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	})
	for round := range 4 {
		b := startAs(t, embedded.Config{Peers: []string{a.engine.Addr().String()}}, beat)
		b.spoke(t, "flood:1")
		meet(t, a, b)
		eventually(t, "events arrive", func() bool { return dispatch(t, b, `"first"`).Matched == 0 && s.has(`"first"`) })
		const events = 2000
		for i := range events {
			dispatch(t, b, fmt.Sprintf(`"%d %d"`, round, i))
		}
		b.stop()
		eventually(t, "all of it has arrived", func() bool { return s.has(fmt.Sprintf(`"%d %d"`, round, events-1)) || s.gaps(t) > 0 })
		eventually(t, "it is forgotten", func() bool { return len(a.hub.ClusterInfo().Hubs) == 1 || s.gaps(t) > 0 })
		time.Sleep(600 * time.Millisecond) // two looks at the routes: nothing is to happen
		require.Zero(t, s.gaps(t), "round %d", round)
		s.mu.Lock()
		s.got = nil
		s.mu.Unlock()
	}
}

// TestASlowRouteIsCut: who reads, but not as fast as others dispatch, is told of a loss in the end; what waits for it does
// not grow without end.
func TestASlowRouteIsCut(t *testing.T) {
	a := start(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	slow := make(chan struct{})
	var copying sync.WaitGroup
	copying.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", a.engine.Addr().String())
			if err != nil {
				_ = near.Close()
				continue
			}
			require.NoError(t, far.(*net.TCPConn).SetReadBuffer(64<<10)) // it takes some all the time
			both := func() { _ = near.Close(); _ = far.Close() }
			copying.Go(func() { defer both(); _, _ = io.Copy(far, near) })
			copying.Go(func() {
				defer both()
				for {
					if _, err := io.CopyN(near, far, 16<<10); err != nil {
						return
					}
					select {
					case <-slow:
						time.Sleep(8 * time.Millisecond) // 2 MB/s
					default:
					}
				}
			})
		}
	})
	b := start(t, ln.Addr().String())
	defer copying.Wait()
	defer func() { _ = ln.Close() }()
	defer b.stop()
	s := late(t, b, "tick:1")
	meet(t, a, b)
	eventually(t, "events arrive", func() bool { dispatch(t, a, `"before"`); return s.has(`"before"`) })
	close(slow)
	large := fmt.Sprintf(`"%s"`, strings.Repeat("x", 64<<10))
	for range 400 {
		dispatch(t, a, large)
		a.hub.Flush()
	}
	eventually(t, "it is told of a loss", func() bool { return s.gaps(t) > 0 })
}

// TestTheLargestEventMayBeAnySize: the server of a hub whose events may be large starts, and carries them.
func TestTheLargestEventMayBeAnySize(t *testing.T) {
	for _, most := range []int{1, 100 << 20, 1 << 31, 1 << 40} {
		e, err := embedded.New(embedded.Config{ID: "a", Listen: "127.0.0.1:0", MaxEventBytes: most, Logger: quiet})
		require.NoError(t, err, most)
		_ = e
	}
	a := startAs(t, embedded.Config{MaxEventBytes: 100 << 20}, 200*time.Millisecond)
	eventually(t, "it is there", a.member.Up)
	require.GreaterOrEqual(t, a.engine.MaxBytes(), int64(100<<20))
}
