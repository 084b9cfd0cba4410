package enginetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// spoke is a part of the test that takes part in a hub.
type spoke struct {
	*fanout.Local
	mu  sync.Mutex
	got []codec.Envelope
}

func (n *node) spoke(t *testing.T, topics ...string) *spoke {
	t.Helper()
	s := &spoke{}
	l, err := n.hub.Connect(func(e codec.Envelope) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, e)
	}, patterns(t, topics...)...)
	require.NoError(t, err)
	s.Local = l
	t.Cleanup(l.Close)
	return s
}

func patterns(t *testing.T, topics ...string) (list []codec.Pattern) {
	t.Helper()
	for _, text := range topics {
		p, err := codec.ParsePattern(text)
		require.NoError(t, err)
		list = append(list, p)
	}
	return list
}

// stream returns what the spoke has got so far.
func (s *spoke) stream() []codec.Envelope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[:len(s.got):len(s.got)]
}

func (s *spoke) count(payload string) (n int) {
	for _, e := range s.stream() {
		if string(e.Payload) == payload {
			n++
		}
	}
	return n
}

// gaps returns how many gaps for the engine the spoke has been told of.
func (s *spoke) gaps(t *testing.T) (n int) {
	for _, e := range s.stream() {
		if isGap(t, e) {
			n++
		}
	}
	return n
}

func isGap(t *testing.T, e codec.Envelope) bool {
	if e.Type != codec.TypeGap {
		return false
	}
	var gap codec.Gap
	require.NoError(t, e.Decode(&gap))
	require.Equal(t, fanout.GapEngine, gap.Reason)
	return true
}

// number of an event of the test: which publisher, which event of it.
type number struct{ from, n int }

func (n number) payload() []byte { return fmt.Appendf(nil, "[%d,%d]", n.from, n.n) }

// checkStream holds that a spoke has events of each publisher in their order and none twice, and that where some are
// missing there is a gap, in between or at the latest some events later. It returns how many there are of each.
func checkStream(t *testing.T, s *spoke, publishers int, whole bool) []int {
	t.Helper()
	last := make([]int, publishers)
	counts := make([]int, publishers)
	holes, gaps := 0, 0
	for i := range last {
		last[i] = -1
	}
	for _, e := range s.stream() {
		if isGap(t, e) {
			gaps++
		}
		var n number
		if _, err := fmt.Sscanf(string(e.Payload), "[%d,%d]", &n.from, &n.n); err != nil {
			continue
		}
		require.Greater(t, n.n, last[n.from], "publisher %d: an event came twice, or before one that was dispatched before it", n.from)
		if n.n != last[n.from]+1 {
			holes++
		}
		last[n.from] = n.n
		counts[n.from]++
	}
	if whole {
		require.Zero(t, holes)
		require.Zero(t, gaps)
	} else if holes > 0 {
		require.NotZero(t, gaps, "events are missing at %d places, and nothing was said", holes)
	}
	return counts
}

// settleSpokes dispatches at each hub until every spoke has had something from each, and forgets what they got.
func settleSpokes(t *testing.T, nodes []*node, spokes ...*spoke) {
	t.Helper()
	meet(t, nodes...)
	for k, n := range nodes {
		for _, s := range spokes {
			eventually(t, "a first event arrives", func() bool {
				dispatch(t, n, codec.Envelope{Type: "tick", ID: "1", Payload: fmt.Appendf(nil, `"settle %d"`, k)})
				return s.count(fmt.Sprintf(`"settle %d"`, k)) > 0
			})
		}
	}
	for _, s := range spokes {
		s.mu.Lock()
		s.got = nil
		s.mu.Unlock()
	}
}

// dispatch dispatches an event, waiting for room.
func dispatch(t *testing.T, n *node, e codec.Envelope) fanout.Receipt {
	for {
		r, err := n.hub.Dispatch(e)
		if err == nil {
			return r
		}
		require.ErrorIs(t, err, fanout.ErrOverloaded)
		n.hub.Flush()
	}
}
