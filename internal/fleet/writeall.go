package fleet

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// WriteAll writes b to one socket after the other with bare system calls, as fast as a thread can, and
// returns how many calls that took. It waits for a socket that is full. The descriptors do not block.
func WriteAll(to []int32, b []byte) (writes uint64, err error) {
	for _, fd := range to {
		n, errno := writeTo(fd, b)
		if n != len(b) {
			again, err := finish(fd, b, n, errno)
			if writes += again; err != nil {
				return writes, err
			}
		}
	}
	return writes + uint64(len(to)), nil
}

// writeTo is send(2), which is cheaper than write(2) by what that does for files.
func writeTo(fd int32, b []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), addressOf(b), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return int(r), errno
}

// finish writes what the kernel did not take at first.
func finish(fd int32, b []byte, n int, errno syscall.Errno) (writes uint64, err error) {
	for {
		switch {
		case errno == 0:
			b = b[n:]
		case errno != unix.EAGAIN && errno != unix.EINTR:
			return writes, os.NewSyscallError("write", errno)
		}
		if len(b) == 0 {
			return writes, nil
		}
		_, err := unix.Poll([]unix.PollFd{{Fd: fd, Events: unix.POLLOUT}}, -1)
		if err != nil && err != unix.EINTR {
			return writes, os.NewSyscallError("poll", err)
		}
		n, errno = writeTo(fd, b)
		writes++
	}
}
