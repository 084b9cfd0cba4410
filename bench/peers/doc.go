// Package peers compares the hub with WebSocket servers by others, at the same broadcast job, beside
// the kernel's floor. It is a module of its own, so that what it needs stays out of the hub's go.mod.
//
//	make bench-peers                              Node's ws installed, and the table
//	ROUNDS=1 CLIENTS=100 FOR=200ms make bench-peers   the same as a try of half a minute
//	go test -C bench/peers ./...                  every peer delivers everything, in order
//
// Which servers there are, and which part of whose documentation each follows, is said in package
// servers and in node/server.mjs.
//
// # Method
//
// Each server runs in a process of its own, which is started anew for each round and number of
// clients. The clients are internal/fleet's: one thread in another process that reads and counts, on a
// core to itself; the server has the other cores. The publisher is this process, which has one
// WebSocket connection to the server like any client, but sends. It keeps a window: at most so many
// events are out that have not been read by every client. What the window allows at a moment it sends
// with one write(2). The floor reads its publisher from a socket too, so no server here is published to
// from within, and what a server spends on reading events is in its figures.
//
// Rounds alternate: each round goes through all servers, so that a slow minute of the machine does not
// fall on one alone. A figure is the median of the rounds, a ratio the median of the ratios to the
// floor of the same round.
//
//	-rounds   how often each is measured
//	-clients  numbers of clients, separated by commas
//	-for      how long each window is kept full, at least; two windows are always sent
//	-peers    only these, separated by commas; the floor is always measured
//	-out      a file for the table, which also goes to standard output
//	-json     a file for the figures, from which bench/plots draws
//
// # What is measured
//
//	CPU/delivery   user and system time of the server's process for one message to one client, for
//	               windows 1, 4 and 64, and how many times the floor's that is
//	deliveries/s   while the window is kept full
//	p50, p99       from just before the publisher's write(2) to just after the client's read(2)
//	idle           what the server's resident memory grows by for a client that has connected and
//	               nothing else, both sides after a collection
//	lost           messages that were given up and clients that were cut off as slow, by the server's
//	               own count, the worst of all rounds
//
// # What is checked
//
// Every client must have got exactly the bytes that were published, once; one in 64 has every frame
// compared (in the tests every one). NATS joins messages into frames, so there every client's event
// numbers are read instead. A peer that does not run, loses something or stalls ends its round there:
// what it lost stands in its row, and the reason below the table.
package peers
