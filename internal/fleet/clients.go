package fleet

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clients is everything in the clients' process. One thread does it all.
type clients struct {
	epoll     int
	progress  int
	board     *board
	questions *json.Decoder
	answers   *json.Encoder
	events    []unix.EpollEvent
	buf       []byte

	config    Clients
	all       []client
	connected int // those that count
	failure   error
	heard     int64     // when something arrived, or a command
	latency   histogram // of connecting
	slow      slow

	frameBytes uint64 // 0 if the event has a marker
	tally      tally
	groups     groupTally
}

// client is one connection.
type client struct {
	fd     int32 // -1 once closed
	phase  phase
	kind   kind
	check  bool
	group  uint64
	bytes  uint64 // received since begin
	frames uint64 // the same, whole ones
	stream stream // nil if only bytes are counted
	began  int64
	greet  *greeting // until it counts
}

type phase uint8

const (
	opening  phase = iota // waits until the request can be sent
	greeted               // waits for what comes before that is counted
	counting              // and read as soon as something is there
	left                  // stalled or slow: the loop does not read it any more
)

type kind uint8

const (
	reading kind = iota
	stalling
	slowing
)

// What stands in the place of an index, in epoll's data.
const (
	stdin = -1
	timer = -2
)

const (
	// patience is how long nothing may arrive while something is on its way.
	patience = 15 * time.Second
	// readBytes is more than any window holds: one read empties a socket.
	readBytes = 1 << 20
)

func clientsMain() error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // little is allocated after connect
	debug.SetMemoryLimit(1 << 30)
	shared, err := mapBoard(os.NewFile(boardFD, "board"))
	if err != nil {
		return err
	}
	c := &clients{
		progress: progressFD, board: shared,
		questions: json.NewDecoder(os.Stdin), answers: json.NewEncoder(os.Stdout),
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
	ready := false
	for i := range max(n, 0) {
		switch at := c.events[i].Fd; at {
		case stdin:
			asked = true
			c.heard = now()
		case timer:
			c.readSlow()
		default:
			c.ready(int(at), c.events[i].Events)
			ready = true
		}
	}
	if ready {
		c.heard = now()
	} else if now()-c.heard > int64(patience) && c.board.published.Load() > c.completed() {
		c.tell(stuck)
	}
	if c.settle() {
		c.tell(c.completed())
	}
	return asked, nil
}

func (c *clients) settle() bool {
	if c.config.Groups > 0 {
		return c.groups.settle(c.board)
	}
	return c.tally.settle(c.board)
}

func (c *clients) completed() uint64 {
	if c.config.Groups > 0 {
		return c.groups.completed
	}
	return c.tally.completed
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
	if c.questions.Decode(&cmd) != nil {
		return false, nil // the parent has ended, or stopped us
	}
	var n Count
	switch cmd.Op {
	case opConnect:
		n, err = c.connect(cmd.Connect)
	case opBegin:
		err = c.begin(cmd.Event)
	case opReport:
		n, err = c.report()
	case opDisconnect:
		c.disconnect()
	}
	n.CPU = SelfCPU()
	return true, c.answers.Encode(newReply(n, err))
}

// ready is called when something has happened to client i.
func (c *clients) ready(i int, events uint32) {
	cl := &c.all[i]
	if cl.phase == opening {
		if err := c.request(cl); err != nil {
			c.failure = fmt.Errorf("client %d: %w", i, err)
			return
		}
	}
	c.read(cl, events)
}

// read takes what has arrived for one client.
func (c *clients) read(cl *client, events uint32) {
	for cl.fd >= 0 && (cl.phase == greeted || cl.phase == counting) {
		// With MSG_TRUNC TCP discards what it would have copied.
		flags := uintptr(unix.MSG_DONTWAIT)
		if cl.phase == counting && cl.stream == nil {
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
		case cl.phase == greeted:
			c.hear(cl, c.buf[:n])
		default:
			c.count(cl, n)
		}
		if n < len(c.buf) && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return // edge-triggered: what comes now comes with another event
		}
	}
}

// count counts n bytes, which are in the buffer if the client has a stream.
func (c *clients) count(cl *client, n int) {
	cl.bytes += uint64(n)
	frames := cl.frames
	if cl.stream != nil {
		frames += uint64(cl.stream.feed(c.buf[:n]))
	}
	if c.frameBytes > 0 {
		frames = cl.bytes / c.frameBytes
	}
	if frames == cl.frames {
		return
	}
	if err := c.advance(cl, frames); err != nil {
		c.failure = err
		c.tell(stuck)
		return
	}
	cl.frames = frames
}

func (c *clients) advance(cl *client, to uint64) error {
	if c.config.Groups > 0 {
		return c.groups.advance(cl.group, cl.frames, to)
	}
	return c.tally.advance(cl.frames, to)
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

// addressOf is for raw system calls; b must stay reachable and is not on a stack.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
