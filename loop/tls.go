package loop

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
	"unsafe"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/verify"
)

// secureConn is a conn with TLS: crypto/tls over a transport, without a goroutine once the handshake is done.
// It is the fanout.Sink of its spoke, so that a conn without TLS pays nothing for those that have it.
//
// The reading side feeds what has arrived to tls.Conn.Read, which finds nothing when it has read all of
// it, an error that leaves the tls.Conn usable. Whoever has the writing side seals with tls.Conn.Write,
// into sealed, and then writes that. What tls.Conn.Read has to say, which is the answer to a key update or
// an alert, is sealed there too, in order, and goes out with what is written next.
type secureConn struct {
	conn // first, see conn.secure

	// The reading side.
	tls  *tls.Conn // nil before the first record is complete, and for a peer that does not speak TLS
	lent *loan     // nil between reads, but with flagPaused

	flooded bool // what has arrived during the handshake is not all that there was; see failFlooded

	inLine bool // guarded by the mutex of shakers

	mu sync.Mutex // under it only the socket's own is locked; tls.Conn's for writing is locked before it
	// +checklocks:mu
	sealed []byte // ciphertext that has to be written; nil mostly
	// +checklocks:mu
	writing bool // Write seals; what else is sealed waits for the next time
	// +checklocks:mu
	overflown bool // more had to be sealed than may wait; tls.Conn is of no use any more
	// +checklocks:mu
	shaking *shaking // nil but during the handshake
}

// secure returns the secureConn that c is the first field of. It has flagTLS.
func (c *conn) secure() *secureConn {
	verify.Check(c.has(flagTLS), "a connection without TLS is taken for one with it")
	return (*secureConn)(unsafe.Pointer(c))
}

// send is Write, with TLS if the connection has it. The hub calls Write of either itself.
func (c *conn) send(b []byte) (kept int, err error) {
	if c.has(flagTLS) {
		return c.secure().Write(b)
	}
	return c.Write(b)
}

// The first byte of what a TLS client and a client without TLS send.
const recordHandshake = 22

func looksLikeHTTP(first byte) bool { return 'A' <= first && first <= 'Z' }

const (
	recordHeader = 5
	// maxRecord is the largest ciphertext of a record, RFC 8446 section 5.2 and RFC 5246 section 6.2.3.
	maxRecord = 16<<10 + 2048
)

// onCiphertext takes what has arrived. b is overwritten, and not retained.
func (c *secureConn) onCiphertext(b []byte) {
	switch {
	case c.has(flagDeaf):
	case c.has(flagShaking):
		c.arrive(b)
	case c.tls != nil:
		c.read(b)
	default:
		c.onFirst(b)
	}
}

// onFirst collects the first record, which is the ClientHello: who does not say that much does not get a
// goroutine.
func (c *secureConn) onFirst(b []byte) {
	if c.head == nil && b[0] != recordHandshake {
		c.notTLS(b[0])
		return
	}
	if c.head != nil {
		c.head.Write(b)
		b = c.head.Bytes()
	}
	if len(b) < recordHeader {
		c.collect(b)
		return
	}
	if size := int(b[3])<<8 | int(b[4]); size <= maxRecord && len(b) < recordHeader+size {
		c.collect(b)
		return
	}
	if c.head == nil {
		c.collect(b)
	}
	c.startHandshake()
}

// notTLS ends the connection of a peer that does not speak TLS. If it speaks HTTP it is told so.
func (c *secureConn) notTLS(first byte) {
	if looksLikeHTTP(first) {
		c.refuse(newRefusal(http.StatusBadRequest, "this port speaks TLS: use wss:// or https://", RefusedTLS))
		return
	}
	c.giveUpTLS("what came first is no TLS handshake")
}

// giveUpTLS ends a connection that is not a spoke, behind what is sealed.
func (c *secureConn) giveUpTLS(problem string) {
	c.server.refusals.add(RefusedTLS)
	c.server.config.Logger.Debug("loop: tls", slog.String("peer", c.Remote()), slog.String("problem", problem))
	c.set(flagDeaf)
	c.setDue(c.server.config.CloseTimeout)
	_, err := c.flush()
	c.set(flagCloseSent)
	if err == nil && c.inFlight.Load() == 0 {
		c.closeSent()
	}
}

// Write implements fanout.Sink. Callers are those of conn.Write.
func (c *secureConn) Write(b []byte) (kept int, err error) {
	if c.tls == nil { // a peer without TLS is told so
		return c.conn.Write(b)
	}
	buf := sealedBuffers.Get().(*[]byte)
	c.mu.Lock()
	c.sealed, c.writing = append((*buf)[:0], c.sealed...), true
	c.mu.Unlock()
	_, failed := c.tls.Write(b)
	kept, err = c.flushInto(buf)
	if err == nil && failed != nil { // an alert was the last that is sent
		err = failed
		c.setCause(fanout.CauseOf(fanout.LocalSide, codec.CloseProtocolError, "tls: "+c.problem(failed)))
		c.hangUp()
	}
	return kept, err
}

// sealedBuffers are where what is written is sealed, and left in no longer than that.
var sealedBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxSealedBuffer bounds the buffers that are kept: a write of the hub, with what TLS adds.
const maxSealedBuffer = 192 << 10

// flushInto writes what is sealed, and takes its buffer back.
func (c *secureConn) flushInto(buf *[]byte) (kept int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.sealed
	c.sealed, c.writing = nil, false
	if len(b) > 0 {
		kept, err = c.conn.Write(b)
	}
	if cap(b) <= maxSealedBuffer {
		*buf = b[:0]
		sealedBuffers.Put(buf)
	}
	return kept, err
}

// flush writes what tls.Conn had to say of itself.
func (c *secureConn) flush() (kept int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.sealed
	c.sealed = nil
	if len(b) > 0 {
		kept, err = c.conn.Write(b)
	}
	return kept, err
}

// sayGoodbye sends close_notify, once everything else has left.
func (c *conn) sayGoodbye() {
	if !c.has(flagTLS) || c.has(flagShaking) {
		return
	}
	if s := c.secure(); s.tls != nil {
		_ = s.tls.CloseWrite() // there is none after a failed handshake, or an alert
		_, _ = s.flush()
	}
}

// transport is what the tls.Conn of a secureConn reads from and writes to.
type transport secureConn

// Read implements net.Conn. During the handshake it waits.
func (t *transport) Read(b []byte) (int, error) {
	c := (*secureConn)(t)
	if c.has(flagShaking) {
		return c.await(b)
	}
	if c.lent == nil || len(c.lent.in) == 0 {
		return 0, errNothing
	}
	n := copy(b, c.lent.in)
	c.lent.in = c.lent.in[n:]
	return n, nil
}

// What has been sealed and is not to be written at once is bounded: maxFlight during the handshake, and then
// maxAnswers, to key updates mostly, for which a peer may ask as often as it likes, and read none. Peers that are
// crypto/tls themselves take 16 in a row.
const (
	maxFlight  = 64 << 10
	maxAnswers = 4 << 10
)

var errBacklog = errors.New("too many answers that wait for something to be sent")

// Write implements net.Conn. It is called with tls.Conn's lock for writing held, so in the order in which
// records were sealed.
func (t *transport) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := maxFlight
	if t.shaking == nil {
		limit = maxAnswers
	}
	if !t.writing && len(t.sealed)+len(b) > limit {
		t.overflown = true
		return 0, errBacklog
	}
	t.sealed = append(t.sealed, b...)
	return len(b), nil
}

// Close implements net.Conn. Nobody calls it: connections end by hangUp.
func (t *transport) Close() error { return nil }

// LocalAddr implements net.Conn. Nobody asks.
func (t *transport) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn, for the callbacks of a tls.Config.
func (t *transport) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: (*secureConn)(t).addr().AsSlice(), Port: int(t.port)}
}

// Deadlines are the sweep's.

// SetDeadline implements net.Conn.
func (t *transport) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (t *transport) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }
