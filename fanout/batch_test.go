package fanout

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestBatchKeepsItsOrder(t *testing.T) {
	h := newHub(t, Config{Shards: 2})
	a, ka := connect(t, h)
	_, kb := connect(t, h, "tick:2")
	r, err := h.DispatchBatch([]codec.Envelope{event("tick", "1", 10), event("tick", "2", 10), event("tick", "3", 10)})
	require.NoError(t, err)
	require.Equal(t, 4, r.Matched)
	r, err = a.DispatchBatch([]codec.Envelope{event("to", "a", 10), event("to", "b", 10)})
	require.NoError(t, err)
	require.Equal(t, 2, r.Matched)
	h.Flush()
	require.Equal(t, []string{"tick:1", "tick:2", "tick:3", "to:a", "to:b"}, ka.topics(t))
	require.Equal(t, []string{"tick:2"}, kb.topics(t))
	require.Zero(t, h.Stats().PendingBytes)

	a.Detach(Cause{})
	r, err = a.DispatchBatch([]codec.Envelope{event("to", "a", 10)})
	require.NoError(t, err)
	require.Zero(t, r.Matched)
}

func TestBatchIsOneWrite(t *testing.T) {
	const spokes, events = 20, 8
	h := newHub(t, Config{Shards: 2})
	connectNull(t, h, spokes, nil)
	batch := make([]codec.Envelope, events)
	for i := range batch {
		batch[i] = event("tick", "1", 10)
	}
	for range 100 { // shards that run beside this goroutine do not get ahead of it
		before := h.Stats().Writes
		_, err := h.DispatchBatch(batch)
		require.NoError(t, err)
		h.Flush()
		require.EqualValues(t, spokes, h.Stats().Writes-before)
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	h := newHub(t, Config{Limits: Limits{SpokeBytes: 1000, TotalBytes: 3000 + 3*itemBytes}})
	s, k := connect(t, h)
	good := event("tick", "", 10)
	for _, test := range []struct {
		bad  codec.Envelope
		want error
	}{
		{event("__drain", "", 10), ErrReserved},
		{event("tick", "", 1000), ErrTooLarge},
		{event("ti:ck", "", 10), nil},
	} {
		for _, dispatch := range []func([]codec.Envelope) (Receipt, error){h.DispatchBatch, s.DispatchBatch} {
			_, err := dispatch([]codec.Envelope{good, good, test.bad, good})
			var one *BatchError
			require.ErrorAs(t, err, &one)
			require.Equal(t, 2, one.Index)
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			} else {
				require.True(t, errors.As(err, new(*codec.EnvelopeError)))
			}
		}
	}
	large := event("tick", "", 900)
	_, err := h.DispatchBatch([]codec.Envelope{good, large, large, large, large})
	require.ErrorIs(t, err, ErrBatchTooLarge)
	h.Flush()
	require.Empty(t, k.topics(t))
	require.Zero(t, h.Stats().PendingBytes)
}

func TestBatchWithoutRoomIsForLater(t *testing.T) {
	h := newHub(t, Config{Shards: 1, Limits: Limits{SpokeBytes: 1000, TotalBytes: 3000 + 3*itemBytes}})
	s, k := connect(t, h)
	large := event("tick", "", 900)
	var errs []error
	send := func(dispatch func([]codec.Envelope) (Receipt, error), events ...codec.Envelope) {
		_, err := dispatch(events)
		errs = append(errs, err)
	}
	h.shards[0].do(func() { // nothing is passed on meanwhile
		send(h.DispatchBatch, large, large)
		send(h.DispatchBatch, event("a", "", 10), large, large)
		send(s.DispatchBatch, event("a", "", 10), large, large)
		send(s.DispatchBatch, large)
	})
	require.Equal(t, []error{nil, ErrOverloaded, ErrOverloaded, nil}, errs)
	h.Flush()
	require.Len(t, k.topics(t), 3)
	h.Close()
	_, err := h.DispatchBatch([]codec.Envelope{large})
	require.ErrorIs(t, err, ErrClosed)
}
