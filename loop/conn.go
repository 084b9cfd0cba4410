package loop

import (
	"bytes"
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
	sock *socket

	inFlight atomic.Int64 // bytes given to the engine and not yet to the kernel; any goroutine
	spoke    fanout.Spoke // made by the upgrade, see flagSpoke

	// Set before the socket is added, read-only afterwards.
	server *Server
	ip     [16]byte // of the peer, zero if unknown; see believe
	port   uint16
	dear   uint8 // the reading side's: by how much portions are halved, see price
	began  stamp

	// The reading side.
	reader *codec.MessageReader // nil between messages
	head   *bytes.Buffer        // of the HTTP request, as long as it is not complete

	// Any goroutine, atomically.
	cause    atomic.Pointer[fanout.Cause] // the first one counts
	flags    atomic.Uint32                // see below
	lastRead atomic.Uint32                // a stamp
	due      atomic.Uint32                // a stamp: when a handshake or a closing connection is cut off

	spent    uint32 // the reading side's: microseconds, see allowance
	position int32  // in the registry, guarded by its mutex
	pingedAt stamp  // the sweep's
}

// The flags of a conn.
const (
	flagOpen          = 1 << iota // set up; before, nobody but its maker may touch it
	flagReading                   // somebody reads; see beginRead
	flagGone                      // the socket is closed
	flagSpoke                     // there is a spoke, though it may not be attached
	flagUpgraded                  // the spoke is attached
	flagCloseSent                 // Close has been called, or it is over without an upgrade
	flagCloseReceived             // the peer has sent a close frame
	flagDeaf                      // what the peer sends makes no sense any more, and is discarded
	flagSentAway                  // by Shutdown
	flagFinished                  // finish has run
	flagPinged                    // at pingedAt, and nothing read since; the sweep's
	flagFull                      // one connection too many: told so when its request is there
	flagFullForIP                 // the same for its address
	flagCompressed                // compression was negotiated; set before there is a spoke, if at all
	flagAsking                    // Config.Authenticate has been asked; what arrives is kept until it answers
	flagExpired                   // the spoke's time was up
	flagTLS                       // it is a secureConn; set when it is made
	flagShaking                   // a TLS handshake is under way, or in line
	flagPaused                    // more has been opened than there was time for; the reading side's, see secureConn.open
	flagRevisit                   // it waits for another turn; see revisits
	flagFirst                     // from a trusted proxy, and its first bytes have not been looked at
	flagCounted                   // among those from its address; guarded by the registry's mutex
	flagSuspended                 // not read from for a while, see allowance
	flagInRead                    // somebody is in the reading side; set only with HUB_VERIFY=1
	flagInWrite                   // the same for the writing side
)

func (c *conn) has(flag uint32) bool { return c.flags.Load()&flag != 0 }

// set sets a flag and reports whether it was not set before.
func (c *conn) set(flag uint32) bool { return c.flags.Or(flag)&flag == 0 }

// setCause notes how the connection ends, if nothing has been noted before.
func (c *conn) setCause(cause fanout.Cause) { c.cause.CompareAndSwap(nil, &cause) }

// Remote implements fanout.Sink.
func (c *conn) Remote() string {
	if addr := c.addr(); addr.IsValid() {
		return netip.AddrPortFrom(addr, c.port).String()
	}
	return ""
}

// addr returns the peer's address, invalid if it is unknown.
func (c *conn) addr() netip.Addr {
	if c.ip == [16]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom16(c.ip).Unmap()
}

// finish runs once, when the socket is closed and nobody reads any more.
func (c *conn) finish() {
	if !c.set(flagFinished) {
		return
	}
	c.server.conns.remove(c)
	if c.reader != nil {
		c.reader.Release() // not to the pool: it is in the middle of something
		c.reader = nil
	}
	if c.has(flagUpgraded) {
		c.setGone(endedWithoutClose)
		c.logEnd()
		c.spoke.Detach(*c.cause.Load())
	}
}

// enter returns a new connection, entered into the registry, and how many there are with it.
func (s *Server) enter(from netip.AddrPort, secure bool) (c *conn, total int) {
	if secure {
		c = &new(secureConn).conn
		c.set(flagTLS)
	} else {
		c = new(conn)
	}
	c.server, c.began, c.dear = s, s.now(), firstDear
	if from.Addr().IsValid() {
		c.ip, c.port = from.Addr().As16(), from.Port()
	}
	c.due.Store(uint32(c.began.after(s.config.HandshakeTimeout)))
	total = s.conns.add(c)
	if total > s.config.MaxSpokes {
		c.set(flagFull)
	}
	if !s.config.trusts(c.addr()) {
		s.countForIP(c)
	}
	return c, total
}

// countForIP counts c among those from its address, if that is to be and has not been done. For those
// from a trusted proxy the moment is when it is known whose address that is.
func (s *Server) countForIP(c *conn) {
	if s.config.MaxSpokesPerIP > 0 && s.conns.countForIP(c) > s.config.MaxSpokesPerIP {
		c.set(flagFullForIP)
	}
}

// registry holds every connection, for the sweep, for the limits and for draining.
type registry struct {
	mu sync.Mutex // a leaf
	// +checklocks:mu
	list []*conn
	// +checklocks:mu
	perIP map[addressKey]int // nil while addresses are not counted
}

// add enters c and returns how many connections there are.
func (r *registry) add(c *conn) (total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.position = int32(len(r.list))
	r.list = append(r.list, c)
	return len(r.list)
}

// countForIP returns how many connections there are from the address of c, with it; 0 if it has been counted
// before, or has none.
func (r *registry) countForIP(c *conn) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	addr := c.addr()
	if !addr.IsValid() || !c.set(flagCounted) {
		return 0
	}
	key := keyOf(addr)
	r.perIP[key]++
	return r.perIP[key]
}

func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := int32(len(r.list) - 1)
	if c.position > last || r.list[c.position] != c {
		return
	}
	moved := r.list[last]
	r.list[c.position], moved.position = moved, c.position
	r.list[last] = nil
	r.list = r.list[:last]
	if c.has(flagCounted) {
		key := keyOf(c.addr())
		if r.perIP[key]--; r.perIP[key] == 0 {
			delete(r.perIP, key)
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
