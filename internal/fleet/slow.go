package fleet

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// slow reads the slow clients, each slowReadsPerSec times in a second and never more than its share.
type slow struct {
	timer   int // a timerfd, 0 if there is none
	clients []int32
	next    int
}

const (
	slowTick        = 10 * time.Millisecond
	slowReadsPerSec = 10
)

func (c *clients) startSlow() error {
	var s slow
	for i := range c.all {
		if c.all[i].kind == slowing {
			s.clients = append(s.clients, int32(i))
		}
	}
	if len(s.clients) == 0 {
		return nil
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	s.timer = fd
	c.slow = s
	every := unix.NsecToTimespec(int64(slowTick))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: timer}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &ev)
}

// readSlow is called when the timer has ticked, once or more.
func (c *clients) readSlow() {
	if c.slow.timer == 0 {
		return // stopped in this turn
	}
	var ticks [8]byte
	_, _ = unix.Read(c.slow.timer, ticks[:]) // ticks that were missed are: nobody catches up
	ticksPerRead := int(time.Second / slowReadsPerSec / slowTick)
	for range (len(c.slow.clients) + ticksPerRead - 1) / ticksPerRead {
		cl := &c.all[c.slow.clients[c.slow.next]]
		c.slow.next = (c.slow.next + 1) % len(c.slow.clients)
		if cl.fd < 0 {
			continue
		}
		r, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(cl.fd), addressOf(c.buf),
			uintptr(min(len(c.buf), c.config.SlowBytesPerSec/slowReadsPerSec)), unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
		if gone := r == 0 && errno == 0; gone || errno == unix.ECONNRESET {
			_ = unix.Close(int(cl.fd)) // the server has had enough of it
			cl.fd = -1
		}
	}
}

func (c *clients) stopSlow() {
	if c.slow.timer != 0 {
		_ = unix.Close(c.slow.timer)
	}
	c.slow = slow{}
}
