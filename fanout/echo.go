package fanout

import "github.com/alkdev/hub/codec"

// Echo takes one message that the connection has read, as Receive does, for a hub with Config.Echo:
// it goes back as it is, text as text and binary as binary, through the queue that events go through
// and in order. A peer that sends and does not read is closed as slow once Limits.SpokeBytes are
// queued, which must hold the largest message, or the hub's total is used up.
func (s *Spoke) Echo(op codec.Opcode, message []byte) {
	h := s.shard.hub
	it := &item{frame: codec.NewMessage(op, message), at: h.now(), policy: Disconnect} // a gap would be an event
	if err := h.reserve(it); err != nil {
		s.close(h.slowCause(codec.Problem(err)))
		return
	}
	s.shard.post(post{item: it, one: s})
}
