package hostile

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A poller waits in a system call, and keeps its place in Go's scheduler until that is found to take long. With
// one place only, what it has made ready to run, the shard with the answer, would wait as long: up to
// 10 ms, for nothing.
func TestARoundTripDoesNotWaitForTheSchedulerWithOneProcessor(t *testing.T) {
	form := formNow()
	if !form.Long {
		t.Skip("times mean nothing beside other tests: make hostile")
	}
	form.asks = time.Millisecond
	median := func(procs string) time.Duration {
		t.Setenv("GOMAXPROCS", procs)
		g := newGroup(t, startHub(t, patient...), form)
		s := g.measure(form.during)
		middle := g.waits.answers[len(g.waits.answers)/2] // measure has sorted them
		t.Logf("GOMAXPROCS=%s: answers %v in the middle, %v p99; events %v p99", procs, middle, s.Answers, s.Events)
		return middle
	}
	one, two := median("1"), median("2")
	require.Less(t, one, 3*two+time.Millisecond)
}
