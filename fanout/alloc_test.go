package fanout

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// nullSink takes everything at once.
type nullSink struct{}

func (nullSink) Write([]byte) (int, error) { return 0, nil }
func (nullSink) Close(Cause)               {}
func (nullSink) Remote() string            { return "" }

// connectNull attaches n spokes that take everything, each with the topics that it is given.
func connectNull(t testing.TB, h *Hub, n int, topics func(i int) []codec.Pattern) []*Spoke {
	t.Helper()
	spokes := make([]*Spoke, n)
	for i := range spokes {
		var of []codec.Pattern
		if topics != nil {
			of = topics(i)
		}
		spokes[i] = h.NewSpoke(nullSink{})
		require.NoError(t, spokes[i].Attach(of...))
	}
	h.Flush()
	return spokes
}

// flusher is Hub.Flush without what that allocates.
func flusher(h *Hub) func() {
	ranc := make(chan struct{})
	ran := func() { ranc <- struct{}{} }
	return func() {
		for _, sh := range h.shards {
			sh.post(post{op: opDo, do: ran})
			<-ranc
		}
	}
}

func TestSteadyTrafficAllocatesPerDispatchOnly(t *testing.T) {
	const spokes = 100
	h := newHub(t, Config{Shards: 2})
	attached := connectNull(t, h, spokes, func(i int) []codec.Pattern {
		return []codec.Pattern{pattern(t, "all:*"), pattern(t, "one:"+strconv.Itoa(i))}
	})
	flush := flusher(h)
	for _, test := range []struct {
		name   string
		pin    float64
		action func()
	}{
		// The item, its frame, the frame's bytes and its topic.
		{"broadcast", 4, func() { _, _ = h.Dispatch(event100) }},
		{"broadcast of three at once", 12, func() {
			for range 3 {
				_, _ = h.Dispatch(event100)
			}
		}},
		{"to all but one", 4, func() { _, _ = h.DispatchExcept(attached[7], event100) }},
		{"by a topic of one", 4, func() { _, _ = h.Dispatch(eventOne) }},
		{"to one", 4, func() { _, _ = attached[7].Dispatch(event100) }},
		{"to nobody", 4, func() { _, _ = h.Dispatch(eventNone) }},
		{"broadcast and to one", 8, func() {
			_, _ = h.Dispatch(event100)
			_, _ = attached[7].Dispatch(eventNone)
		}},
	} {
		allocs := testing.AllocsPerRun(200, func() {
			test.action()
			flush()
		})
		if !raceEnabled { // the detector allocates
			require.Equal(t, test.pin, allocs, test.name)
		}
	}
}

var (
	event100  = event("all", "1", 100)
	eventOne  = event("one", "7", 100)
	eventNone = event("none", "1", 100)
)
