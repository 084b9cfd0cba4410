// Package servers holds what bench/peers compares: the same broadcast job, done by this module's hub,
// by bare system calls, and by the WebSocket servers of others, each set up as its own documentation
// recommends. Each is in a file of its own, whose comment says which part of which documentation that
// is.
//
// # The job
//
// Clients connect to /ws and say nothing. One publisher connects to /publish; every message that it
// sends goes to every client as it is. NATS knows no paths: there clients subscribe to a subject and
// the publisher publishes on it.
//
// # What is the same for all
//
//   - Plain TCP on a loopback port, no TLS, no compression.
//   - A client that is registered is told so, with one message, so that nobody begins to publish
//     before that.
//   - No pings and no idle deadlines within a run: the clients would have to tell pings from events.
//     Timers that the documentation recommends for them are there, set to Forever.
//   - One process, told by its parent when to end, which then just ends.
package servers

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// The paths that clients and the publisher ask for.
const (
	PathOfClients   = "/ws"
	PathOfPublisher = "/publish"
)

// Forever is longer than any run.
const Forever = 24 * time.Hour

// queued is how many messages a client may lag behind where a server has a queue of a fixed length
// per client: what gorilla's example has, and more than any window.
const queued = 256

// greeting is what a client gets once it is registered.
const greeting = "{}"

// Server is one that runs.
type Server struct {
	// Address is IPv4 with a port.
	Address string
	// Lost returns how many messages to clients were given up, and how many clients were cut off
	// because they were slow. A nil Lost stands for a server that does neither.
	Lost func() (messages, clients uint64)
}

// listen opens a loopback port the way net/http would.
func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// serve runs a net/http server for clients and the publisher until the process ends.
func serve(clients, publisher http.HandlerFunc) (string, error) {
	ln, err := listen()
	if err != nil {
		return "", err
	}
	go func() { _ = http.Serve(ln, mux(clients, publisher)) }()
	return ln.Addr().String(), nil
}

func mux(clients, publisher http.HandlerFunc) *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc(PathOfClients, clients)
	m.HandleFunc(PathOfPublisher, publisher)
	return m
}

// roster is who is connected, for servers whose documentation leaves that to their users.
type roster[C comparable] struct {
	mu      sync.Mutex
	members map[C]struct{}
}

func newRoster[C comparable]() *roster[C] { return &roster[C]{members: make(map[C]struct{})} }

func (r *roster[C]) add(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[c] = struct{}{}
}

func (r *roster[C]) remove(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, c)
}

// each calls fn, which must not come back here, for every member.
func (r *roster[C]) each(fn func(C)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.members {
		fn(c)
	}
}
