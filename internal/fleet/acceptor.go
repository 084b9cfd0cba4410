package fleet

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptor is the fastest way to take connections and upgrade them: one thread that accepts while
// there is something, reads at once because the request is usually there, and has epoll only for the
// requests that are not.
type acceptor struct {
	ln     int
	prefix []byte

	epoll   int
	waiting map[int32][]byte // what has arrived of requests that were not complete
	buf     []byte
	answer  []byte

	all    []int32
	groups [][]int32 // the same by group, nil if there are none
}

// acceptPatience is how long the next of the announced connections may take to come.
const acceptPatience = 15 * time.Second

// acceptBacklog is more than the kernel allows.
const acceptBacklog = 1 << 16

func (a *acceptor) listen() (address string, err error) {
	if a.ln, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return "", err
	}
	err = errors.Join(
		unix.Bind(a.ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		unix.SetsockoptInt(a.ln, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), // inherited
		unix.Listen(a.ln, acceptBacklog),
	)
	if err != nil {
		return "", err
	}
	name, err := unix.Getsockname(a.ln)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port), nil
}

// accept takes so many connections, and then listens no more.
func (a *acceptor) accept(connections, groups int) (err error) {
	defer unix.Close(a.ln)
	if a.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(a.epoll)
	a.buf = make([]byte, 4096)
	a.waiting = make(map[int32][]byte)
	a.all = make([]int32, 0, connections)
	if groups > 0 {
		a.groups = make([][]int32, groups)
	}
	if err := a.wait(a.ln); err != nil {
		return err
	}
	events := make([]unix.EpollEvent, 256)
	for answered := 0; answered < connections; {
		n, err := unix.EpollWait(a.epoll, events, int(acceptPatience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n == 0 {
			err = fmt.Errorf("floor: %d connections of %d have come", answered, connections)
		}
		if err != nil {
			return err
		}
		for _, ev := range events[:n] {
			var more int
			if int(ev.Fd) == a.ln {
				more, err = a.acceptSome(connections)
			} else {
				more, err = a.upgrade(ev.Fd, true)
			}
			answered += more
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *acceptor) wait(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(a.epoll, unix.EPOLL_CTL_ADD, fd, &ev))
}

// acceptSome accepts while there is something.
func (a *acceptor) acceptSome(connections int) (answered int, err error) {
	for len(a.all) < connections {
		fd, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(a.ln), 0, 0, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
		switch errno {
		case 0:
		case unix.EAGAIN:
			return answered, nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return answered, os.NewSyscallError("accept", errno)
		}
		a.all = append(a.all, int32(fd))
		n, err := a.upgrade(int32(fd), false)
		answered += n
		if err != nil {
			return answered, err
		}
	}
	return answered, nil
}

// upgrade reads the request and answers it. It returns how many connections have their answer now.
func (a *acceptor) upgrade(fd int32, waits bool) (answered int, err error) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), addressOf(a.buf), uintptr(len(a.buf)))
	request := a.buf[:max(0, int(r))]
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		request = nil
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case r == 0:
		return 0, errors.New("floor: a client has gone")
	}
	if waits {
		request = append(a.waiting[fd], request...)
	}
	if !bytes.HasSuffix(request, []byte("\r\n\r\n")) {
		a.waiting[fd] = bytes.Clone(request)
		if !waits {
			err = a.wait(int(fd))
		}
		return 0, err
	}
	if err := a.deal(fd, request); err != nil {
		return 0, err
	}
	_, rest, found := bytes.Cut(request, []byte("Sec-WebSocket-Key: "))
	key, _, complete := bytes.Cut(rest, []byte("\r\n"))
	if !found || !complete {
		return 0, fmt.Errorf("floor: there is no key in %q", request)
	}
	a.answer = appendAnswer(a.answer[:0], key)
	if n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), addressOf(a.answer), uintptr(len(a.answer))); int(n) != len(a.answer) {
		return 0, os.NewSyscallError("write", errno)
	}
	if waits {
		delete(a.waiting, fd)
		_ = unix.EpollCtl(a.epoll, unix.EPOLL_CTL_DEL, int(fd), nil)
	}
	return 1, nil
}

// appendAnswer appends the answer to a handshake with this key (RFC 6455 section 4.2.2).
func appendAnswer(b, key []byte) []byte {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	begin := len(b)
	b = append(append(b, key...), guid...)
	sum := sha1.Sum(b[begin:])
	b = append(b[:begin], "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	return append(b, "\r\n\r\n"...)
}

// deal puts the connection into the group that its client asks for.
func (a *acceptor) deal(fd int32, request []byte) error {
	if a.groups == nil {
		return nil
	}
	rest, found := bytes.CutPrefix(request, a.prefix)
	group, err := strconv.ParseUint(string(rest[:min(len(rest), NumberDigits)]), 10, 64)
	if !found || err != nil || group >= uint64(len(a.groups)) {
		return fmt.Errorf("floor: there is no group in %q", request)
	}
	a.groups[group] = append(a.groups[group], fd)
	return nil
}

// close ends the connections, after the clients have.
func (a *acceptor) close() {
	for _, fd := range a.all {
		_ = unix.Close(int(fd))
	}
}
