package fanout

import "time"

// Sink is what the hub needs from a connection. Its methods are called by one goroutine at a time,
// the shard's, and must not block.
type Sink interface {
	// Write hands b to the kernel as far as it takes it, and keeps a copy of the rest; b is not
	// retained. It returns how many bytes it kept. If it kept any, the sink calls Spoke.Written
	// once when the last of them has left, and Write is not called before that, but for the rest of
	// a frame that a close must not cut. After an error the sink takes nothing more.
	Write(b []byte) (kept int, err error)

	// Close sends a close frame with the cause's code and reason behind what was written, and ends the
	// connection when the peer has answered or a short time has passed. Unless something else has ended it
	// before, Spoke.Detach is called with this cause. Later calls do nothing.
	Close(cause Cause)

	// Remote returns the peer's address, for operators. It may be called from any goroutine.
	Remote() string
}

// KernelSink is a Sink that can tell what the kernel knows of its connection. Kernel may be called from
// any goroutine; ok is false once the connection is gone.
type KernelSink interface {
	Kernel() (k Kernel, ok bool)
}

// Kernel is what the kernel knows of a connection.
type Kernel struct {
	RTT         time.Duration `json:"rttNanos"` // smoothed round trip
	RTTVar      time.Duration `json:"rttVarNanos"`
	Retransmits uint64        `json:"retransmits"` // segments sent again, in all
	Unacked     uint64        `json:"unacked"`     // segments sent and not acknowledged
	Unsent      int64         `json:"unsentBytes"` // taken from us and not sent: the peer's window is full, or the way to it
}

// kernel returns what the kernel knows of the spoke's connection, nil if the sink cannot tell.
func (s *Spoke) kernel() *Kernel {
	if sink, ok := s.sink.(KernelSink); ok {
		if k, ok := sink.Kernel(); ok {
			return &k
		}
	}
	return nil
}
