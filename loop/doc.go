// Package loop is the event loop: sockets in, frames out. It accepts connections, upgrades them to
// WebSockets, reads what they send and hands it to their spokes in package fanout, and writes what
// the hub has for them, all without a goroutine per connection.
//
// [Server.Serve] owns a port; [Server.Handler] takes over connections of any net/http server. A
// conn goes through listener.go, accept.go, handshake.go, conn_read.go and conn_close.go in that order;
// keepalive.go looks after all deadlines in one sweep. The engine below is nbio, met in nbio.go
// only.
package loop
