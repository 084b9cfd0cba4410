package bench

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clients is everything in the clients' process. One thread does it all.
type clients struct {
	epoll    int
	progress int
	board    *board
	commands *json.Decoder
	answers  *json.Encoder
	events   []unix.EpollEvent
	buf      []byte

	all       []client
	connected int // those that have their welcome
	failure   error
	latency   histogram
	tally     tally
}

// client is one connection.
type client struct {
	fd      int32 // -1 once closed
	phase   phase
	stalls  bool
	bytes   uint64 // received since begin
	frames  uint64 // the same, whole ones
	checker *checker
	began   int64
	head    []byte // what has arrived of the welcome and what is before it
}

type phase uint8

const (
	welcoming phase = iota // waits for the end of the handshake and the first event
	counting
	stalled // reads no more
)

const (
	stdin = -1 // in the place of an index, in epoll's data
	// patience is how long nothing may arrive while something is on its way.
	patience = 15 * time.Second
	// readBytes is more than any window holds: one read empties a socket.
	readBytes = 1 << 20
)

func clientsMain() error {
	pinClients()
	debug.SetGCPercent(-1) // little is allocated after connect
	debug.SetMemoryLimit(1 << 30)
	shared, err := mapBoard(os.NewFile(boardFD, "board"))
	if err != nil {
		return err
	}
	c := &clients{
		progress: progressFD, board: shared,
		commands: json.NewDecoder(os.Stdin), answers: json.NewEncoder(os.Stdout),
		events: make([]unix.EpollEvent, 1024), buf: make([]byte, readBytes),
	}
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := unix.SetNonblock(progressFD, true); err != nil {
		return err
	}
	in := unix.EpollEvent{Events: unix.EPOLLIN, Fd: stdin}
	if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, 0, &in); err != nil {
		return err
	}
	for {
		asked, err := c.turn()
		if err != nil {
			return err
		}
		if asked {
			if more, err := c.obey(); !more {
				return err
			}
		}
	}
}

// turn waits for something to arrive, and takes it. It reports whether a command is there.
func (c *clients) turn() (asked bool, err error) {
	n, err := unix.EpollWait(c.epoll, c.events, int(patience.Milliseconds()))
	if err != nil && err != unix.EINTR {
		return false, err
	}
	for i := range max(n, 0) {
		if at := c.events[i].Fd; at == stdin {
			asked = true
		} else {
			c.read(&c.all[at], c.events[i].Events)
		}
	}
	if n == 0 && c.board.published.Load() > c.tally.completed {
		c.tell(stuck)
	}
	if c.tally.settle(c.board) {
		c.tell(c.tally.completed)
	}
	return asked, nil
}

// tell writes to the progress pipe. A full one means that nobody waits for news.
func (c *clients) tell(completed uint64) {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], completed)
	_, _ = unix.Write(c.progress, b[:])
}

// obey carries out a command. It reports false when there will be no more.
func (c *clients) obey() (more bool, err error) {
	var cmd command
	if c.commands.Decode(&cmd) != nil {
		return false, nil // the parent has ended, or stopped us
	}
	var r reply
	switch cmd.Op {
	case opConnect:
		r, err = c.connect(cmd)
	case opBegin:
		err = c.begin(cmd)
	case opReport:
		r, err = c.report()
	case opDisconnect:
		c.disconnect()
	}
	if err != nil {
		r.Error = err.Error()
	}
	r.CPU = selfCPU()
	return true, c.answers.Encode(r)
}

func (c *clients) begin(cmd command) error {
	c.tally.begin(cmd.Frame, c.connected)
	for i := range c.all {
		cl := &c.all[i]
		if cl.phase == counting && cl.fd < 0 {
			return fmt.Errorf("client %d is not connected any more", i)
		}
		cl.bytes, cl.frames = 0, 0
		if cl.checker != nil {
			cl.checker.begin(cmd.Frame, cmd.NumberAt)
		}
	}
	return nil
}

// report looks whether every client has got everything, and nothing else.
func (c *clients) report() (reply, error) {
	published := c.board.published.Load()
	for i := range c.all {
		cl := &c.all[i]
		switch {
		case cl.phase != counting:
			continue
		case cl.bytes != published*c.tally.frameBytes:
			return reply{}, fmt.Errorf("client %d has got %d bytes, %d events of %d were published", i, cl.bytes, published, c.tally.frameBytes)
		case cl.checker != nil && (cl.checker.fault != nil || cl.checker.next != published):
			return reply{}, fmt.Errorf("client %d has %d events of %d in order: %w", i, cl.checker.next, published, cl.checker.fault)
		}
	}
	h := &c.tally.latency
	return reply{Deliveries: h.count, P50: h.quantile(0.50), P99: h.quantile(0.99), Max: h.max}, c.failure
}

// read takes what has arrived for one client.
func (c *clients) read(cl *client, events uint32) {
	for cl.fd >= 0 && cl.phase != stalled {
		// With MSG_TRUNC TCP discards what it would have copied.
		flags := uintptr(unix.MSG_DONTWAIT)
		if cl.phase == counting && cl.checker == nil {
			flags |= unix.MSG_TRUNC
		}
		r, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(cl.fd), addressOf(c.buf), uintptr(len(c.buf)), flags, 0, 0)
		n := int(r)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno == unix.EINTR:
			continue
		case errno != 0 || n == 0:
			c.lost(cl, errno)
			return
		case cl.phase == welcoming:
			c.welcome(cl, c.buf[:n])
		default:
			c.count(cl, n)
		}
		if n < len(c.buf) && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return // edge-triggered: what comes now comes with another event
		}
	}
}

func (c *clients) count(cl *client, n int) {
	if cl.checker != nil {
		cl.checker.feed(c.buf[:n])
	}
	cl.bytes += uint64(n)
	if frames := cl.bytes / c.tally.frameBytes; frames != cl.frames {
		if err := c.tally.advance(cl.frames, frames); err != nil {
			c.failure = err
			c.tell(stuck)
			return
		}
		cl.frames = frames
	}
}

// lost is called when a client that reads has lost its connection.
func (c *clients) lost(cl *client, errno syscall.Errno) {
	c.failure = errors.New("a client has lost its connection")
	if errno != 0 {
		c.failure = fmt.Errorf("%w: %w", c.failure, errno)
	}
	_ = unix.Close(int(cl.fd))
	cl.fd = -1
	if cl.phase == counting {
		c.tell(stuck)
	}
}

func (c *clients) disconnect() {
	for i := range c.all {
		if fd := c.all[i].fd; fd >= 0 {
			_ = unix.Close(int(fd)) // a reset: SO_LINGER is 0
		}
	}
	c.all, c.connected, c.failure = nil, 0, nil
}

// addressOf is for raw system calls; b must stay reachable and is not on a stack.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func parseAddress(s string) (*unix.SockaddrInet4, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}, nil
}
