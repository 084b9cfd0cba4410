package fanout

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyLongPassesWaitForTheRestOfABurst(t *testing.T) {
	h := newHub(t, Config{Shards: 1})
	for _, test := range []struct {
		takers int
		waits  bool
	}{
		{0, false}, {1, false}, {quietYields*takersPerYield - 1, false}, {quietYields * takersPerYield, true}, {10000, true},
	} {
		sh := newShard(h, 0) // without a goroutine
		sh.inbox = []post{{item: &item{}}, {takers: make([]*Spoke, test.takers)}}
		sh.mu.Lock()
		// It can be had meanwhile by others if and only if it is given away.
		done := make(chan struct{})
		go func() {
			defer close(done)
			sh.mu.Lock()
			sh.inbox = append(sh.inbox, post{})
			sh.mu.Unlock()
		}()
		before := len(sh.inbox)
		sh.gatherLocked()
		if !test.waits {
			require.Len(t, sh.inbox, before, "%d takers", test.takers)
		}
		sh.mu.Unlock()
		<-done
	}
}
