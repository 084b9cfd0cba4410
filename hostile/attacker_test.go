package hostile

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/internal/fleet"
)

// order is what the attacker's process is told: to begin, or without a name to end.
type order struct {
	Attack        string
	Long          bool
	Spokes, Admin string // addresses of the hub
}

// tally is what an attack has done.
type tally struct {
	Units    int64 // what the attack consists of: messages, frames, connections
	Connects int64 // of spokes that the hub has taken
}

// attacker is one attack under way, in a process of its own.
type attacker struct {
	order
	ctx   context.Context
	units atomic.Int64
	made  atomic.Int64
	dials atomic.Int64

	stayed sync.Map // connections
}

// attackerMain is the attacker's process.
func attackerMain() error {
	var a *attacker
	var end context.CancelFunc
	var ended chan struct{} // closed at the end of the attack
	return fleet.Obey(func(o order) (tally, error) {
		if o.Attack == "" {
			end()
			<-ended
			return tally{a.units.Load(), a.made.Load()}, nil
		}
		attack := find(o.Attack)
		if attack == nil {
			return tally{}, fmt.Errorf("there is no attack %q", o.Attack)
		}
		if o.Long {
			if err := yieldCores(); err != nil {
				return tally{}, err
			}
		}
		if a != nil {
			a.stayed.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		}
		a = &attacker{order: o}
		ended = make(chan struct{})
		a.ctx, end = context.WithCancel(context.Background())
		go func() {
			defer close(ended)
			attack.do(a)
		}()
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for began := time.Now(); a.units.Load() == 0; <-ticker.C {
			if time.Since(began) > patience {
				return tally{}, errors.New("the attack does not get going")
			}
		}
		return tally{}, nil
	})
}

// pick returns a number for the short form or the long one.
func (a *attacker) pick(short, long int) int {
	if a.Long {
		return long
	}
	return short
}

// over reports whether the attack is to end.
func (a *attacker) over() bool { return a.ctx.Err() != nil }

// times is how often one of the attackers does what it does in the short form. All of it is work that the
// hub gets done however slow the machine is: a rate would be more than it can do on a slow one.
const times = 6

// each calls fn with 0 to n-1 at the same time, again and again until the attack is over.
func (a *attacker) each(n int, fn func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for left := times; !a.over() && (a.Long || left > 0); left-- {
				fn(i)
				a.pause()
			}
			<-a.ctx.Done()
		})
	}
	all.Wait()
}

// rest waits for d, or until the attack is over.
func (a *attacker) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-a.ctx.Done():
	}
}

// pause lets the short form last for as long as those who behave are watched.
func (a *attacker) pause() {
	if !a.Long {
		a.rest(30 * time.Millisecond)
	}
}

// yieldCores has every thread of the process, and those to come, run only when nobody else wants the core.
// An attacker on a machine of its own would take nothing of the hub's or of those who behave: so what
// they wait for is the hub alone.
func yieldCores() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err == nil {
			err = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// perAddress is how many connections come from one address: less than it has ports.
const perAddress = 5000

// dial makes a connection that ends with the attack. It returns nil if there is none to be had.
func (a *attacker) dial(address string, receiveBytes int) *net.TCPConn {
	i := a.dials.Add(1)
	d := net.Dialer{
		Timeout: patience, KeepAlive: -1,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/perAddress%200))},
		Control: func(_, _ string, rc syscall.RawConn) error {
			return rc.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
				if receiveBytes > 0 {
					_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBytes)
				}
			})
		},
	}
	c, err := d.DialContext(a.ctx, "tcp", address)
	if err != nil {
		a.rest(10 * time.Millisecond)
		return nil
	}
	tcp := c.(*net.TCPConn)
	_ = tcp.SetLinger(0) // ports are scarce
	return tcp
}

// manner is how an attacker's spoke behaves.
type manner struct {
	path         string
	deflate      bool
	reads        bool // in the background, everything
	stays        bool // the connection, until the next attack
	receiveBytes int
}

// spoke connects one, nil if the hub does not take it.
func (a *attacker) spoke(m manner) *net.TCPConn {
	c := a.dial(a.Spokes, m.receiveBytes)
	if c == nil {
		return nil
	}
	if m.path == "" {
		m.path = "/ws?topic=none:of"
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if shake(c, bufio.NewReaderSize(c, 512), m.path, m.deflate) != nil {
		_ = c.Close()
		return nil
	}
	_ = c.SetDeadline(time.Time{})
	a.made.Add(1)
	if m.reads {
		go func() { // ends with the connection, and ends it when the hub does
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}()
	}
	return c
}

// send writes b, and reports false when the connection or the attack is over.
func (a *attacker) send(c net.Conn, b []byte) bool {
	stop := context.AfterFunc(a.ctx, func() { _ = c.SetWriteDeadline(time.Now()) })
	defer stop()
	_, err := c.Write(b)
	return err == nil && !a.over()
}

// flood has n spokes send the same bytes without end, each time worth so many units. Who is closed
// comes again.
func (a *attacker) flood(n int, m manner, units int, batch []byte, first ...[]byte) {
	n = min(n, a.pick(2, n))
	left := make([]int, n)
	for i := range left {
		left[i] = times
	}
	a.each(n, func(i int) {
		if left[i] == 0 && !a.Long {
			return
		}
		c := a.spoke(m)
		if c == nil {
			return
		}
		defer c.Close()
		for _, b := range first {
			if !a.send(c, b) {
				return
			}
		}
		for ; (a.Long || left[i] > 0) && a.send(c, batch); left[i]-- {
			a.units.Add(int64(units))
			a.pause()
		}
		if left[i] == 0 && !a.Long {
			<-a.ctx.Done()
		}
	})
}

// crowdAtOnce is how many of a crowd connect, and begin to do what they do, at a time.
const crowdAtOnce = 64

// crowd makes n spokes that do fn, each once, and stay until the attack is over.
func (a *attacker) crowd(n int, m manner, fn func(i int, c *net.TCPConn)) {
	var all sync.WaitGroup
	atOnce := make(chan struct{}, crowdAtOnce)
	for i := range n {
		all.Go(func() {
			atOnce <- struct{}{}
			c := a.spoke(m)
			<-atOnce
			if c == nil {
				return
			}
			if m.stays {
				a.stayed.Store(c, nil)
			} else {
				defer c.Close()
			}
			a.units.Add(1)
			fn(i, c)
			<-a.ctx.Done()
		})
	}
	all.Wait()
}

// frame returns a client's whole frame.
func frame(op ws.OpCode, payload []byte) []byte {
	return framed(ws.Header{Fin: true, OpCode: op}, payload)
}

func framed(h ws.Header, payload []byte) []byte {
	h.Masked, h.Mask, h.Length = true, [4]byte{1, 2, 3, 4}, int64(len(payload))
	var b bytes.Buffer
	if err := ws.WriteHeader(&b, h); err != nil {
		panic(err)
	}
	masked := bytes.Clone(payload)
	ws.Cipher(masked, h.Mask, 0)
	b.Write(masked)
	return b.Bytes()
}

func text(payload string) []byte { return frame(ws.OpText, []byte(payload)) }

// deflated returns the compressed frame of a message.
func deflated(message []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, err = w.Write(message)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		panic(err)
	}
	return compressed(bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff}))
}

// compressed returns the frame of a message that is compressed already.
func compressed(payload []byte) []byte {
	return framed(ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText}, payload)
}

// repeated returns b as often as fits into 64 KiB, 2 KiB in the short form, at least once, and how often
// that is.
func (a *attacker) repeated(b []byte) (all []byte, n int) {
	n = max(1, a.pick(2<<10, 64<<10)/len(b))
	return bytes.Repeat(b, n), n
}
