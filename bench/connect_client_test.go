package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// handshake asks for the upgrade. The key is the example of RFC 6455 section 1.3, so the answer
	// is known beforehand.
	handshake = "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	acceptKey = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

	// perAddress is how many clients share a source address: well below the number of ports.
	perAddress = 5000
	// handshakesAtOnce stays below the backlog of any listener: a connection that does not fit
	// would try again only after a second.
	handshakesAtOnce = 128
)

// connect opens the connections and waits for their welcome.
func (c *clients) connect(cmd command) (reply, error) {
	to, err := parseAddress(cmd.Address)
	if err != nil {
		return reply{}, err
	}
	c.disconnect()
	c.latency = histogram{}
	total := cmd.Clients + cmd.Stalled
	c.all = make([]client, 0, total)
	reading := 0
	began := now()
	for c.connected < total {
		for len(c.all) < total && len(c.all)-c.connected < handshakesAtOnce {
			i := len(c.all)
			// Spread evenly: of the first i clients this share stalls.
			cl := client{began: now(), stalls: (i+1)*cmd.Stalled/total > i*cmd.Stalled/total}
			if !cl.stalls {
				if cmd.Checked > 0 && reading%cmd.Checked == 0 {
					cl.checker = &checker{}
				}
				reading++
			}
			c.all = append(c.all, cl)
			if err := c.open(i, to); err != nil {
				return reply{}, fmt.Errorf("client %d: %w", i, err)
			}
		}
		asked, err := c.turn()
		if err = errors.Join(err, c.failure); err != nil {
			return reply{}, err
		}
		if asked || now()-began > int64(time.Minute) {
			return reply{}, fmt.Errorf("given up with %d of %d clients connected", c.connected, total)
		}
	}
	elapsed := time.Duration(now() - began)
	c.connected = reading
	h := &c.latency
	return reply{Elapsed: elapsed, P50: h.quantile(0.50), P99: h.quantile(0.99), Max: h.max}, nil
}

// open makes the connection of client i and sends the request.
func (c *clients) open(i int, to *unix.SockaddrInet4) error {
	cl := &c.all[i]
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
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
	if cl.stalls {
		// Little fits, so that the hub notices soon.
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10))
	}
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, to); err != nil { // on loopback that does not wait
		return err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(i)}
	if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(handshake))
	return err
}

// welcome takes what comes before the first counted byte: the answer to the handshake and one frame.
func (c *clients) welcome(cl *client, b []byte) {
	cl.head = append(cl.head, b...)
	end := bytes.Index(cl.head, []byte("\r\n\r\n")) + 4
	if end < 4 {
		return
	}
	if answer := cl.head[:end]; !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) || !bytes.Contains(answer, []byte(acceptKey)) {
		c.failure = fmt.Errorf("the handshake was answered with %q", answer)
		return
	}
	n := frameLength(cl.head[end:])
	if n == 0 || len(cl.head)-end < n {
		return
	}
	if rest := cl.head[end+n:]; len(rest) > 0 {
		c.failure = fmt.Errorf("unexpected bytes behind the first event: %q", rest)
		return
	}
	cl.head = nil
	cl.phase = counting
	c.connected++
	c.latency.add(now()-cl.began, 1)
	if cl.stalls {
		cl.phase = stalled
		_ = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, int(cl.fd), nil)
	}
}

// frameLength returns the length of the unmasked frame that b begins with, 0 if its header is not
// complete (RFC 6455 section 5.2).
func frameLength(b []byte) int {
	switch {
	case len(b) < 2:
		return 0
	case b[1] < 126:
		return 2 + int(b[1])
	case len(b) < 4:
		return 0
	}
	return 4 + int(binary.BigEndian.Uint16(b[2:]))
}
