package loop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listen returns a TCP listener for Serve, without Multipath TCP, which Go listens for by default: its
// sockets are heavier, do not know every option and do not inherit those they know.
func Listen(address string) (net.Listener, error) {
	return listenTCP(address, func(int) error { return nil })
}

// listenTCP returns a listener, which prepare has seen before it had its address.
func listenTCP(address string, prepare func(fd int) error) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if e := rc.Control(func(fd uintptr) { err = prepare(int(fd)) }); e != nil {
			return e
		}
		return err
	}}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("loop: listen: %w", err)
	}
	return ln, nil
}

// listener is accepted from by the poller that has a duplicate of it: the same epoll that says that
// there are connections says when their requests are late, and accept4(2) is all that it takes to have
// one. Package net would add epoll_ctl, getsockname, setsockopt and, to get the descriptor out of it,
// fcntl, close and another goroutine's turn. A duplicate, because a listener of package net keeps its
// descriptor for itself; one that somebody else closes is noticed by the sweep.
type listener struct {
	// Set by newListener, read-only afterwards.
	server *Server
	tcp    *net.TCPListener
	plain  bool          // not Multipath TCP
	shared bool          // with SO_REUSEPORT
	endc   chan error    // 1 deep: why nobody accepts any more
	leftc  chan struct{} // closed by Serve when it returns

	// accepting: a poller has it. What the poller reads was written before this was set.
	accepting atomic.Bool
	// inherited: what is accepted has the options already. Once set it stays.
	inherited atomic.Bool

	// probe is the port that isAt connects from, 0 if it does not; probed: that came to us.
	probe  atomic.Uint32
	probed atomic.Bool

	from unix.RawSockaddrAny // the poller's
}

// newListener sets the options of spokes on the listener, which those that connect later inherit.
func newListener(s *Server, tcp *net.TCPListener) (*listener, error) {
	l := &listener{server: s, tcp: tcp, endc: make(chan error, 1), leftc: make(chan struct{})}
	return l, l.control(func(fd int) {
		protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		l.plain = err == nil && protocol == unix.IPPROTO_TCP
		setOptions(fd, &s.config)
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err == nil && on != 0 {
			l.shared = true
			detach(fd)
		}
	})
}

// control calls fn with the descriptor, unless the listener is closed: that is the error.
func (l *listener) control(fn func(fd int)) error {
	rc, err := l.tcp.SyscallConn()
	if err == nil {
		err = rc.Control(func(fd uintptr) { fn(int(fd)) })
	}
	return err
}

// end makes Serve look why nobody accepts any more.
func (l *listener) end(err error) {
	select {
	case l.endc <- err:
	default: // it has been told
	}
}

// serve lets a poller accept until something is wrong, which it returns, or the server ends.
func (l *listener) serve() error {
	fd, err := -1, error(nil)
	if e := l.control(func(own int) { fd, err = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return e
	}
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	nb := socketOf(fd, l)
	defer giveUp(nb)
	l.accepting.Store(true)
	if err := l.server.engine.add(nb); err != nil {
		return asResourceError(err)
	}
	select {
	case err := <-l.endc:
		return err
	case <-l.server.stopc:
		return net.ErrClosed
	}
}

// giveUp closes the duplicate of a listener. It is the only socket that others than its poller may close:
// it has no hang-ups, and to find a connection ready that is not does no harm.
func giveUp(nb *socket) {
	unpoll(nb)
	_ = nb.Close()
}

// acceptsPerTurn is how many connections are accepted before others have a turn, if that takes less than
// turnTime.
const acceptsPerTurn = 64

// onReady accepts what there is, on the poller, whose buffer is buf.
//
// A connection inherits the options of the listener at the moment at which it is established, and
// they are accepted in that order. So once there was none to accept, all that come have the options.
func (l *listener) onReady(nb *socket, buf []byte) {
	began := time.Now()
	for range acceptsPerTurn {
		if !l.accepting.Load() || time.Since(began) > turnTime {
			return
		}
		fd, from, err := -1, netip.AddrPort{}, error(unix.EAGAIN)
		withDescriptor(nb, func(ln int) { fd, from, err = l.accept(ln) })
		switch {
		case err == unix.EAGAIN:
			l.inherited.Store(l.plain)
			return
		case err == nil && l.isProbe(from):
			_ = unix.Close(fd)
		case err == nil:
			if !l.inherited.Load() {
				setOptions(fd, &l.server.config)
			}
			err = l.server.admit(fd, from, buf)
		}
		if err != nil {
			l.accepting.Store(false)
			giveUp(nb) // or it would be found ready again, at once
			l.end(err)
			return
		}
	}
}

// accept is accept4(2). Errors that belong to the connection, which is gone then, are passed over.
func (l *listener) accept(ln int) (fd int, from netip.AddrPort, err error) {
	for {
		size := uint32(unix.SizeofSockaddrAny)
		r, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(ln), uintptr(unsafe.Pointer(&l.from)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch {
		case errno == 0:
			return int(r), addrOf(&l.from), nil
		case !ofConnection(errno):
			return -1, from, errno
		}
	}
}

// ofConnection reports whether an error of accept4(2) says nothing about the listener. Linux reports
// what has happened to a connection since it was established (accept(2), "Error handling").
func ofConnection(errno syscall.Errno) bool {
	switch errno {
	case unix.EINTR, unix.ECONNABORTED, unix.ENETDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EHOSTDOWN,
		unix.ENONET, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return true
	}
	return false
}

// addrOf returns an address in the form that the kernel gives it, invalid if it is not of TCP.
func addrOf(sa *unix.RawSockaddrAny) netip.AddrPort {
	port := func(p *uint16) uint16 { // in network order
		b := (*[2]byte)(unsafe.Pointer(p))
		return uint16(b[0])<<8 | uint16(b[1])
	}
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port(&in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr), port(&in.Port))
	}
	return netip.AddrPort{}
}
