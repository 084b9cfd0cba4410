package fleet

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connect opens the connections and waits until all of them count.
func (c *clients) connect(config Clients) (Count, error) {
	to, err := parseAddress(config.Address)
	if err != nil {
		return Count{}, err
	}
	c.disconnect()
	c.config, c.latency = config, histogram{}
	total := config.total()
	c.all = make([]client, 0, total)
	readers, slows := 0, 0
	began := now()
	for c.connected < total {
		for len(c.all) < total && len(c.all)-c.connected < config.AtOnce {
			i := len(c.all)
			cl := client{began: now(), greet: &greeting{}}
			switch {
			case share(i, config.Stalled+config.Slow, total):
				cl.kind = stalling
				if share(slows, config.Slow, config.Stalled+config.Slow) {
					cl.kind = slowing
				}
				slows++
			default:
				cl.check = config.Checked > 0 && readers%config.Checked == 0
				cl.group = uint64(readers % max(1, config.Groups))
				readers++
			}
			c.all = append(c.all, cl)
			if err := c.open(i, to); err != nil {
				return Count{}, fmt.Errorf("client %d: %w", i, err)
			}
		}
		asked, err := c.turn()
		if err = errors.Join(err, c.failure); err != nil {
			return Count{}, err
		}
		if asked || now()-began > int64(time.Minute) {
			return Count{}, fmt.Errorf("given up with %d of %d clients connected", c.connected, total)
		}
	}
	n := Count{Elapsed: time.Duration(now() - began)}
	n.take(&c.latency)
	return n, c.startSlow()
}

// share reports whether i is one of the part that is spread evenly among the whole.
func share(i, part, whole int) bool { return (i+1)*part/whole > i*part/whole }

// open makes the connection of client i and sends the request if that is possible already.
func (c *clients) open(i int, to *unix.SockaddrInet4) error {
	cl := &c.all[i]
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	cl.fd = int32(fd)
	from := unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + i/perAddress)}}
	err = errors.Join(
		// The port is chosen by connect, which knows the other end: it may be in use elsewhere.
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		// Close with a reset, so that no port is blocked afterwards.
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.Bind(fd, &from),
	)
	if cl.kind != reading {
		// Little fits, so that the server notices soon.
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10))
	}
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		return err
	}
	// On loopback that was it, unless the listener's backlog is full.
	switch err := c.request(cl); err {
	case nil, unix.EAGAIN:
	default:
		return err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(i)}
	if cl.phase == opening {
		ev.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &ev)
}

// request asks for the upgrade.
func (c *clients) request(cl *client) error {
	_, err := unix.Write(int(cl.fd), handshake(&c.config, cl.group))
	if err == nil {
		cl.phase = greeted
	}
	return err
}

// hear takes what comes before the first counted byte.
func (c *clients) hear(cl *client, b []byte) {
	upgraded := cl.greet.upgraded
	done, err := cl.greet.hear(b, &c.config)
	if err == nil && !upgraded && cl.greet.upgraded && len(c.config.Hello) > 0 {
		_, err = unix.Write(int(cl.fd), c.config.Hello)
	}
	if err != nil {
		c.failure = err
	}
	if !done || err != nil {
		return
	}
	cl.greet = nil
	cl.phase = counting
	c.connected++
	c.latency.add(now()-cl.began, 1)
	if cl.kind != reading {
		cl.phase = left
		_ = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, int(cl.fd), nil)
	}
}

func (c *clients) disconnect() {
	c.stopSlow()
	for i := range c.all {
		if fd := c.all[i].fd; fd >= 0 {
			_ = unix.Close(int(fd)) // a reset: SO_LINGER is 0
		}
	}
	c.all, c.connected, c.failure = nil, 0, nil
	c.tally.begin(0)
	c.groups.begin(nil)
}

func parseAddress(s string) (*unix.SockaddrInet4, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}, nil
}
