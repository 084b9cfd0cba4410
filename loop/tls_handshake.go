package loop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/alkdev/hub/codec"
)

// shakers are the goroutines in which handshakes run: one costs a signature, and with it a few hundred
// microseconds that nobody else on a poller should have to wait, and tls.Conn keeps any error, so that its
// Read has to wait for what has not arrived. There are at most Config.TLSHandshakes; who comes on top of
// that stands in line, without a goroutine, until its turn or the end of Config.HandshakeTimeout.
type shakers struct {
	limit   int
	running sync.WaitGroup

	mu sync.Mutex // a leaf
	// +checklocks:mu
	busy int
	// +checklocks:mu
	line []*secureConn // first come, first served
	// +checklocks:mu
	left int // of those in line, the ones that are gone
	// +checklocks:mu
	done, failed uint64
}

// enter begins the handshake of c, or puts it in line.
func (s *shakers) enter(c *secureConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy == s.limit {
		s.line = append(s.line, c)
		c.inLine = true
		if c.has(flagGone) { // before, leave would not have found it there
			s.leaveLocked(c)
		}
		return
	}
	s.busy++
	s.running.Go(func() { // ends when nobody is in line; stop waits for it
		for c := c; c != nil; c = s.next() {
			ok := c.shake()
			s.count(ok)
		}
	})
}

// next returns who is first in line and still there, nil if nobody is.
func (s *shakers) next() *secureConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.line) > 0 {
		c := s.line[0]
		s.line[0], s.line = nil, s.line[1:]
		if !c.inLine {
			s.left--
			continue
		}
		c.inLine = false
		if !c.has(flagGone | flagCloseSent) {
			return c
		}
	}
	s.line = nil
	s.busy--
	return nil
}

// leave takes a connection that is gone out of the line, if it stands there: a peer that comes and goes would
// leave a ClientHello each time, for as long as those in front of it take.
func (s *shakers) leave(c *secureConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(c)
}

// leaveLocked marks its place as empty. Once half of them are, the line closes up.
func (s *shakers) leaveLocked(c *secureConn) {
	if !c.inLine {
		return
	}
	c.inLine = false
	if s.left++; 2*s.left > len(s.line) {
		s.line = slices.DeleteFunc(s.line, func(c *secureConn) bool { return !c.inLine })
		s.left = 0
	}
}

func (s *shakers) count(ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok {
		s.done++
	} else {
		s.failed++
	}
}

// shaking is what a handshake needs beside the tls.Conn.
type shaking struct {
	arrived sync.Cond     // secureConn.mu: there is something in input, or gone is set
	input   *bytes.Buffer // what tls.Conn has not read yet
	gone    bool          // the socket is closed
	flooded bool          // more has arrived than fits, and is lost
}

// maxEarly bounds what may have arrived and not been read during the handshake: a flight of the peer's, with
// its certificates, and the request behind it. What comes on top of that is thrown away: the handshake goes on
// with what there is, and the request is answered. To hang up on a peer that sends would leave it without
// an answer, and if it only sends, with a window of 0 for a minute: the kernel opens it for nobody any more.
const maxEarly = 64 << 10

var errFlooded = errors.New("too much came before the handshake was over")

// collect keeps the beginning of the first record.
func (c *secureConn) collect(b []byte) {
	if c.head == nil {
		c.head = bytes.NewBuffer(bytes.Clone(b))
	}
}

// startHandshake makes a handshake of what has been collected. It has the reading side.
func (c *secureConn) startHandshake() {
	sh := &shaking{input: c.head}
	c.head = nil
	sh.arrived.L = &c.mu
	c.mu.Lock()
	c.shaking = sh
	c.mu.Unlock()
	c.tls = tls.Server((*transport)(c), c.server.config.TLS)
	if c.flags.Or(flagShaking)&flagGone != 0 { // before, nobody would have told us
		return
	}
	c.server.shakers.enter(c)
}

// arrive leaves b for the handshake.
func (c *secureConn) arrive(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sh := c.shaking; sh.flooded || sh.input.Len()+len(b) > maxEarly {
		sh.flooded = true // from here on: what has a gap cannot be opened
	} else {
		sh.input.Write(b)
	}
	c.shaking.arrived.Signal()
}

// interrupt ends the handshake, if there is one, for the socket is closed.
func (c *secureConn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shaking != nil {
		c.shaking.gone = true
		c.shaking.arrived.Signal()
	}
}

// await reads what has arrived during the handshake. What has been sealed so far is a flight, which goes
// out before the peer's is waited for.
func (c *secureConn) await(b []byte) (n int, err error) {
	if _, err := c.flush(); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.shaking.input.Len() == 0 && !c.shaking.gone && !c.shaking.flooded {
		c.shaking.arrived.Wait()
	}
	switch {
	case c.shaking.gone:
		return 0, net.ErrClosed
	case c.shaking.input.Len() == 0:
		return 0, errFlooded
	}
	return c.shaking.input.Read(b)
}

// shake does the handshake, in a goroutine of shakers, and goes on with what came behind it. It reports
// whether it was successful.
func (c *secureConn) shake() bool {
	err := c.handshake()
	if !c.beginRead() {
		return false
	}
	if err == nil {
		_, err = c.flush() // what is left of our flight
	}
	c.mu.Lock()
	rest, flooded := c.shaking.input.Bytes(), c.shaking.flooded
	c.shaking = nil
	c.mu.Unlock()
	c.flags.And(^uint32(flagShaking))
	switch {
	case c.has(flagCloseSent): // it took too long
	case err != nil:
		c.giveUpTLS(tlsProblem(err))
	default:
		trim(c.tls)
		c.flooded = flooded
		c.lent = lend(c.tls, rest)
		c.open()
	}
	c.endRead()
	if c.has(flagPaused) {
		c.server.engine.revisit(&c.conn)
	}
	c.server.adopting.over()
	return err == nil
}

// handshake is tls.Conn.Handshake. A panic in a callback of Config.TLS ends this handshake alone.
func (c *secureConn) handshake() (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.server.config.Logger.Error("loop: panic in a TLS handshake", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = errors.New("an internal error")
		}
	}()
	return c.tls.Handshake()
}

// failFlooded ends a connection of which bytes are lost, if what came before them has not. It has the
// reading side.
func (c *secureConn) failFlooded() {
	switch {
	case c.has(flagDeaf):
	case c.has(flagUpgraded):
		c.fail(codec.ClosePolicy, errFlooded.Error())
	default:
		c.refuse(tooEarly)
	}
}

// stats returns what has been counted.
func (s *shakers) stats() TLSStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return TLSStats{Handshakes: s.done, Failed: s.failed, Running: s.busy, InLine: len(s.line) - s.left}
}
