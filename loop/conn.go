package loop

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// conn is one connection, from accepted socket to closed descriptor. It is the fanout.Sink of its
// spoke.
//
// Write and Close belong to the spoke's shard. Whoever has set the flag reading owns the reading
// side, the poller mostly; the sweep looks on through atomics.
type conn struct {
	// Set before the socket is added, read-only afterwards.
	server *Server
	sock   *socket
	ip     netip.Addr // valid only while addresses are counted
	began  stamp
	// One connection too many, in all or from its address: told so when its request is there.
	full, fullForIP bool
	adopted         chan struct{} // closed by adopt; nil if the connection is from our own port

	// The reading side. spoke is nil until the upgrade, then never changes.
	spoke  *fanout.Spoke
	reader *codec.MessageReader // nil between messages
	head   []byte               // of the HTTP request, as long as it is not complete

	// Any goroutine, atomically.
	inFlight atomic.Int64                 // bytes given to the engine and not yet to the kernel
	flags    atomic.Uint32                // see below
	lastRead atomic.Uint32                // a stamp
	due      atomic.Uint32                // a stamp: when a handshake or a closing connection is cut off
	cause    atomic.Pointer[fanout.Cause] // the first one counts

	// The registry's, guarded by its mutex.
	position int
	// The sweep's.
	pingedAt stamp
	pinged   bool
}

// The flags of a conn.
const (
	flagOpen          = 1 << iota // set up; before, nobody but its maker may touch it
	flagReading                   // somebody reads; see beginRead
	flagGone                      // the socket is closed
	flagUpgraded                  // a spoke is attached; who sees it sees the spoke
	flagCloseSent                 // Close has been called, or it is over without an upgrade
	flagCloseReceived             // the peer has sent a close frame
	flagDeaf                      // what the peer sends makes no sense any more, and is discarded
	flagSentAway                  // by Shutdown
	flagFinished                  // finish has run
)

func (c *conn) has(flag uint32) bool { return c.flags.Load()&flag != 0 }

// set sets a flag and reports whether it was not set before.
func (c *conn) set(flag uint32) bool { return c.flags.Or(flag)&flag == 0 }

// setCause notes how the connection ends, if nothing has been noted before.
func (c *conn) setCause(cause fanout.Cause) { c.cause.CompareAndSwap(nil, &cause) }

func (c *conn) remote() string {
	if a := c.sock.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

func (c *conn) meta(topics []codec.Pattern) *fanout.Meta {
	return &fanout.Meta{Remote: c.remote(), Topics: topics}
}

// finish runs once, when the socket is closed and nobody reads any more.
func (c *conn) finish() {
	if !c.set(flagFinished) {
		return
	}
	c.server.conns.remove(c)
	c.reader = nil // not to the pool: it is in the middle of something
	if c.has(flagUpgraded) {
		c.spoke.Detach(*c.cause.Load())
	}
}

// enter returns a new connection, entered into the registry, and how many there are with it.
func (s *Server) enter(ip netip.Addr) (c *conn, total int) {
	c = &conn{server: s, began: s.now()}
	if s.config.MaxSpokesPerIP > 0 {
		c.ip = ip
	}
	c.due.Store(uint32(c.began.after(s.config.HandshakeTimeout)))
	total, fromIP := s.conns.add(c)
	c.full = total > s.config.MaxSpokes
	c.fullForIP = s.config.MaxSpokesPerIP > 0 && fromIP > s.config.MaxSpokesPerIP
	return c, total
}

// registry holds every connection, for the sweep, for the limits and for draining.
type registry struct {
	mu sync.Mutex // a leaf
	// +checklocks:mu
	list []*conn
	// +checklocks:mu
	perIP map[netip.Addr]int // nil while addresses are not counted
}

// add enters c and returns how many connections there are, and how many from its address.
func (r *registry) add(c *conn) (total, fromIP int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.position = len(r.list)
	r.list = append(r.list, c)
	if r.perIP != nil && c.ip.IsValid() {
		r.perIP[c.ip]++
		fromIP = r.perIP[c.ip]
	}
	return len(r.list), fromIP
}

func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.list) - 1
	if c.position > last || r.list[c.position] != c {
		return
	}
	moved := r.list[last]
	r.list[c.position], moved.position = moved, c.position
	r.list[last] = nil
	r.list = r.list[:last]
	if r.perIP != nil && c.ip.IsValid() {
		if r.perIP[c.ip]--; r.perIP[c.ip] == 0 {
			delete(r.perIP, c.ip)
		}
	}
}

func (r *registry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list)
}

// slice copies a part of the list, from an index on, into buf. Connections that come and go
// meanwhile may be seen twice or not at all.
func (r *registry) slice(from int, buf []*conn) []*conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from >= len(r.list) {
		return buf[:0]
	}
	return buf[:copy(buf[:cap(buf)], r.list[from:])]
}

// each calls fn for every connection, without holding the mutex.
func (r *registry) each(fn func(*conn)) {
	buf := make([]*conn, 0, 1024)
	for from := 0; ; from += len(buf) {
		if buf = r.slice(from, buf); len(buf) == 0 {
			return
		}
		for _, c := range buf {
			fn(c)
		}
	}
}

func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
