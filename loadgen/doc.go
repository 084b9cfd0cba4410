// Package loadgen is the engine of hub bench: thousands of spokes in one process, a publisher, and a
// check of every spoke's stream. It prints nothing.
//
// [Run] goes through its phases in order, each in a file of its own: limits.go looks whether so many
// connections are possible, dial.go makes them, publish.go publishes, settle.go waits for what is
// under way and sees how it ended for the stalled spokes, report.go adds up. Meanwhile reader.go
// takes what arrives: one thread with epoll for many spokes, or over TLS a goroutine for each.
//
// Every event carries the id of the run, a number and the time at which it was published, so what is
// lost, doubled or out of order shows in the stream itself, and latency needs no second clock.
package loadgen
