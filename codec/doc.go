// Package codec is what goes over the wire: the event envelope, topics, the reserved events, and
// RFC 6455 frames and messages. It has no sockets, no locks and no goroutines.
//
// An [Envelope] is the JSON object {"type","id","payload"}. A [Frame] is one envelope encoded and
// framed once, immutable from then on and shared by every spoke that gets it. A [MessageReader]
// turns the bytes of a connection back into messages.
package codec
