package client

import (
	"bytes"
	"log/slog"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestListenersMatchByPatternInTheOrderAdded(t *testing.T) {
	patterns := []string{"tick:42", "*", "tick:", "tick:*", "order:1", "tick:42", "*"}
	for _, c := range []struct {
		event codec.Envelope
		want  []int // indexes into patterns
	}{
		{event("tick", "42", ""), []int{0, 1, 2, 3, 5, 6}},
		{event("tick", "43", ""), []int{1, 2, 3, 6}},
		{event("tick", "", ""), []int{1, 2, 3, 6}},
		{event("tick", "*", ""), []int{1, 2, 3, 6}}, // its topic is spelt like a pattern: once each
		{event("tick", "42:1", ""), []int{1, 2, 3, 6}},
		{event("order", "1", ""), []int{1, 4, 6}},
		{event("ticks", "42", ""), []int{1, 6}},
		{event("*", "", ""), []int{1, 6}},
	} {
		var ls listeners
		var got []int
		for i, pattern := range patterns {
			p, err := codec.ParsePattern(pattern)
			require.NoError(t, err)
			ls.add(p, func(codec.Envelope) { got = append(got, i) })
		}
		for _, l := range ls.appendFor(nil, c.event) {
			l.fn(c.event)
		}
		require.Equal(t, c.want, got, c.event.Topic())
	}
}

func TestRemovingTheLastListenerLeavesNothing(t *testing.T) {
	var ls listeners
	a, b := ls.add(codec.Everything, nil), ls.add(codec.Everything, nil)
	require.True(t, ls.remove(a))
	require.False(t, ls.remove(a))
	require.Equal(t, []*listener{b}, ls.appendFor(nil, event("tick", "1", "")))
	require.True(t, ls.remove(b))
	require.Empty(t, ls.byPattern)
}

func TestRemoveTwiceIsHarmless(t *testing.T) {
	got := make(chan string, 10)
	c, s := newHub(t).dial(Options{})
	listen := func(name string) func() {
		remove, err := c.AddListener("tick:1", func(codec.Envelope) { got <- name })
		require.NoError(t, err)
		return remove
	}
	removeA := listen("a")
	listen("b")
	removeA()
	removeA()
	s.send(wire("tick", "1", ""), wire("tick", "1", ""))
	require.Equal(t, "b", receive(t, got))
	require.Equal(t, "b", receive(t, got))
}

func TestListenerRemovedByAnEarlierOneIsNotCalled(t *testing.T) {
	got := make(chan string, 10)
	c, s := newHub(t).dial(Options{})
	var removeB func()
	_, err := c.AddListener("tick:", func(codec.Envelope) { removeB(); got <- "a" })
	require.NoError(t, err)
	removeB, err = c.AddListener("tick:", func(codec.Envelope) { got <- "b" })
	require.NoError(t, err)
	_, err = c.AddListener("end:", func(codec.Envelope) { got <- "end" })
	require.NoError(t, err)
	s.send(wire("tick", "1", ""), wire("end", "", ""))
	require.Equal(t, "a", receive(t, got))
	require.Equal(t, "end", receive(t, got))
}

func TestAddListenerRefusesWhatIsNoPattern(t *testing.T) {
	c, _ := newHub(t).dial(Options{})
	for _, pattern := range []string{"", "tick", ":1", "__gap:"} {
		_, err := c.AddListener(pattern, func(codec.Envelope) {})
		require.Error(t, err, pattern)
	}
}

func TestPanicInACallbackIsContainedAndLogged(t *testing.T) {
	var log bytes.Buffer // written by the reading goroutine, read behind the channel
	got := make(chan string, 10)
	c, s := newHub(t).dial(Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		OnGap:  func(*Client, codec.Gap) { panic("at the gap") },
	})
	_, err := c.AddListener("tick:", func(codec.Envelope) { panic("at the tick") })
	require.NoError(t, err)
	_, err = c.AddListener("tick:", func(codec.Envelope) { got <- log.String() })
	require.NoError(t, err)
	s.send(wire("__gap", "", "{}"), wire("tick", "1", ""))
	logged := receive(t, got)
	require.Contains(t, logged, "at the gap")
	require.Contains(t, logged, "callback=OnGap")
	require.Contains(t, logged, "at the tick")
	require.Contains(t, logged, "callback=tick:*")
	require.Contains(t, logged, "listeners_test.go", "the stack")
}

// A test's FailNow does this.
func TestCallbackThatEndsItsGoroutineEndsTheClient(t *testing.T) {
	c, s := newHub(t).dial(Options{OnEvent: func(*Client, codec.Envelope) { runtime.Goexit() }})
	s.send(wire("tick", "1", ""))
	receive(t, c.Done())
	require.ErrorContains(t, c.Err(), "callback")
	require.ErrorIs(t, c.Dispatch(event("tick", "1", "")), ErrClosed)
}
