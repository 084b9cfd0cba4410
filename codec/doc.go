// Package codec is what goes over the wire: the event envelope, topics, the reserved events, and
// RFC 6455 frames and messages, compressed as in RFC 7692 where that was negotiated. It has no
// sockets, no locks but the one that makes a frame's compressed twin once, and no goroutines but the
// coroutines that inflate long messages as they arrive.
//
// An [Envelope] is the JSON object {"type","id","payload"}. A [Frame] is one envelope encoded and
// framed once, immutable from then on and shared by every spoke that gets it. A [MessageReader]
// turns the bytes of a connection back into messages.
package codec
