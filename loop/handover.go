package loop

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A port that is shared with SO_REUSEPORT has a group of listeners, and the kernel spreads new
// connections over them. Closing one resets what it has not accepted yet. So a server that goes away
// leaves the group in an order that loses nobody: the kernel is told to choose among the others (by a
// filter, for there is no other way to stop listening without closing), who has been chosen before is
// still accepted and served, and then the listener is closed. docs/decisions/0013 has the alternatives.

// ListenShared is Listen for a port that several processes of one user have at the same time, if all
// listen in this way. Who shuts down leaves new connections to the others.
func ListenShared(address string) (net.Listener, error) {
	return listenTCP(address, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// lingering is how long a server that has left a port goes on accepting: handshakes of TCP that were
// begun with it take the time to its peers and back, and longer if something is lost.
const lingering = time.Second

// errLeft ends Serve when others have the port.
var errLeft = errors.New("others have the port")

// leavePorts leaves the shared ports that others listen at as well.
func (s *Server) leavePorts(ctx context.Context) {
	if ctx.Err() != nil {
		return // there is no time to be polite
	}
	s.mu.Lock()
	listeners := slices.Clone(s.listeners)
	s.mu.Unlock()
	var left []*listener
	for _, l := range listeners {
		if l.shared && l.others() > 0 {
			s.leaving.Store(true)
			if err := l.steerAway(); err != nil {
				s.config.Logger.Warn("loop: the kernel cannot be told that this process leaves the port: connections may be reset", slog.Any("error", err))
			}
			left = append(left, l)
		}
	}
	if len(left) == 0 {
		return
	}
	rest, cancel := context.WithTimeout(ctx, min(lingering, s.config.DrainTimeout/4))
	defer cancel()
	<-rest.Done()
	for _, l := range left {
		l.waitForQuiet(ctx)
		l.end(errLeft)
		select {
		case <-l.leftc:
		case <-ctx.Done():
		}
	}
}

// waitForQuiet waits until nobody waits to be accepted.
func (l *listener) waitForQuiet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lingering)
	defer cancel()
	for quiet := 0; quiet < 2 && ctx.Err() == nil; pause(ctx) {
		if l.waiting() == 0 {
			quiet++
		} else {
			quiet = 0
		}
	}
}

func pause(ctx context.Context) {
	select {
	case <-time.After(2 * time.Millisecond):
	case <-ctx.Done():
	}
}

// waiting returns how many connections wait to be accepted.
func (l *listener) waiting() int {
	n := 0
	_ = l.control(func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Unacked) // of a listener, tcp_get_info
		}
	})
	return n
}

// steerAway makes the kernel choose among the other listeners of the port.
func (l *listener) steerAway() error {
	place, err := l.place()
	if err == nil {
		err = l.attach(amongOthers(place, 1+l.others()))
	}
	return err
}

var errNoPlace = errors.New("the place of this process among the listeners of the port is not found")

// place finds out which of the group this listener is, in the kernel's numbering, which has no other
// way to be asked: a connection of our own is steered to each place in turn until it comes to us. All
// others are chosen as before meanwhile.
func (l *listener) place() (int, error) {
	defer l.probe.Store(0)
	for range 2 { // what is late the first time
		for place := range 1 + l.others() {
			found, err := l.isAt(place)
			if err != nil || found {
				return place, err
			}
		}
	}
	return 0, errNoPlace
}

// isAt steers a connection to a place, and reports whether it came to us.
func (l *listener) isAt(place int) (bool, error) {
	target := l.tcp.Addr().(*net.TCPAddr).AddrPort()
	target = netip.AddrPortFrom(target.Addr().Unmap(), target.Port())
	switch target.Addr() {
	case netip.IPv4Unspecified():
		target = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), target.Port())
	case netip.IPv6Unspecified():
		target = netip.AddrPortFrom(netip.IPv6Loopback(), target.Port())
	}
	fd, port, err := boundSocket(target.Addr())
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := l.attach(onePort(port, place, target.Addr().Is6())); err != nil {
		return false, err
	}
	l.probed.Store(false)
	l.probe.Store(uint32(port))
	if err := unix.Connect(fd, sockaddr(target)); err != nil {
		return false, err
	}
	// It is in somebody's queue now. If that is ours it is accepted before what comes later.
	ctx, cancel := context.WithTimeout(context.Background(), lingering/4)
	defer cancel()
	for quiet := 0; quiet < 4 && ctx.Err() == nil && !l.probed.Load(); pause(ctx) {
		if l.waiting() == 0 {
			quiet++
		}
	}
	return l.probed.Load(), nil
}

// isProbe reports whether a connection is the one that isAt has made.
func (l *listener) isProbe(from netip.AddrPort) bool {
	port := l.probe.Load()
	if port == 0 || uint32(from.Port()) != port {
		return false
	}
	l.probed.Store(true)
	return true
}

// boundSocket returns a socket with a port of its own. A connect gives up after a second.
func boundSocket(source netip.Addr) (fd int, port uint16, err error) {
	family := unix.AF_INET
	if source.Is6() {
		family = unix.AF_INET6
	}
	if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, 0, err
	}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1}),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), // no TIME_WAIT
		unix.Bind(fd, sockaddr(netip.AddrPortFrom(source, 0))),
	)
	sa, err2 := unix.Getsockname(fd)
	if err := errors.Join(err, err2); err != nil {
		_ = unix.Close(fd)
		return -1, 0, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		port = uint16(sa.Port)
	case *unix.SockaddrInet6:
		port = uint16(sa.Port)
	}
	return fd, port, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
