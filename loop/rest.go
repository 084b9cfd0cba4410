package loop

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that has hung up may have left more than one turn's work: megabytes, when it sends faster than the hub
// reads. The engine closes its socket all the same. So a duplicate of the descriptor keeps what is unread, and
// one goroutine for all of them works it off, in turns as a poller does: pollers have no long turns, and who
// sends and goes costs the others no more than who sends and stays.

// maxRests is how many peers may have left something at a time. What more of them have left is lost, as if
// their connections had ended a moment before.
const maxRests = 1024

// rest is what a peer has left. Whoever has it has the connection's reading side.
type rest struct {
	c     *conn
	fd    int
	until time.Time // what is still unread then is lost
}

// rests are worked off by a goroutine that ends when there are none.
type rests struct {
	mu sync.Mutex // a leaf
	// +checklocks:mu
	queue []rest
	// +checklocks:mu
	running bool
	// +checklocks:mu
	stopped bool

	workers sync.WaitGroup // one at most
}

// leave takes what the peer of a socket has left, if there is room, and closes the socket. It runs on the
// poller.
func (r *rests) leave(nb *socket, c *conn) {
	if c.beginRead() {
		fd := -1
		withDescriptor(nb, func(own int) { fd, _ = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0) })
		if fd < 0 || !r.put(rest{c: c, fd: fd, until: time.Now().Add(c.server.config.CloseTimeout)}) {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
			c.endRead()
		}
	}
	unpoll(nb) // the duplicate would keep it there
	_ = nb.CloseWithError(io.EOF)
}

// put reports whether there was room.
func (r *rests) put(one rest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || len(r.queue) >= maxRests {
		return false
	}
	r.queue = append(r.queue, one)
	if !r.running {
		r.running = true
		r.workers.Go(r.work)
	}
	return true
}

// work gives each a turn, until nothing is left.
func (r *rests) work() {
	buf := make([]byte, 16<<10)
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.queue, r.running = nil, false
			r.mu.Unlock()
			return
		}
		one, stopped := r.queue[0], r.stopped
		r.queue = r.queue[1:]
		r.mu.Unlock()
		if !stopped && one.turn(buf) {
			r.mu.Lock()
			r.queue = append(r.queue, one)
			r.mu.Unlock()
			continue
		}
		_ = unix.Close(one.fd)
		one.c.endRead()
	}
}

// turn reads for a turn's time, and reports whether there may be more.
func (r *rest) turn(buf []byte) (more bool) {
	for began := time.Now(); ; {
		if r.c.has(flagPaused) {
			r.c.secure().resume()
		} else {
			before := time.Now()
			part := buf[:r.c.portion(len(buf))]
			n, err := readNow(r.fd, part)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case n <= 0: // the end, or a reset
				return false
			}
			r.c.onBytes(part[:n])
			r.c.pricePlain(len(part), time.Since(before))
		}
		now := time.Now()
		if now.After(r.until) {
			return false
		}
		if now.Sub(began) >= turnTime {
			return true
		}
	}
}

// stop gives up what is left, and waits until nobody reads any more.
func (r *rests) stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.workers.Wait()
}
