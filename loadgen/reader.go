package loadgen

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	// readBytes is the buffer of a reader; over TLS each spoke has one of tlsReadBytes.
	readBytes    = 256 << 10
	tlsReadBytes = 4 << 10
	// turnEvents is how many sockets at most are read before looking for more.
	turnEvents = 256
	// wakeIndex stands for the reader's own eventfd among indices of spokes.
	wakeIndex = -1
)

// reader takes what arrives for its part of the spokes.
//
// Without TLS one goroutine with a thread of its own waits for all of them (loop). Over TLS each spoke
// has a goroutine (follow), and they take turns on mu.
type reader struct {
	// Set by newReader, read-only afterwards.
	run     *run
	epoll   int
	wakeFD  int
	loopers sync.WaitGroup // loop and every follow

	// Any goroutine, atomically.
	stopping    atomic.Bool
	waitedNanos atomic.Int64 // that loop had nothing to read
	waitsSince  atomic.Int64 // 0 while it reads
	thread      atomic.Int64 // kernel's id of loop's thread

	// mu is held for a turn. ledger.mu may be locked while holding it.
	mu sync.Mutex
	// +checklocks:mu
	counts counts
	// +checklocks:mu
	turn turn

	// The goroutine of loop only.
	buf []byte
}

// counts is what a reader has seen since it was last asked.
type counts struct {
	latency                      *hdrhistogram.Histogram // of deliveries, in nanoseconds
	doubled, outOfOrder, foreign uint64
	gapEvents, gapSum            uint64
	pings                        uint64
}

// turn is what a reader's callback has to know, and what it adds up for the ledger.
type turn struct {
	spoke                 *spoke
	at                    int64 // when the bytes were read
	deliveries, accounted int64
	header                headerReader
}

// newLatency counts from a microsecond to minutes, with two digits that are right and a third that
// nearly is.
func newLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(10*time.Minute), 3)
}

func newReader(r *run) (*reader, error) {
	rd := &reader{run: r, epoll: -1, wakeFD: -1, counts: counts{latency: newLatency()}}
	if r.config.overTLS() {
		return rd, nil
	}
	var err error
	if rd.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("loadgen: epoll: %w", err)
	}
	if rd.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(rd.epoll)
		return nil, fmt.Errorf("loadgen: eventfd: %w", err)
	}
	if err := rd.watch(rd.wakeFD, wakeIndex); err != nil {
		rd.release()
		return nil, err
	}
	rd.buf = make([]byte, readBytes)
	rd.loopers.Go(rd.loop)
	return rd, nil
}

func (rd *reader) watch(fd, index int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(index)}
	if err := unix.EpollCtl(rd.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("loadgen: epoll: %w", err)
	}
	return nil
}

// stop ends the reader. Its spokes' sockets must be closed before, where they have goroutines.
func (rd *reader) stop() {
	rd.stopping.Store(true)
	if rd.wakeFD >= 0 {
		_, _ = unix.Write(rd.wakeFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	rd.loopers.Wait()
	rd.release()
}

func (rd *reader) release() {
	if rd.epoll >= 0 {
		_ = unix.Close(rd.wakeFD)
		_ = unix.Close(rd.epoll)
	}
}

// loop reads whatever is readable, until stop.
func (rd *reader) loop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rd.thread.Store(int64(unix.Gettid()))
	events := make([]unix.EpollEvent, turnEvents)
	for !rd.stopping.Load() {
		before := now()
		rd.waitsSince.Store(before)
		n, err := unix.EpollWait(rd.epoll, events, -1)
		rd.waitsSince.Store(0)
		rd.waitedNanos.Add(now() - before)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			panic("loadgen: epoll_wait: " + err.Error()) // EBADF or EINVAL: ours to blame
		}
		rd.mu.Lock()
		for i := range n {
			if at := events[i].Fd; at != wakeIndex {
				rd.readLocked(rd.run.spokes[at], events[i].Events)
			}
		}
		rd.settleLocked()
		rd.mu.Unlock()
	}
}

// readLocked empties a spoke's socket.
func (rd *reader) readLocked(sp *spoke, events uint32) {
	for sp.fd >= 0 && sp.phase != stalled {
		n, err := recv(sp.fd, rd.buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			rd.endLocked(sp, err)
			return
		}
		rd.takeLocked(sp, rd.buf[:n])
		if n < len(rd.buf) && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return // edge-triggered: what comes now comes with another event
		}
	}
}

// follow reads one spoke over TLS until its connection ends.
func (rd *reader) follow(sp *spoke) {
	buf := make([]byte, tlsReadBytes)
	for {
		n, err := sp.conn.Read(buf)
		rd.mu.Lock()
		if n > 0 {
			rd.takeLocked(sp, buf[:n])
		}
		if err != nil {
			rd.endLocked(sp, err)
		}
		rd.settleLocked()
		stalls, over := sp.phase == stalled, sp.phase == gone
		rd.mu.Unlock()
		if over {
			return
		}
		if stalls {
			<-rd.run.resumec
		}
	}
}

// takeLocked takes bytes that have arrived for a spoke.
func (rd *reader) takeLocked(sp *spoke, b []byte) {
	rd.turn.spoke, rd.turn.at = sp, now()
	if err := sp.frames.feed(&rd.turn.header, b, rd.onFrameLocked); err != nil {
		rd.endLocked(sp, err)
	}
}

// settleLocked ends a turn: the ledger learns of it.
func (rd *reader) settleLocked() {
	t := &rd.turn
	if t.deliveries != 0 || t.accounted != 0 {
		rd.run.ledger.arrived(t.deliveries, t.accounted, t.at)
		t.deliveries, t.accounted = 0, 0
	}
}

// take returns what was counted since the last time.
func (rd *reader) take() counts {
	fresh := newLatency()
	rd.mu.Lock()
	defer rd.mu.Unlock()
	c := rd.counts
	rd.counts = counts{latency: fresh}
	return c
}

// add adds other to c.
func (c *counts) add(other counts) {
	c.latency.Merge(other.latency)
	c.doubled += other.doubled
	c.outOfOrder += other.outOfOrder
	c.foreign += other.foreign
	c.gapEvents += other.gapEvents
	c.gapSum += other.gapSum
	c.pings += other.pings
}

// addressOf is for raw system calls; b must stay reachable and is not on a stack.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
