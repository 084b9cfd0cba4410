package loop

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/internal/verify"
)

// A poller serves its connections in turn, and what a spoke sends is worked on at once. So that one that
// sends without end, or what is dear to work on, does not keep the others waiting, a turn ends when
// its time is over, and a connection whose bytes have turned out to be dear is read in smaller portions:
// 64 KiB of compressed messages may be 30 MiB inflated.
const (
	// turnTime is how long a connection is read from before the others have a turn.
	turnTime = 100 * time.Microsecond
	// smallRead is the smallest portion; reads of less are not even timed.
	smallRead = 512
	// compressedRead bounds the portions of a spoke that may compress: before it is known how dear they
	// are, one of 64 KiB could keep a poller for a tenth of a second.
	compressedRead = 4 << 10
	// firstDear is how dear a connection is taken to be before that is known: a portion of 64 KiB may be ten
	// thousand messages. Who is cheap has whole portions after as many reads.
	firstDear = 4
	// cipherRead bounds the portions of a connection with TLS, as they arrive. What they cost is not known until
	// a record is complete, which is worked on in portions of its own then.
	cipherRead = 16 << 10
	// firstRead bounds what is read of a connection in the moment it is accepted: mostly a request.
	firstRead = 2 << 10
)

// portion returns how many bytes are read from c at once, into a buffer of size bytes.
func (c *conn) portion(size int) int {
	if c.has(flagTLS) {
		return min(size, cipherRead)
	}
	return c.affordable(size)
}

// affordable returns how many of size bytes are worked on at once. What is behind the request for a handshake
// may be compressed already.
func (c *conn) affordable(size int) int {
	f := c.flags.Load()
	if f&(flagCompressed|flagUpgraded) != flagUpgraded {
		size = min(size, compressedRead)
	}
	if f&flagUpgraded == 0 { // most of it is a request
		return size
	}
	return min(size, max(size>>c.dear, smallRead))
}

// pricePlain is price, but for TLS: that counts when records are opened.
func (c *conn) pricePlain(portion int, took time.Duration) {
	if !c.has(flagTLS) {
		c.price(portion, took)
	}
}

// price notes that a portion took so long to be worked on. The next are halved until they should take
// less than half a turn, or doubled if it took less than an eighth.
func (c *conn) price(portion int, took time.Duration) {
	if took < turnTime/8 && c.dear > 0 {
		c.dear--
	}
	for ; took > turnTime/2 && portion > smallRead; took, portion = took/2, portion/2 {
		c.dear++
	}
}

// read gives c what has arrived, for one turn. It runs on the poller.
func (e *engine) read(nb *socket, c *conn) {
	buf := e.nb.PollerBuffer(nb)
	if verify.On {
		e.checkPoller(buf)
	}
	if c.has(flagSuspended) { // and the engine has had it polled since
		if hungUp(nb) {
			e.rests.leave(nb, c)
			return
		}
		repoll(c)
		return
	}
	began := time.Now()
	before := began
	for c.beginRead() {
		now, more, err := before, true, error(nil)
		if c.has(flagPaused) { // this is what comes before what can be read
			c.secure().resume()
			now = time.Now()
		} else {
			n, part := 0, buf[:c.portion(len(buf))]
			if n, err = nb.Read(part); n > 0 {
				c.onBytes(part[:n])
			}
			if n >= smallRead {
				now = time.Now()
				c.pricePlain(len(part), now.Sub(before))
			}
			more = n == len(part) || c.has(flagPaused) // if not, also at the end: the engine closes on hang-up
		}
		wait := c.charge(now.Sub(before))
		c.endRead()
		before = now
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return
		case err != nil:
			_ = nb.CloseWithError(err)
			return
		case wait > 0, more && now.Sub(began) >= turnTime:
			e.endTurn(nb, c, wait)
			return
		case !more:
			return
		}
	}
}

// endTurn leaves what c has not been worked on of to its next turn, which comes after so long at the earliest, or
// to rests.
func (e *engine) endTurn(nb *socket, c *conn, wait time.Duration) {
	switch {
	case hungUp(nb):
		e.rests.leave(nb, c)
	case wait > 0:
		c.suspend(wait)
	case c.has(flagPaused):
		e.revisit(c)
	}
}

// hungUp reports whether the peer will send nothing more.
func hungUp(nb *socket) bool {
	nb.Lock()
	defer nb.Unlock()
	if closed, _ := nb.IsClosed(); closed {
		return true
	}
	fds := []unix.PollFd{{Fd: int32(nb.Hash()), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
