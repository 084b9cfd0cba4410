package loadgen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// handshakesAtOnce stays below the backlog of any listener: a connection that does not fit would try
// again only after a second.
const handshakesAtOnce = 64

// dials counts how connecting goes.
type dials struct {
	changec chan struct{} // one slot, never closed

	// mu is a leaf lock: nothing is locked, written or called while holding it.
	mu sync.Mutex
	// +checklocks:mu
	made, ready int // handshakes, and those of them that had their welcome
	// +checklocks:mu
	failed int
	// +checklocks:mu
	failures map[string]int // by reason
}

func (d *dials) count(made, ready int, failure string) {
	d.mu.Lock()
	d.made += made
	d.ready += ready
	if failure != "" {
		d.failed++
		d.failures[failure]++
	}
	d.mu.Unlock()
	select {
	case d.changec <- struct{}{}:
	default:
	}
}

// welcomed is called with the lock of the spoke's reader.
func (d *dials) welcomed() { d.count(0, 1, "") }

// over is called with the lock of the spoke's reader, when a connection has ended.
func (d *dials) over(sp *spoke) {
	if !sp.welcomed {
		d.count(-1, 0, "before the welcome: "+sp.end.String())
	}
}

// failedBy returns the failures, a copy.
func (d *dials) failedBy() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.failures)
}

func (d *dials) state() (made, ready, failed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made, d.ready, d.failed
}

// connect connects all spokes and waits for their welcome. The error is about the first one: where
// that connects, failures are counted.
func (r *run) connect(ctx context.Context) error {
	began := now()
	if err := r.dial(ctx, r.spokes[0]); err != nil {
		return fmt.Errorf("loadgen: connecting to %s: %w", r.config.URL, err)
	}
	next := make(chan *spoke) // closed by the loop below
	var dialers sync.WaitGroup
	for range min(handshakesAtOnce, len(r.spokes)) {
		dialers.Go(func() {
			for sp := range next {
				if err := r.dial(ctx, sp); err != nil && ctx.Err() == nil {
					r.dials.count(0, 0, failureText(err))
				}
			}
		})
	}
	for i, sp := range r.spokes[1:] {
		if rate := r.config.ConnectPerSec; rate > 0 {
			sleepUntil(ctx, began+int64(i+1)*int64(time.Second)/int64(rate))
		}
		if ctx.Err() != nil {
			break
		}
		next <- sp
	}
	close(next)
	dialers.Wait()
	r.awaitWelcomes(ctx)
	r.connectNanos = now() - began
	return nil
}

// awaitWelcomes waits until every connection has its welcome. The hub's patience with a handshake is
// over when ours is.
func (r *run) awaitWelcomes(ctx context.Context) {
	deadline := time.NewTimer(r.config.HandshakeTimeout)
	defer deadline.Stop()
	for before := -1; ; {
		made, ready, _ := r.dials.state()
		if ready >= made {
			return
		}
		if ready != before {
			deadline.Reset(r.config.HandshakeTimeout)
			before = ready
		}
		select {
		case <-r.dials.changec:
			continue
		case <-ctx.Done():
		case <-deadline.C:
		}
		break
	}
	for _, sp := range r.spokes {
		rd := r.readerOf(sp)
		rd.mu.Lock()
		if sp.phase == welcoming {
			rd.endLocked(sp, errNoWelcome)
		}
		rd.mu.Unlock()
	}
}

var errNoWelcome = errors.New("the hub sends no __welcome")

// dial makes one connection and hands it to its reader.
func (r *run) dial(ctx context.Context, sp *spoke) error {
	conn, br, err := r.handshake(ctx, sp.address(r.config.URL, r.config.Topics), r.source(sp.index), sp.stalls)
	if err != nil {
		return err
	}
	r.dials.count(1, 0, "")
	return r.readerOf(sp).adopt(sp, conn, br)
}

// adopt takes a connection over from package net, whose poller would wake for every delivery.
func (rd *reader) adopt(sp *spoke, conn net.Conn, br *bufio.Reader) error {
	fd := -1
	if _, ok := conn.(*tls.Conn); !ok {
		var err error
		if fd, err = takeDescriptor(conn); err != nil {
			rd.run.dials.count(-1, 0, "")
			return err
		}
		conn = nil
	}
	rd.mu.Lock()
	defer rd.mu.Unlock()
	sp.fd, sp.conn, sp.phase = fd, conn, welcoming
	if br != nil {
		early, _ := br.Peek(br.Buffered())
		rd.takeLocked(sp, early)
		ws.PutReader(br)
		rd.settleLocked()
	}
	switch {
	case sp.phase == gone:
	case sp.conn != nil:
		rd.loopers.Go(func() { rd.follow(sp) })
	case sp.phase != stalled:
		if err := rd.watch(fd, sp.index); err != nil {
			rd.endLocked(sp, err)
		}
	}
	return nil
}

// takeDescriptor closes conn and returns its socket.
func takeDescriptor(conn net.Conn) (fd int, err error) {
	defer conn.Close()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, err
	}
	var duperr error
	err = raw.Control(func(own uintptr) { fd, duperr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, duperr)
}

// unwatchLocked stops reading a spoke.
func (rd *reader) unwatchLocked(sp *spoke) {
	if sp.fd >= 0 {
		_ = unix.EpollCtl(rd.epoll, unix.EPOLL_CTL_DEL, sp.fd, nil) // it may not be in there yet
	}
}

// sleepUntil waits until the given time of now, or until ctx is done.
func sleepUntil(ctx context.Context, at int64) {
	wait := time.Duration(at - now())
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
