package servers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/internal/fleet"
)

// Floor is what the kernel asks for: one thread that reads the publisher's socket, unmasks what is
// there, and writes it, joined, to one descriptor after the other with bare write(2). No scheduler, no
// locks, no HTTP but a fixed answer, nobody ever leaves. Clients come first, the publisher last.
//
// The client's key has to be the example of RFC 6455 section 1.3.
func Floor() (Server, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Server{}, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return Server{}, err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil { // inherited
		return Server{}, err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return Server{}, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return Server{}, err
	}
	go func() { // until the publisher leaves
		runtime.LockOSThread()
		f := &floor{in: make([]byte, 64<<10)}
		err := f.accept(fd)
		for err == nil {
			err = f.pass()
		}
		if err != io.EOF {
			fmt.Fprintln(os.Stderr, "floor:", err)
		}
	}()
	return Server{Address: fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)}, nil
}

// floor belongs to one thread.
type floor struct {
	clients   []int32
	publisher int
	in        []byte // what has arrived from the publisher
	arrived   int
	out       []byte // the same as servers send it
}

const floorAnswer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x02" + greeting

// accept takes clients until the publisher comes.
func (f *floor) accept(ln int) error {
	buf := make([]byte, 4096)
	for {
		fd, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("accept", err)
		}
		n, err := unix.Read(fd, buf) // the request is one write, so it is one read
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		if !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			return fmt.Errorf("the request %q is not complete", buf[:n])
		}
		if _, err := unix.Write(fd, []byte(floorAnswer)); err != nil {
			return os.NewSyscallError("write", err)
		}
		if strings.HasPrefix(string(buf[:n]), "GET "+PathOfPublisher+" ") {
			f.publisher = fd
			return nil
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		f.clients = append(f.clients, int32(fd))
	}
}

// pass waits for the publisher and gives everyone what has come.
func (f *floor) pass() error {
	n, err := unix.Read(f.publisher, f.in[f.arrived:])
	switch {
	case err == unix.EINTR:
		return nil
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 0:
		return io.EOF // the publisher has left
	}
	f.arrived += n
	f.out = f.out[:0]
	used := 0
	for {
		n := f.unmask(f.in[used:f.arrived])
		if n == 0 {
			break
		}
		used += n
	}
	f.arrived = copy(f.in, f.in[used:f.arrived])
	if len(f.out) == 0 {
		return nil
	}
	_, err = fleet.WriteAll(f.clients, f.out)
	return err
}

// unmask appends the frame at the beginning of b to what is to be sent and returns how long it was, 0
// if it is not complete. Frames of 126 to 65,535 bytes and nothing else are what the publisher sends
// (RFC 6455 section 5.2).
func (f *floor) unmask(b []byte) int {
	const head = 8
	if len(b) < head {
		return 0
	}
	n := head + int(binary.BigEndian.Uint16(b[2:]))
	if b[1] != 0x80|126 {
		panic("floor: a frame of another length than the publisher's")
	}
	if len(b) < n {
		return 0
	}
	f.out = append(f.out, b[0], 126, b[2], b[3])
	key := b[4:head]
	for i, c := range b[head:n] {
		f.out = append(f.out, c^key[i&3])
	}
	return n
}
