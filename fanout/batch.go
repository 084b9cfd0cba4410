package fanout

import (
	"errors"
	"fmt"

	"github.com/alkdev/hub/codec"
)

// ErrBatchTooLarge: the frames of a batch have more than Limits.TotalBytes together.
var ErrBatchTooLarge = errors.New("fanout: batch is larger than the total buffer")

// A BatchError says which event of a batch was refused, and why.
type BatchError struct {
	Index int
	Err   error // what Dispatch of this event alone would have returned
}

func (e *BatchError) Error() string { return fmt.Sprintf("fanout: event %d: %v", e.Index, e.Err) }

func (e *BatchError) Unwrap() error { return e.Err }

// DispatchBatch dispatches events in their order, all of them or none, and nothing in between: a spoke
// that wants them all and is idle gets them with one write. It never blocks. Receipt.Matched is the sum over the events. The error is a *BatchError
// for one of them, ErrBatchTooLarge, ErrOverloaded or ErrNotForwarded; then nothing was sent.
func (h *Hub) DispatchBatch(events []codec.Envelope) (Receipt, error) {
	items, err := h.newBatch(events)
	if err != nil {
		return Receipt{}, err
	}
	forwarded := true
	if h.config.Cluster != nil {
		if forwarded, err = h.forward(items...); err != nil {
			return Receipt{}, err
		}
	}
	return Receipt{Matched: h.fanOut(items...), NotForwarded: !forwarded}, nil
}

// DispatchBatch is Hub.DispatchBatch to this spoke alone, see Dispatch.
func (s *Spoke) DispatchBatch(events []codec.Envelope) (Receipt, error) {
	if s.detached.Load() || s.shard.hub.config.Echo {
		return Receipt{}, nil
	}
	items, err := s.shard.hub.newBatch(events)
	if err != nil {
		return Receipt{}, err
	}
	posts := make([]post, len(items))
	for i, it := range items {
		posts[i] = post{item: it, one: s}
	}
	s.shard.post(posts...)
	return Receipt{Matched: len(items)}, nil
}

// newBatch encodes and frames events, and counts them as waiting, if there is room for all.
func (h *Hub) newBatch(events []codec.Envelope) ([]*item, error) {
	items := make([]*item, len(events))
	total, limit := int64(0), h.config.Limits.TotalBytes
	for i, e := range events {
		it, err := h.newItem(e)
		if err != nil {
			return nil, &BatchError{i, err}
		}
		items[i] = it
		total += it.memory()
	}
	if total > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit", ErrBatchTooLarge, total, limit)
	}
	if h.pendingBytes.Add(total) > h.totalBytes.Load() {
		h.pendingBytes.Add(-total)
		return nil, ErrOverloaded
	}
	for _, it := range items {
		it.pending.Store(1) // for the caller, as reserve does
	}
	return items, nil
}
