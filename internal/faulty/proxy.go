// Package faulty is a TCP proxy that does to connections what networks and peers do to them: it
// delays, stalls, passes on byte by byte, closes one half, cuts at any byte and resets, each
// connection by a script.
package faulty

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Proxy passes connections on to one address.
type Proxy struct {
	// Set by New, read-only afterwards.
	target string
	ln     *net.TCPListener

	dialing sync.Mutex // one connection at a time, so that the one accepted is the one dialled
	passing sync.WaitGroup

	mu sync.Mutex // a leaf
	// +checklocks:mu
	conns map[*Conn]struct{}
	// +checklocks:mu
	closed bool
}

// bufferBytes is what each of the proxy's sockets buffers, about: little, so that a pause is soon felt
// at the other end.
const bufferBytes = 8 << 10

// dialTimeout bounds each of the two connections.
const dialTimeout = 10 * time.Second

// New returns a proxy to an address. Close ends it.
func New(target string) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faulty: %w", err)
	}
	return &Proxy{target: target, ln: ln.(*net.TCPListener), conns: make(map[*Conn]struct{})}, nil
}

// Conn is the client's end of a connection through the proxy.
type Conn struct {
	*net.TCPConn

	// Set by Dial, read-only afterwards.
	proxy     *Proxy
	near, far *net.TCPConn // the proxy's sockets, to the client and to the target
	endc      chan struct{}
	end       sync.Once // closes endc

	mu sync.Mutex // a leaf
	// +checklocks:mu
	happened []string
	// +checklocks:mu
	ended bool // by a fault
	// +checklocks:mu
	passed [2]int64
}

// Dial returns a connection to the target to which happens what the script says.
func (p *Proxy) Dial(s Script) (*Conn, error) {
	p.dialing.Lock()
	defer p.dialing.Unlock()
	far, err := dial(p.target)
	if err != nil {
		return nil, fmt.Errorf("faulty: target: %w", err)
	}
	client, err := dial(p.ln.Addr().String())
	if err != nil {
		_ = far.Close()
		return nil, fmt.Errorf("faulty: %w", err)
	}
	near, err := p.ln.AcceptTCP()
	if err != nil {
		_ = far.Close()
		_ = client.Close()
		return nil, fmt.Errorf("faulty: %w", err)
	}
	_ = near.SetWriteBuffer(bufferBytes)
	c := &Conn{TCPConn: client, proxy: p, near: near, far: far, endc: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.stop(false)
		_ = client.Close()
		return nil, net.ErrClosed
	}
	p.conns[c] = struct{}{}
	var both sync.WaitGroup
	both.Go(func() { c.pass(up, near, far, s.Up) })
	both.Go(func() { c.pass(down, far, near, s.Down) })
	p.passing.Go(func() { // ends with both
		both.Wait()
		c.stop(false)
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	})
	return c, nil
}

func dial(address string) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1, Timeout: dialTimeout, Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		})
	}}
	c, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// Close cuts what is left, and waits for it.
func (p *Proxy) Close() {
	_ = p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		c.stop(true)
	}
	p.mu.Unlock()
	p.passing.Wait()
}

// Ended reports whether a fault has ended the connection, or half of it.
func (c *Conn) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// Happened returns the faults so far, in order, with the time and the bytes that had passed by then,
// and what has passed by now.
func (c *Conn) Happened() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(slices.Clone(c.happened), fmt.Sprintf("%s up %d, down %d", clock(), c.passed[up], c.passed[down]))
}

func clock() string { return time.Now().Format("05.000") }

// direction names the halves of a connection.
type direction uint8

const (
	up direction = iota
	down
)

var directionNames = []string{"up", "down"}

// pass passes on what comes from one socket to the other, until there is no more, and performs the
// steps at their bytes.
func (c *Conn) pass(d direction, from, to *net.TCPConn, steps []Step) {
	buf := make([]byte, 4<<10)
	since, trickle := 0, 0
	for {
		most := len(buf)
		if len(steps) > 0 && trickle == 0 {
			if since == steps[0].After {
				step := steps[0]
				steps, since = steps[1:], 0
				if c.note(d, step); !c.perform(step, from, to) {
					return
				}
				trickle = step.Bytes
				continue
			}
			most = min(most, steps[0].After-since)
		}
		if trickle > 0 {
			most = min(most, trickle)
		}
		n, err := from.Read(buf[:most])
		if !c.write(d, to, buf[:n], trickle > 0) {
			c.stop(true)
			return
		}
		if trickle > 0 {
			trickle -= n
		} else {
			since += n
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = to.CloseWrite()
			return
		case err != nil:
			c.stop(true)
			return
		}
	}
}

func (c *Conn) write(d direction, to *net.TCPConn, b []byte, singly bool) bool {
	size := len(b)
	if singly {
		size = 1
	}
	for part := range slices.Chunk(b, max(1, size)) {
		if _, err := to.Write(part); err != nil {
			return false
		}
	}
	c.mu.Lock()
	c.passed[d] += int64(len(b))
	c.mu.Unlock()
	return true
}

// note takes down what is about to happen, before anybody can feel it.
func (c *Conn) note(d direction, step Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.happened = append(c.happened, fmt.Sprintf("%s %s at %d: %v", clock(), directionNames[d], c.passed[d], step))
	c.ended = c.ended || step.Fault.Ends()
}

// perform reports whether this direction goes on.
func (c *Conn) perform(step Step, from, to *net.TCPConn) bool {
	switch step.Fault {
	case Pause:
		t := time.NewTimer(step.Pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.endc:
			return false
		}
	case HalfClose:
		_ = to.CloseWrite()
		if _, err := io.Copy(io.Discard, from); err != nil {
			c.stop(true)
		}
		return false
	case Cut, Reset:
		c.stop(step.Fault == Reset)
		return false
	}
	return true
}

// stop closes the proxy's sockets.
func (c *Conn) stop(reset bool) {
	c.end.Do(func() {
		close(c.endc)
		if reset {
			_ = c.near.SetLinger(0)
			_ = c.far.SetLinger(0)
		}
		_ = c.near.Close()
		_ = c.far.Close()
	})
}
