package loop

import (
	"sync"

	"golang.org/x/sys/unix"
)

// revisits are the connections of a poller that have more to be worked on than a turn had time for, while their
// sockets may have nothing more to say: those with TLS, of which a record is opened as a whole. The poller has
// an eventfd for them, which it finds readable, among its sockets, as long as there are any. So they have their
// turns like those that have left what they have sent in the kernel.
type revisits struct {
	engine *engine
	event  *socket // in the engine, so that a poller knows of it; its descriptor is an eventfd's

	mu sync.Mutex // under it only the socket's own is locked
	// +checklocks:mu
	line []*conn
	// +checklocks:mu
	readable bool // the eventfd
}

// startRevisits makes one for each poller. The descriptor chooses the poller, as in awaken.
func (e *engine) startRevisits() error {
	e.revisits = make([]*revisits, e.nb.NPoller)
	var others []int
	defer func() {
		for _, fd := range others {
			_ = unix.Close(fd)
		}
	}()
	for left := len(e.revisits); left > 0; {
		fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			return err
		}
		place := &e.revisits[fd%len(e.revisits)]
		if *place != nil {
			others = append(others, fd) // kept, so that the next has another
			continue
		}
		r := &revisits{engine: e}
		r.event = socketOf(fd, r)
		*place = r
		left--
		if err := e.add(r.event); err != nil {
			return err
		}
	}
	return nil
}

// revisit gives c another turn, unless it waits for one already.
func (e *engine) revisit(c *conn) {
	if c.set(flagRevisit) {
		e.revisits[c.sock.Hash()%len(e.revisits)].enter(c)
	}
}

func (r *revisits) enter(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = append(r.line, c)
	if !r.readable {
		r.readable = true
		r.control(unix.Write, 1)
	}
}

// onReady gives each of those that wait a turn. It runs on their poller.
func (r *revisits) onReady() {
	r.mu.Lock()
	line := r.line
	r.line = nil
	r.mu.Unlock()
	for _, c := range line {
		c.flags.And(^uint32(flagRevisit))
		if closed, _ := c.sock.IsClosed(); !closed { // or it is its poller's no longer, see rests
			r.engine.read(c.sock, c)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.line) == 0 {
		r.readable = false
		r.control(unix.Read, 0)
	}
}

// control writes a number to the eventfd, which makes it readable, or reads it, which ends that.
func (r *revisits) control(call func(int, []byte) (int, error), n byte) {
	withDescriptor(r.event, func(fd int) {
		_, _ = call(fd, []byte{n, n, n, n, n, n, n, n})
	})
}
