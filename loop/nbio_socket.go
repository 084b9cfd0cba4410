package loop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"syscall"
	"unsafe"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// nbio makes a socket of a net.Conn only, and keeps both of its addresses: 128 bytes per spoke, as
// much as the hub's own half of a connection, for what can be kept in 18. So a socket is made of a
// descriptor here, by setting the two fields that matter; docs/decisions/0006 says why that is the
// smaller evil. They are found by name and type, and an nbio that has others is refused at start.

// socketField is where a field stands in a socket.
type socketField struct {
	name   string
	kind   reflect.Kind
	offset uintptr
}

var (
	fieldFD      = socketField{name: "fd", kind: reflect.Int}
	fieldType    = socketField{name: "typ", kind: reflect.Int8}
	fieldWriting = socketField{name: "isWAdded", kind: reflect.Bool} // whether it is polled for room to write
	fieldPoller  = socketField{name: "p", kind: reflect.Pointer}
	fieldEpoll   = socketField{name: "epfd", kind: reflect.Int} // of the poller
	errFields    = findFields()
)

func findFields() error {
	conn := reflect.TypeFor[socket]()
	err := errors.Join(fieldFD.find(conn), fieldType.find(conn), fieldWriting.find(conn), fieldPoller.find(conn))
	if err != nil {
		return err
	}
	poller, _ := conn.FieldByName(fieldPoller.name)
	return fieldEpoll.find(poller.Type.Elem())
}

func (f *socketField) find(in reflect.Type) error {
	if in.Kind() == reflect.Struct {
		if field, ok := in.FieldByName(f.name); ok && field.Type.Kind() == f.kind {
			f.offset = field.Offset
			return nil
		}
	}
	return fmt.Errorf("loop: %v has no field %s of type %v: this is not v1.6.12 of github.com/lesismal/nbio", in, f.name, f.kind)
}

// socketOf returns an engine's socket for the descriptor of a TCP connection or listener, which it owns
// from then on. owner is a *conn or a *listener.
//
// The poller finds the socket in a table, behind the kernel's back as far as the race detector can
// see; nbio hides its own constructor in the same way.
//
//go:norace
func socketOf(fd int, owner any) *socket {
	nb := &socket{}
	*(*int)(unsafe.Add(unsafe.Pointer(nb), fieldFD.offset)) = fd
	*(*int8)(unsafe.Add(unsafe.Pointer(nb), fieldType.offset)) = nbio.ConnTypeTCP
	nb.SetSession(owner)
	return nb
}

// withPoller calls fn with the epoll descriptor of a socket's poller and with its own, unless it is closed or
// not polled yet.
//
//go:norace
func withPoller(nb *socket, fn func(epoll, fd int)) {
	withDescriptor(nb, func(fd int) {
		if p := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(nb), fieldPoller.offset)); p != nil {
			fn(*(*int)(unsafe.Add(p, fieldEpoll.offset)), fd)
		}
	})
}

// unpoll makes the poller of a socket forget it. Closing the descriptor does so only if it is the last one
// of its socket: a duplicate of a listener would be reported on, under a number that is free for others,
// for as long as the listener is open.
func unpoll(nb *socket) {
	withPoller(nb, func(epoll, fd int) { _ = unix.EpollCtl(epoll, unix.EPOLL_CTL_DEL, fd, nil) })
}

// repoll has the poller say that something has arrived for c, or not if c is suspended. The engine has it said again
// whenever it begins or ends to wait for room to write.
//
//go:norace
func repoll(c *conn) {
	withPoller(c.sock, func(epoll, fd int) {
		event := unix.EpollEvent{Fd: int32(fd)}
		if !c.has(flagSuspended) { // looked at with the lock held, so that the last to come has the last word
			event.Events = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP
		}
		if *(*bool)(unsafe.Add(unsafe.Pointer(c.sock), fieldWriting.offset)) {
			event.Events |= unix.EPOLLOUT
		}
		_ = unix.EpollCtl(epoll, unix.EPOLL_CTL_MOD, fd, &event)
	})
}

// takeDescriptor takes the descriptor of a TCP connection of package net over. It needs a second one
// for a moment.
func takeDescriptor(tcp *net.TCPConn) (fd int, err error) {
	defer tcp.Close() // the duplicate keeps the connection
	rc, err := tcp.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := rc.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, os.NewSyscallError("dup", err)
}

// writeNow writes to a socket that does not block: it is over in microseconds, so the scheduler need not
// be told, which would cost as much as the rest of a delivery. send(2) does not look at the file behind
// the descriptor, as write(2) does for those who watch it: a cache line less of each of many sockets.
func writeNow(fd int, b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	r, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// readNow is read(2), likewise.
func readNow(fd int, b []byte) (n int, err error) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
