package fanout

import (
	"errors"
	"fmt"

	"github.com/alkdev/hub/codec"
)

// Receipt says what became of a dispatched event.
type Receipt struct {
	// Matched is how many spokes of this hub took it on.
	Matched int
	// NotForwarded: other hubs do not get it, for they cannot be reached.
	NotForwarded bool
}

// Dispatch sends an event to every spoke that wants it. It never blocks. Events that one goroutine
// dispatches reach each spoke in that order. The payload is copied. The error is a
// *codec.EnvelopeError or one of those above; then nothing was sent.
func (h *Hub) Dispatch(e codec.Envelope) (Receipt, error) { return h.DispatchExcept(nil, e) }

// DispatchExcept is Dispatch to all but one spoke, for an event that came from it.
func (h *Hub) DispatchExcept(s *Spoke, e codec.Envelope) (Receipt, error) {
	it, err := h.newItem(e)
	if err != nil {
		return Receipt{}, err
	}
	it.except = s
	if err := h.reserve(it); err != nil {
		return Receipt{}, err
	}
	forwarded := true
	if h.config.Cluster != nil {
		if forwarded, err = h.forward(it); err != nil {
			return Receipt{}, err
		}
	}
	return Receipt{Matched: h.fanOut(it), NotForwarded: !forwarded}, nil
}

// fanOut posts items that have been reserved to the shards that hold takers, all of them at once: a
// shard that sleeps is woken for one pass.
func (h *Hub) fanOut(items ...*item) (matched int) {
	h.dispatched.Add(uint64(len(items)))
	for _, sh := range h.shards {
		matched += sh.dispatch(items)
	}
	for _, it := range items {
		h.passed(it)
	}
	return matched
}

// DispatchTo sends an event to the spoke with the given id alone, on whichever hub it is. It reports
// whether there is one; of another hub's, whether that hub is there: Carry waits for its answer.
func (h *Hub) DispatchTo(id string, e codec.Envelope) (found bool, err error) {
	if h.Elsewhere(id) {
		if e.Reserved() {
			return false, ErrReserved
		}
		if err := e.Check(); err != nil {
			return false, err
		}
		err := h.config.Cluster.Send(id, Order{Events: []codec.Envelope{e}}, nil)
		if errors.Is(err, ErrNoSpoke) {
			return false, nil
		}
		return err == nil, err
	}
	if s := h.Spoke(id); s != nil {
		r, err := s.Dispatch(e)
		return r.Matched > 0, err
	}
	return false, e.Check()
}

// newItem encodes and frames an event, once.
func (h *Hub) newItem(e codec.Envelope) (*item, error) {
	if h.closed.Load() {
		return nil, ErrClosed
	}
	if e.Reserved() {
		return nil, ErrReserved
	}
	f, err := codec.NewFrame(e, h.config.Opcode)
	if err != nil {
		return nil, err
	}
	if int64(f.Len()) > h.config.Limits.SpokeBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit", ErrTooLarge, f.Len(), h.config.Limits.SpokeBytes)
	}
	return &item{frame: f, at: h.now(), policy: h.policyOf(e.Type)}, nil
}

func (h *Hub) policyOf(typ string) Policy {
	if len(h.config.PolicyFor) > 0 {
		if p, ok := h.config.PolicyFor[typ]; ok {
			return p
		}
	}
	return h.config.Policy
}

func reservedFrame(op codec.Opcode, e codec.Envelope) *codec.Frame {
	f, err := codec.NewFrame(e, op)
	if err != nil {
		panic("fanout: bad event of the hub's own: " + err.Error())
	}
	return f
}

func (h *Hub) reservedItem(e codec.Envelope) *item {
	return &item{frame: reservedFrame(h.config.Opcode, e), at: h.now(), reserved: true}
}

// reserve counts it as waiting for its first pass, once for the caller, if there is room.
func (h *Hub) reserve(it *item) error {
	if h.pendingBytes.Add(it.memory()) > h.totalBytes.Load() {
		h.pendingBytes.Add(-it.memory())
		return ErrOverloaded
	}
	it.pending.Store(1)
	return nil
}

// passed counts off one of those that it waited for.
func (h *Hub) passed(it *item) {
	if !it.reserved && it.pending.Add(-1) == 0 {
		h.pendingBytes.Add(-it.memory())
	}
}
