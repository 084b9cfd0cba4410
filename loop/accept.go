package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/alkdev/hub/fanout"
)

// acceptPause is how long the accept loop rests when descriptors or memory have run out.
const acceptPause = 100 * time.Millisecond

// headroom is how many connections over Config.MaxSpokes are let in, to be answered 503 in the
// ordinary way once their request is there. What comes on top of that is answered blindly.
const headroom = 256

const busyAnswer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

// Listen returns a TCP listener for Serve. Go's keep-alive probes are off: they would cost four
// system calls per connection, and the hub pings by itself. So is Multipath TCP, which Go listens for
// by default: its sockets are heavier and do not know every option.
func Listen(address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("loop: listen: %w", err)
	}
	return ln, nil
}

// Serve accepts connections from ln, which must be a TCP listener, until Shutdown or an error that
// is not about resources. It owns ln. After Shutdown it returns nil.
func (s *Server) Serve(ln net.Listener) error {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		_ = ln.Close()
		return fmt.Errorf("loop: serve: %T is not a TCP listener", ln)
	}
	if !s.trackListener(ln) {
		_ = ln.Close()
		return nil
	}
	defer ln.Close()
	reserve := &reserve{}
	reserve.refill()
	defer reserve.free()
	for {
		c, err := tcp.AcceptTCP()
		if err == nil {
			err = s.admit(c)
		}
		switch {
		case err == nil:
			continue
		case s.stopping.Load():
			return nil
		case !outOfResources(err):
			return fmt.Errorf("loop: accept: %w", err)
		}
		s.config.Logger.Warn("loop: out of descriptors or memory, connections are refused", slog.Any("error", err))
		reserve.turnAway(tcp, func() { s.refusals.add(RefusedDescriptors) })
		select {
		case <-time.After(acceptPause):
		case <-s.stopc:
			return nil
		}
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

// admit gives an accepted connection to the engine. The error is about resources; the connection
// has then been answered and closed.
func (s *Server) admit(tcp *net.TCPConn) error {
	c, total := s.enter(addrOf(tcp.RemoteAddr()))
	if total > s.config.MaxSpokes+headroom {
		s.conns.remove(c)
		s.refusals.add(RefusedFull)
		answerBlindly(tcp)
		return nil
	}
	sock, err := wrap(tcp, c)
	if err != nil {
		s.conns.remove(c)
		s.refusals.add(RefusedDescriptors)
		answerBlindly(tcp)
		return asResourceError(err)
	}
	c.sock = sock
	c.set(flagOpen)
	if err := s.engine.add(sock); err != nil {
		c.setCause(fanout.Cause{Side: fanout.LocalSide, Reason: err.Error(), Kind: fanout.KindOther})
		c.set(flagGone)
		c.finish()
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
func answerBlindly(tcp *net.TCPConn) {
	discard(tcp, 2*maxHeadBytes)
	_ = tcp.SetWriteDeadline(time.Now().Add(acceptPause))
	_, _ = tcp.Write([]byte(busyAnswer))
	_ = tcp.Close()
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
// each.
func (r *reserve) turnAway(tcp *net.TCPListener, count func()) {
	defer r.refill()
	defer func() { _ = tcp.SetDeadline(time.Time{}) }()
	for range headroom {
		r.free()
		_ = tcp.SetDeadline(time.Now().Add(time.Millisecond))
		c, err := tcp.AcceptTCP()
		if err != nil {
			return
		}
		count() // before the peer can know
		answerBlindly(c)
	}
}
