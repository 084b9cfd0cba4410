package fanout

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// kernelSink is a connection that can tell what its kernel knows.
type kernelSink struct {
	scriptSink
	gone bool
}

func (k *kernelSink) Kernel() (Kernel, bool) { return Kernel{RTT: time.Millisecond}, !k.gone }

func TestSlowestAreThoseWithTheMostWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 3})
		waiting := make(map[string]int64)
		for _, n := range rand.New(rand.NewPCG(1, 1)).Perm(50) { // all different
			s, _ := stall(t, h, "none:*")
			for range n {
				dispatchTo(t, h, s.ID())
			}
			i := s.Info()
			waiting[s.ID()] = i.Queued + i.InFlight
		}
		idle, _ := connect(t, h)

		for _, n := range []int{1, 7, 20, 50} {
			slowest := h.Slowest(n)
			require.Len(t, slowest, n)
			for k, i := range slowest {
				require.EqualValues(t, waiting[i.ID], i.Queued+i.InFlight)
				above := 0
				for _, w := range waiting {
					if w > waiting[i.ID] {
						above++
					}
				}
				require.Equal(t, k, above, "as many have more waiting as stand before it")
			}
		}
		all := h.Slowest(100)
		require.Len(t, all, 51)
		require.Equal(t, idle.ID(), all[50].ID, "those with nothing waiting fill the list up")
		require.Empty(t, h.Slowest(0))
	})
}

func dispatchTo(t testing.TB, h *Hub, id string) {
	t.Helper()
	found, err := h.DispatchTo(id, sized(t, "a:1", 1, 100))
	require.NoError(t, err)
	require.True(t, found)
}

func TestSlowestOfAHubThatIsClosed(t *testing.T) {
	h := newHub(t, Config{})
	connect(t, h)
	h.Close()
	require.Empty(t, h.Slowest(10))
}

func TestTheKernelIsAskedForThoseThatAreShown(t *testing.T) {
	h := newHub(t, Config{})
	k := &kernelSink{}
	s := h.NewSpoke(k)
	require.NoError(t, s.Attach())
	require.Equal(t, &Kernel{RTT: time.Millisecond}, s.Info().Kernel)
	require.Equal(t, &Kernel{RTT: time.Millisecond}, h.Slowest(1)[0].Kernel)
	h.Inspect(func(i SpokeInfo) { require.Nil(t, i.Kernel, "a system call for each of all spokes") })
	k.gone = true
	require.Nil(t, s.Info().Kernel)

	without, _ := connect(t, h)
	require.Nil(t, without.Info().Kernel)
}

func BenchmarkSlowest(b *testing.B) {
	for _, waiting := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprintf("spokes=10000/waiting=%d", waiting), func(b *testing.B) {
			h := newHub(b, Config{})
			for i := range 10_000 {
				if i < waiting {
					stall(b, h, "none:*")
				} else {
					connect(b, h, "none:*")
				}
			}
			h.Flush()
			b.ReportAllocs()
			for b.Loop() {
				if len(h.Slowest(20)) != 20 {
					b.Fatal("not 20")
				}
			}
		})
	}
}
