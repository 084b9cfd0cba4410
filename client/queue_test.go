package client

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestQueueIsBoundedInBytes(t *testing.T) {
	q := queue{limit: 10}
	require.Nil(t, q.head())
	require.True(t, q.push([]byte("aaaa")))
	require.True(t, q.push([]byte("bbbbbb"))) // exactly full
	require.False(t, q.push([]byte("c")))
	require.Equal(t, "aaaa", string(q.head()))
	q.pop()
	require.False(t, q.push([]byte("ccccc")))
	require.True(t, q.push([]byte("cccc")))
	q.pop()
	require.Equal(t, "cccc", string(q.head()))
	q.pop()
	require.Nil(t, q.head())
	require.Zero(t, q.bytes)
}

func TestEventsDispatchedWhileAwayAreSentInOrder(t *testing.T) {
	size := len(wire("tick", "10", ""))
	opts := Options{QueueBytes: 20 * size, BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond}
	status := statuses(&opts)
	h := newHub(t)
	c, s := h.dial(opts)
	require.Equal(t, Connected, receive(t, status).State)
	h.refuseWith(503)
	require.NoError(t, s.ws.Close(websocket.StatusGoingAway, ""))
	require.Equal(t, Waiting, receive(t, status).State)

	for i := range 20 {
		require.NoError(t, c.Dispatch(event("tick", fmt.Sprint(i+10), "")))
	}
	require.ErrorIs(t, c.Dispatch(event("tick", "99", "")), ErrQueueFull)
	h.refuseWith(0)
	s = h.accept()
	for i := range 20 {
		s.expect(wire("tick", fmt.Sprint(i+10), ""))
	}
	require.Eventually(t, func() bool { // the write is over a moment later
		return c.Dispatch(event("tick", "end", "")) == nil
	}, patience, time.Millisecond)
	s.expect(wire("tick", "end", ""))
}

// On a pipe a write lasts until it has been read: the hub goes away in the middle of one.
func TestEventWhoseWriteFailedIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		c, s := h.dial(Options{})
		require.NoError(t, c.Dispatch(event("tick", "1", "")))
		require.NoError(t, c.Dispatch(event("tick", "2", "")))
		synctest.Wait()
		require.NoError(t, s.ws.CloseNow())
		h.accept().expect(wire("tick", "1", ""), wire("tick", "2", ""))
	})
}

func TestHubThatTakesNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		opts := Options{Timeout: 7 * time.Second}
		status := statuses(&opts)
		c, _ := h.dial(opts)
		require.Equal(t, Connected, receive(t, status).State)
		began := time.Now()
		require.NoError(t, c.Dispatch(event("tick", "1", "")))
		waiting := receive(t, status)
		require.Equal(t, 7*time.Second, time.Since(began))
		closed := (*CloseError)(nil)
		require.ErrorAs(t, waiting.Err, &closed)
		require.Equal(t, LocalSide, closed.Side)
		require.ErrorIs(t, closed, context.DeadlineExceeded)
		h.accept().expect(wire("tick", "1", ""))
	})
}

func TestClosedClientTakesNothing(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	go s.drainUntilClosed()
	require.NoError(t, c.Close(codec.CloseNormal, ""))
	require.ErrorIs(t, c.Dispatch(event("tick", "1", "")), ErrClosed)
	require.ErrorIs(t, c.Subscribe("tick:1"), ErrClosed)
	require.ErrorIs(t, c.Unsubscribe("tick:1"), ErrClosed)
}
