package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkFloor is what the kernel asks for: see the package comment. Its names are those of
// BenchmarkBroadcast.
func BenchmarkFloor(b *testing.B) {
	eachCase(b, func(b *testing.B, clients int) (*fleet, writer) {
		f := launch(b, true)
		return f, startFloor(b, f, clients)
	})
}

// floor is the fastest way to write the same bytes to many sockets that this machine has: one
// thread, no scheduler in between, bytes that lie ready, descriptors in one dense slice.
type floor struct {
	descriptors []int32
	joined      []byte // one window of frames
	frameBytes  int
	gathered    int // how many of them are to be written
	written     uint64
}

// startFloor accepts so many clients. The connections end with b.
func startFloor(b testing.TB, f *fleet, clients int) *floor {
	b.Helper()
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(b, err)
	defer unix.Close(ln)
	require.NoError(b, unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(b, unix.SetsockoptInt(ln, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)) // inherited
	require.NoError(b, unix.Listen(ln, 4096))
	name, err := unix.Getsockname(ln)
	require.NoError(b, err)

	l := &floor{}
	b.Cleanup(l.close)
	accepted := make(chan error, 1)
	go func() { accepted <- l.accept(ln, clients) }()
	_, err = f.connect(fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port), clients, 0, checkedInBenchmarks)
	require.NoError(b, errors.Join(err, <-accepted))
	return l
}

func (l *floor) accept(ln, clients int) error {
	answer := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + acceptKey + "\r\n\r\n\x81\x02{}")
	buf := make([]byte, 4096)
	for range clients {
		fd, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("accept", err)
		}
		l.descriptors = append(l.descriptors, int32(fd))
		n, err := unix.Read(fd, buf) // the request is one write, so it is one read
		if err == nil && !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			err = fmt.Errorf("floor: request %q is not complete", buf[:n])
		}
		if err == nil {
			_, err = unix.Write(fd, answer)
		}
		if err = errors.Join(err, unix.SetNonblock(fd, true)); err != nil {
			return err
		}
	}
	return nil
}

// begin implements writer. The goroutine keeps its thread until it ends.
func (l *floor) begin(w *window, ev *event) {
	runtime.LockOSThread()
	l.frameBytes = len(ev.frame)
	l.joined = bytes.Repeat(ev.frame, int(w.size))
}

// publish implements writer. Events join until the window is full: only then has the publisher
// nothing more to say, and there is nothing to wait for.
func (l *floor) publish(w *window, ev *event) error {
	for w.full() { // the pass below has emptied what was gathered
		if err := w.wait(); err != nil {
			return err
		}
	}
	putNumber(l.joined[l.gathered*len(ev.frame)+ev.numberAt:], w.stamp())
	l.gathered++
	if w.full() {
		return l.flush(w)
	}
	return nil
}

// flush implements writer: it writes what has gathered to everyone.
func (l *floor) flush(*window) error {
	b := l.joined[:l.gathered*l.frameBytes]
	l.gathered = 0
	if len(b) == 0 {
		return nil
	}
	for _, fd := range l.descriptors {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), addressOf(b), uintptr(len(b)))
		if int(n) != len(b) {
			if err := l.finish(int(fd), b, int(n), errno); err != nil {
				return err
			}
		}
	}
	l.written += uint64(len(l.descriptors))
	return nil
}

// finish writes what the kernel did not take at first.
func (l *floor) finish(fd int, b []byte, n int, errno syscall.Errno) error {
	for {
		switch {
		case errno == 0:
			b = b[n:]
		case errno != unix.EAGAIN && errno != unix.EINTR:
			return os.NewSyscallError("write", errno)
		}
		if len(b) == 0 {
			return nil
		}
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		var r uintptr
		r, _, errno = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), addressOf(b), uintptr(len(b)))
		n = int(r)
		l.written++
	}
}

func (l *floor) writes() uint64 { return l.written }

func (l *floor) close() {
	for _, fd := range l.descriptors {
		_ = unix.Close(int(fd))
	}
}
