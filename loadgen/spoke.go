package loadgen

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
)

// phase is where a spoke stands.
type phase uint8

const (
	dialing   phase = iota
	welcoming       // connected, waits for the hub's first event
	reading
	stalled  // reads no more
	draining // has stalled, and is read to see how it ended
	closing  // has a close frame, or has sent one
	gone
)

// spoke is one connection. It belongs to its reader, under the reader's mu.
type spoke struct {
	index, topic int
	stalls       bool
	phase        phase
	welcomed     bool // it has had its welcome, once and for all

	fd   int      // own descriptor, without TLS; else -1
	conn net.Conn // with TLS

	frames    framer
	check     checker
	gaps      int64 // events that the hub has announced as missing
	accounted int64 // part of ledger.accounted
	end       ending
}

// ending says how a connection ended. The zero value is a connection that has not.
type ending struct {
	over   bool
	code   codec.CloseCode // CloseAbnormal without a close frame
	reason string
	err    error // without a close frame
}

// explained reports whether the hub has said why it closed the connection.
func (e *ending) explained() bool { return e.over && e.code != codec.CloseAbnormal }

// String names the ending for the report.
func (e *ending) String() string {
	switch {
	case e.code != codec.CloseAbnormal:
		return closeText(e.code)
	case errors.Is(e.err, unix.ECONNRESET), errors.Is(e.err, unix.EPIPE):
		return "reset"
	case errors.Is(e.err, io.EOF):
		return "ended without a close frame"
	}
	return e.err.Error()
}

// recv takes what has arrived, without waiting.
func recv(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), addressOf(b), uintptr(len(b)))
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		}
		return int(n), nil
	}
}

// controlTimeout bounds writing a pong or a close frame over TLS.
const controlTimeout = time.Second

// send writes a small masked frame, if there is room for it.
func (sp *spoke) send(op ws.OpCode, payload []byte) {
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewFrame(op, true, payload)))
	switch {
	case err != nil:
	case sp.fd >= 0:
		_, _ = unix.Write(sp.fd, frame)
	case sp.conn != nil:
		_ = sp.conn.SetWriteDeadline(time.Now().Add(controlTimeout))
		_, _ = sp.conn.Write(frame)
	}
}

// closeSocket gives the descriptor back.
func (sp *spoke) closeSocket() {
	if sp.fd >= 0 {
		_ = unix.Close(sp.fd)
		sp.fd = -1
	}
	if sp.conn != nil {
		_ = sp.conn.SetDeadline(time.Now()) // no waiting for TLS to take its leave
		_ = sp.conn.Close()
	}
}
