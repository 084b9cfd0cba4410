package loop

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/mempool"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/internal/verify"
)

// Only this file and nbio_socket.go import nbio, v1.6.12. What it is built around (nbio_test.go shows the
// first three):
//
//   - Conn.Writev loses data when the kernel takes only a part. Only Write is called.
//   - Conn.Write copies what the kernel did not take, without a limit. At most one chunk of a spoke
//     is given to it; MaxWriteBufferSize is a backstop that closes the connection.
//   - OnWrittenSize is called with the connection's mutex held: it must not write or close.
//   - OnClose is called later, in another goroutine, when the descriptor may have been reused.
//     Connections are looked up by descriptor, so no descriptor is kept anywhere.
//     A poller works through a batch of events: one for a socket that somebody else has closed
//     meanwhile hits the next connection with its descriptor, and if it is a hang-up closes that.
//     So only the poller closes. Everybody else shuts down, and Conn.Write, which closes when it
//     fails, only gets what the kernel has just refused to take.
//   - After a hang-up the engine closes the connection whatever its callback has left unread. So
//     that is read by somebody else (rest.go).
//   - A poller that is stopped before its goroutine has begun never ends. So start waits for each.
//   - A socket that is added to an engine that was stopped is polled by nobody, or by whoever has the
//     poller's descriptor now. So add looks.
//   - Its own accept loop retries errors at once and forever, and registers what it accepts twice. A
//     listener is a socket like others here, and its poller accepts (listener.go).
//   - A poller waits in a system call and keeps its place in Go's scheduler meanwhile, until that is
//     found to take long: 20 us to 10 ms with GOMAXPROCS=1. What it has made ready to run waits as
//     long. So it gives way before it waits: after accepting, and with GOMAXPROCS=1 after every read: there the
//     median of a round trip on a busy machine went from 2.4 to 0.9 ms.
//   - It leaves it to close(2) to take a socket out of epoll, which does not happen as long as another
//     descriptor of the socket is open. So a duplicate is taken out before (unpoll).
//   - The descriptors that it makes are inherited by child processes. accept4 and takeDescriptor make ours.
//   - Its functions are hidden from the race detector. What is shared between goroutines is in our
//     types, not in its.
//
// Polling is level-triggered: a connection that sends without end has its turn and is found
// again in the next, which edge-triggered polling does not do. The price, two epoll_ctl calls when a
// socket is full and when it has drained, is paid by slow spokes only.

// socket is a non-blocking TCP connection in the engine.
type socket = nbio.Conn

// engine runs the pollers.
type engine struct {
	nb    *nbio.Engine
	alone bool // GOMAXPROCS is 1

	mu sync.RWMutex // held while a socket is added; the socket's own is locked under it
	// +checklocks:mu
	stopped bool

	rests    rests
	revisits []*revisits // a poller's at the place of its number; none without TLS

	pollers sync.Map // by the address of its buffer, a poller's goroutine; with HUB_VERIFY=1 only
}

var (
	setLogger sync.Once
	starting  sync.Mutex // guards nbio.MaxOpenFiles, which an engine reads when it starts
)

// startEngine returns a running engine. onClose is called once for every socket added.
func startEngine(c *Config) (*engine, error) {
	if errFields != nil {
		return nil, errFields
	}
	setLogger.Do(func() { logging.SetLogger(nbioLog{}) })
	starting.Lock()
	defer starting.Unlock()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		nbio.MaxOpenFiles = int(min(limit.Cur, 1<<24)) // the size of a table of pointers
	}
	e := &engine{alone: runtime.GOMAXPROCS(0) == 1, nb: nbio.NewEngine(nbio.Config{
		Name:               "hub",
		NPoller:            c.Pollers,
		ReadBufferSize:     c.ReadBufferBytes,
		MaxWriteBufferSize: int(2*c.Hub.Limits().SpokeBytes) + 1<<20,
		EpollMod:           nbio.EPOLLLT,
		BodyAllocator:      mempool.NewAligned(),
	})}
	alive := make(chan int, c.Pollers)
	e.nb.OnRead(func(nb *socket) {
		switch owner := nb.Session().(type) {
		case *conn:
			e.read(nb, owner)
			if e.alone {
				runtime.Gosched() // as below
			}
		case *listener:
			buf := e.nb.PollerBuffer(nb)
			if verify.On {
				e.checkPoller(buf)
			}
			owner.onReady(nb, buf)
			runtime.Gosched() // what it has to write should not wait until we do
		case *revisits:
			owner.onReady()
			if e.alone {
				runtime.Gosched()
			}
		case int: // see awaken
			_ = nb.Close()
			alive <- owner
		}
	})
	e.nb.OnWrittenSize(func(nb *socket, _ []byte, n int) {
		if c, ok := nb.Session().(*conn); ok {
			c.onWritten(n)
		}
	})
	e.nb.OnClose(func(nb *socket, err error) {
		if c, ok := nb.Session().(*conn); ok {
			c.onClosed(err)
		}
	})
	if err := e.nb.Start(); err != nil {
		return nil, fmt.Errorf("loop: start: %w", err)
	}
	if err := e.awaken(alive); err != nil {
		return nil, fmt.Errorf("loop: start: %w", err)
	}
	if c.TLS != nil {
		if err := e.startRevisits(); err != nil {
			return nil, fmt.Errorf("loop: start: %w", err)
		}
	}
	return e, nil
}

// awaken waits until every poller has handled an event: a byte from a socket pair. The descriptor
// chooses the poller, as in AddConn; so pairs are made until there is one for each.
func (e *engine) awaken(alive chan int) error {
	var pairs []io.Closer
	defer func() {
		for _, c := range pairs {
			_ = c.Close()
		}
	}()
	chosen := make(map[int]*socket)
	for len(chosen) < e.nb.NPoller {
		nb, far, err := socketPair()
		if err != nil {
			return err
		}
		pairs = append(pairs, nb) // kept, so that the next has another descriptor
		poller := nb.Hash() % e.nb.NPoller
		if chosen[poller] != nil {
			_ = far.Close() // so the next one's is only one further
			continue
		}
		pairs = append(pairs, far)
		if _, err := far.Write([]byte{0}); err != nil {
			return err
		}
		nb.SetSession(poller)
		chosen[poller] = nb
	}
	for _, nb := range chosen {
		if _, err := e.nb.AddConn(nb); err != nil {
			return err
		}
	}
	for range chosen {
		<-alive
	}
	return nil
}

// socketPair returns two connected sockets, one of them for an engine.
func socketPair() (*socket, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	c, err := net.FileConn(near)
	_ = near.Close() // a second descriptor would keep the socket in the poller
	if err != nil {
		_ = far.Close()
		return nil, nil, err
	}
	nb, err := nbio.NBConn(c)
	if err != nil {
		_ = c.Close()
		_ = far.Close()
		return nil, nil, err
	}
	return nb, far, nil
}

// add begins to poll. Reads may happen before it returns. On an error the socket is closed, and
// onClosed may or may not have been called.
func (e *engine) add(nb *socket) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.stopped {
		_ = nb.Close()
		return net.ErrClosed
	}
	_, err := e.nb.AddConn(nb)
	return err
}

// stop closes every socket, waits for their onClosed and ends the pollers.
func (e *engine) stop() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.nb.Stop()
	e.rests.stop()
}

// write gives the kernel what it takes of b at once, and returns how much that was. After an error the
// socket is shut down: what has been received can still be read, and then the poller closes it.
func write(nb *socket, b []byte) (n int, err error) {
	err = net.ErrClosed
	withDescriptor(nb, func(fd int) {
		switch n, err = writeNow(fd, b); err {
		case nil:
		case unix.EAGAIN, unix.EINTR:
			n, err = 0, nil
		default:
			n = 0
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		}
	})
	return n, err
}

// makeRoom lets the kernel take what the engine keeps for a socket that is about to be closed, so
// that the close frame arrives even if we do not wait for it. It is enough for what is kept under
// the default limits and net.core.wmem_max; beyond that a frame may end up cut.
func makeRoom(nb *socket, kept int) {
	withDescriptor(nb, func(fd int) {
		has, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
		unacked, _ := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		if want := 2 * (unacked + kept); err == nil && has < want { // twice: the kernel counts its overhead as well
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, want)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, -1)
	})
}

// shutdown ends the writing side behind what was written, or both sides.
func shutdown(nb *socket, how int) {
	withDescriptor(nb, func(fd int) { _ = unix.Shutdown(fd, how) })
}

// withDescriptor calls fn with the descriptor, unless the socket is closed.
func withDescriptor(nb *socket, fn func(fd int)) {
	nb.Lock()
	defer nb.Unlock()
	if closed, _ := nb.IsClosed(); !closed {
		fn(nb.Hash())
	}
}

// setOptions sets what spokes need, on a connection or on the listener that it will inherit it from.
// An option that the kernel does not know for a socket is done without. The kernel's own keep-alive is
// off: the hub pings.
func setOptions(fd int, c *Config) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	if c.NotSentLowatBytes > 0 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, c.NotSentLowatBytes)
	}
	if c.SendBufferBytes > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, c.SendBufferBytes)
	}
}

// nbioLog sends the engine's own lines to slog, at debug level unless something is wrong.
type nbioLog struct{}

func (nbioLog) Debug(format string, v ...any) {}
func (nbioLog) Info(format string, v ...any)  { slog.Debug(fmt.Sprintf(format, v...)) }
func (nbioLog) Warn(format string, v ...any)  { slog.Warn(fmt.Sprintf(format, v...)) }
func (nbioLog) Error(format string, v ...any) { slog.Error(fmt.Sprintf(format, v...)) }
