package loadgen

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// stalledReceiveBytes is SO_RCVBUF of spokes that will stall: little fits, so the hub notices soon.
const stalledReceiveBytes = 4 << 10

// address adds the topic, if the spoke subscribes to one.
func (sp *spoke) address(base string, topics int) string {
	if topics == 0 {
		return base
	}
	u, err := url.Parse(base)
	if err != nil {
		panic("loadgen: the address was checked: " + err.Error())
	}
	q := u.Query()
	q.Add("topic", EventType+":"+strconv.Itoa(sp.topic))
	u.RawQuery = q.Encode()
	return u.String()
}

func (r *run) source(index int) net.Addr {
	if len(r.config.Sources) == 0 {
		return nil
	}
	return &net.TCPAddr{IP: r.config.Sources[index%len(r.config.Sources)].AsSlice()}
}

// handshake connects to a hub. What has come behind the answer is in the reader, which may be nil.
func (r *run) handshake(ctx context.Context, address string, from net.Addr, stalls bool) (net.Conn, *bufio.Reader, error) {
	socket := net.Dialer{LocalAddr: from, KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		return errors.Join(c.Control(func(fd uintptr) {
			// The port is chosen by connect, which knows the other end: it may be in use elsewhere.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			if stalls {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, stalledReceiveBytes)
			}
		}))
	}}
	var refusal string
	dialer := ws.Dialer{
		Timeout: r.config.HandshakeTimeout, TLSConfig: r.config.TLS,
		NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if known := r.hubAddress.Load(); known != nil { // looked up once, not for every spoke
				addr = *known
			}
			conn, err := socket.DialContext(ctx, network, addr)
			if err == nil && r.hubAddress.Load() == nil {
				known := conn.RemoteAddr().String()
				r.hubAddress.Store(&known)
			}
			return conn, err
		},
		OnStatusError: func(status int, _ []byte, resp io.Reader) { refusal = refusalText(status, resp) },
	}
	if r.config.Token != "" {
		dialer.Header = ws.HandshakeHeaderHTTP{"Authorization": {"Bearer " + r.config.Token}}
	}
	conn, br, _, err := dialer.Dial(ctx, address)
	if refusal != "" {
		return nil, nil, errors.New(refusal)
	}
	return conn, br, err
}

// refusalText says what a hub answered instead of 101.
func refusalText(status int, resp io.Reader) string {
	text := fmt.Sprintf("the hub says %d %s", status, http.StatusText(status))
	answer, err := http.ReadResponse(bufio.NewReader(resp), nil)
	if err != nil {
		return text
	}
	defer answer.Body.Close()
	if answer.ContentLength <= 0 {
		return text // one that ends with the connection is not waited for
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
	if line := strings.TrimSpace(string(body)); line != "" {
		text += ": " + line
	}
	return text
}

// failureText is an error without what differs from spoke to spoke, so that equal ones are counted
// together.
func failureText(err error) string {
	var errno syscall.Errno
	var op *net.OpError
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "no local port is left, or the address is not a local one (see --source)"
	case errors.Is(err, context.DeadlineExceeded):
		return "the handshake took too long"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}
