package fanout

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShortPassesDoNotWaitForMore: the mutex is never given away, so nobody can post meanwhile.
func TestShortPassesDoNotWaitForMore(t *testing.T) {
	h := newHub(t, Config{Shards: 1})
	for _, takers := range []int{0, 1, quietYields*takersPerYield - 1} {
		sh := newShard(h, 0) // without a goroutine
		sh.mu.Lock()
		sh.inbox = []post{{item: &item{}}, {takers: make([]*Spoke, takers)}}
		posted := make(chan struct{})
		go func() {
			sh.post(post{})
			close(posted)
		}()
		sh.gatherLocked()
		require.Len(t, sh.inbox, 2, "%d takers", takers)
		sh.mu.Unlock()
		<-posted
	}
}
