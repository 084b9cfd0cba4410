// Package fanout is the hub: who is connected, who gets what, and what happens to the slow. It knows
// no socket: it meets a connection through the [Sink] that it declares.
//
// The path of an event: [Hub.Dispatch] encodes and frames it once, asks every shard's topic index
// who takes it, and posts the frame with that list of takers to the shard. The shard's goroutine
// takes everything posted and makes one pass: what goes to all its spokes is joined once, and each
// idle spoke gets the same bytes with a single [Sink.Write]. A spoke that still has bytes in flight
// gets references in its outbox instead, under the limits and policies of policy.go.
//
// Read hub.go, then pass.go.
package fanout
