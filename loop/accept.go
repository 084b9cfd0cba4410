package loop

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptPause is how long the accept loop rests when descriptors or memory have run out.
const acceptPause = 100 * time.Millisecond

// headroom is how many connections over Config.MaxSpokes are let in, to be answered 503 in the
// ordinary way once their request is there. What comes on top of that is answered blindly.
const headroom = 256

// busyAlert is busyAnswer for who speaks TLS and has had no handshake: the alert internal_error.
const busyAlert = "\x15\x03\x03\x00\x02\x02\x50"

const busyAnswer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

// Serve accepts connections from ln, which must be a TCP listener, until Shutdown or an error that
// is not about resources. It owns ln. After Shutdown it returns nil.
func (s *Server) Serve(ln net.Listener) error {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		_ = ln.Close()
		return fmt.Errorf("loop: serve: %T is not a TCP listener", ln)
	}
	l, err := newListener(s, tcp)
	defer close(l.leftc)
	defer ln.Close()
	if err == nil && !s.trackListener(l) {
		return nil
	}
	reserve := &reserve{}
	reserve.refill()
	defer reserve.free()
	for {
		if err == nil {
			err = l.serve()
		}
		switch {
		case s.stopping.Load(), errors.Is(err, errLeft):
			return nil
		case !outOfResources(err):
			return fmt.Errorf("loop: accept: %w", err)
		}
		s.config.Logger.Warn("loop: out of descriptors or memory, connections are refused", slog.Any("error", err))
		reserve.turnAway(l, func() { s.refusals.add(RefusedDescriptors) })
		select {
		case <-time.After(acceptPause):
		case <-s.stopc:
			return nil
		}
		err = nil
	}
}

// outOfResources reports whether an accept may work later.
func outOfResources(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// admit takes an accepted connection. Its request is mostly there already: it is read, into buf, before
// the engine knows of the connection, which then has nothing to say about it. The error is about
// resources; the connection has then been closed.
func (s *Server) admit(fd int, from netip.AddrPort, buf []byte) error {
	c, total := s.enter(from, s.config.TLS != nil)
	if total > s.config.MaxSpokes+headroom {
		s.conns.remove(c)
		s.refusals.add(RefusedFull)
		s.answerBlindly(fd)
		return nil
	}
	if s.config.trusts(c.addr()) {
		c.set(flagFirst)
	}
	n, _ := readNow(fd, buf[:min(len(buf), firstRead)]) // whatever is wrong, the poller will find it
	err := s.adopt(c, fd, func() {
		if n > 0 {
			c.onBytes(buf[:n])
		}
	})
	if err != nil {
		s.refusals.add(RefusedDescriptors)
		return asResourceError(err)
	}
	return nil
}

// asResourceError makes every failure to take a connection one that a pause may cure: the listener
// itself is well.
func asResourceError(err error) error {
	if outOfResources(err) {
		return err
	}
	return fmt.Errorf("%w (%v)", syscall.EMFILE, err)
}

// answerBlindly refuses a connection without waiting for its request. One that is there is read, for
// closing a socket with unread bytes resets the connection.
func (s *Server) answerBlindly(fd int) {
	_, _ = readNow(fd, make([]byte, 2*maxHeadBytes))
	busy := busyAnswer
	if s.config.TLS != nil {
		busy = busyAlert
	}
	_, _ = writeNow(fd, []byte(busy))
	_ = unix.Close(fd)
}

// reserve is a descriptor kept for the moment when there are none left: given up, it lets one
// connection in, which is told so, instead of leaving it in the dark.
type reserve struct {
	file *os.File
}

func (r *reserve) refill() {
	if r.file == nil {
		r.file, _ = os.Open(os.DevNull)
	}
}

func (r *reserve) free() {
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}

// turnAway answers the connections that wait, as many as there are at the moment, and calls count for
// each. No poller accepts meanwhile.
func (r *reserve) turnAway(l *listener, count func()) {
	defer r.refill()
	for range headroom {
		r.free()
		fd := -1
		if l.control(func(ln int) { fd, _, _ = l.accept(ln) }) != nil || fd < 0 {
			return
		}
		count() // before the peer can know
		l.server.answerBlindly(fd)
	}
}
