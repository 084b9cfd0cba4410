// Package cluster makes hubs on several machines act as one, over an engine that exists: NATS, Redis, or what
// else implements Engine.
//
// A Member is one hub's part in it. What is dispatched at its hub it gives to the engine, in order, on a
// goroutine of its own; what arrives it gives to its hub's spokes. It asks the engine for what its
// hub's spokes want and no more. Hubs know each other by their beats, a message from each in a second,
// which also say what each could not pass on.
//
// Three parts can be exchanged: the Engine that carries messages, the Format of the messages and of
// the subjects they are published under, and, in fanout, the hub.
package cluster
