package fanout

import "github.com/alkdev/hub/codec"

// Sink is what the hub needs from a connection. Its methods are called by one goroutine at a time,
// the shard's, and must not block.
type Sink interface {
	// Write hands b to the kernel as far as it takes it, and keeps a copy of the rest; b is not
	// retained. It returns how many bytes it kept. If it kept any, the sink calls Spoke.Written
	// once when the last of them has left, and Write is not called before that, but for the rest of
	// a frame that a close must not cut. After an error the sink takes nothing more.
	Write(b []byte) (kept int, err error)

	// Close sends a close frame with code and reason behind what was written, and ends the
	// connection when the peer has answered or a short time has passed. Later calls do nothing.
	Close(code codec.CloseCode, reason string)

	// Remote returns the peer's address, for operators. It may be called from any goroutine.
	Remote() string
}
