package loop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
)

// peer is a client at the level of bytes: it can be slow, rude and wrong.
type peer struct {
	t    testing.TB
	tcp  *net.TCPConn
	conn net.Conn // the same, or TLS over it
	in   *bufio.Reader
}

// from is where a peer connects from, and how much its kernel receives ahead; zero values leave it to
// the kernel.
type from struct {
	ip           string
	receiveBytes int
}

func (f from) dial(address string) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1, Timeout: patience}
	if f.ip != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(f.ip)}
	}
	if f.receiveBytes > 0 {
		d.Control = func(_, _ string, rc syscall.RawConn) error {
			var serr error
			err := rc.Control(func(fd uintptr) {
				serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, f.receiveBytes)
			})
			return errors.Join(err, serr)
		}
	}
	c, err := d.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// dialPeer returns a TCP connection without a handshake.
func dialPeer(t testing.TB, address string, f from) *peer {
	t.Helper()
	tcp, err := f.dial(address)
	require.NoError(t, err)
	if overTLS {
		return newPeerOver(t, tcp, tls.Client(tcp, trusting(nil)))
	}
	return newPeer(t, tcp)
}

func newPeer(t testing.TB, tcp *net.TCPConn) *peer {
	return newPeerOver(t, tcp, tcp)
}

// newPeerOver returns a peer that speaks over conn, which is tcp or what is above it.
func newPeerOver(t testing.TB, tcp *net.TCPConn, conn net.Conn) *peer {
	p := &peer{t: t, tcp: tcp, conn: conn, in: bufio.NewReader(conn)}
	t.Cleanup(func() { _ = tcp.Close() })
	require.NoError(t, tcp.SetDeadline(time.Now().Add(3*patience)))
	return p
}

// connect returns a peer that is a spoke and has had its __welcome.
func connect(t testing.TB, address string) *peer {
	t.Helper()
	return connectFrom(t, address, from{})
}

func connectFrom(t testing.TB, address string, f from) *peer {
	t.Helper()
	p := dialPeer(t, address, f)
	p.write([]byte(request("/ws")))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	return p
}

// sampleKey is the nonce of RFC 6455 section 1.3, and sampleAccept the answer to it.
const (
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// request returns a good handshake. Further headers replace those of the same name; "Name:" alone
// takes it out.
func request(target string, headers ...string) string {
	lines := []string{"Host: hub.example", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: " + sampleKey, "Sec-WebSocket-Version: 13"}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		kept := lines[:0]
		for _, line := range lines {
			if n, _, _ := strings.Cut(line, ":"); !strings.EqualFold(n, name) {
				kept = append(kept, line)
			}
		}
		if lines = kept; value != "" {
			lines = append(lines, h)
		}
	}
	return "GET " + target + " HTTP/1.1\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// also adds header lines to a request, beside those that are there.
func also(request string, lines ...string) string {
	return strings.TrimSuffix(request, "\r\n") + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	_, err := p.conn.Write(b)
	require.NoError(p.t, err)
}

// answer reads an HTTP response up to the end of the connection, which must come without a reset.
func (p *peer) answer() (*http.Response, string) {
	p.t.Helper()
	all, err := io.ReadAll(p.in)
	require.NoError(p.t, err, "after %q", all)
	method := http.MethodGet
	if !bytes.Contains(all, []byte("\r\n\r\n")) || bytes.HasSuffix(all, []byte("\r\n\r\n")) {
		method = http.MethodHead // there is no body
	}
	stream := bufio.NewReader(bytes.NewReader(all))
	resp, err := http.ReadResponse(stream, &http.Request{Method: method})
	require.NoError(p.t, err, "in %q", all)
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err, "the body is whole: %q", all)
	require.Zero(p.t, stream.Buffered(), "nothing comes behind the body: %q", all)
	return resp, string(body)
}

// upgraded reads the answer to a good handshake.
func (p *peer) upgraded() *http.Response {
	p.t.Helper()
	resp, err := http.ReadResponse(p.in, &http.Request{Method: http.MethodGet})
	require.NoError(p.t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		require.FailNow(p.t, "not upgraded", "%s: %s", resp.Status, body)
	}
	require.Equal(p.t, sampleAccept, resp.Header.Get("Sec-WebSocket-Accept"))
	return resp
}

// frame returns a client's frame, masked.
func frame(h ws.Header, payload []byte) []byte {
	h.Masked, h.Mask = true, [4]byte{0x12, 0x34, 0x56, 0x78}
	h.Length = int64(len(payload))
	var b bytes.Buffer
	if err := ws.WriteHeader(&b, h); err != nil {
		panic(err)
	}
	masked := bytes.Clone(payload)
	ws.Cipher(masked, h.Mask, 0)
	b.Write(masked)
	return b.Bytes()
}

func whole(op ws.OpCode, payload []byte) []byte {
	return frame(ws.Header{Fin: true, OpCode: op}, payload)
}

func text(payload string) []byte { return whole(ws.OpText, []byte(payload)) }

// message returns the frame of an event.
func message(typ, id string) []byte {
	return text(fmt.Sprintf(`{"type":%q,"id":%q,"payload":null}`, typ, id))
}

func closing(code codec.CloseCode, reason string) []byte {
	return whole(ws.OpClose, append([]byte{byte(code >> 8), byte(code)}, reason...))
}

// next reads one frame. It must be whole, and as servers send them. Many goroutines may do this at
// once, so it spares T.Helper, which locks.
func (p *peer) next() (ws.OpCode, []byte) {
	h, err := ws.ReadHeader(p.in)
	if err != nil || !h.Fin || h.Masked || h.Rsv != 0 {
		require.FailNow(p.t, "not a frame", "%+v %v", h, err)
	}
	payload := make([]byte, h.Length)
	if _, err = io.ReadFull(p.in, payload); err != nil {
		require.FailNow(p.t, "half a frame", "%v", err)
	}
	return h.OpCode, payload
}

// event reads the next event. Pings and pongs are left out.
func (p *peer) event() codec.Envelope {
	op, payload := p.next()
	for op == ws.OpPing || op == ws.OpPong {
		op, payload = p.next()
	}
	if op == ws.OpClose {
		require.FailNow(p.t, "the close frame instead of an event", "%q", payload)
	}
	return parse(p.t, payload)
}

func parse(t testing.TB, payload []byte) codec.Envelope {
	e, err := codec.ParseEnvelope(payload)
	if err != nil {
		require.FailNow(t, "not an envelope", "%q: %v", payload, err)
	}
	return e
}

// requireClose reads the next frame, which must be a close frame.
func (p *peer) requireClose(want codec.CloseCode) (reason string) {
	p.t.Helper()
	op, payload := p.next()
	require.Equal(p.t, ws.OpClose, op, "instead of a close frame: %q", payload)
	code, reason, err := codec.ParseClose(payload)
	require.NoError(p.t, err)
	require.Equal(p.t, want, code, reason)
	return reason
}

// requireBusy asks for an upgrade and is refused with 503.
func (p *peer) requireBusy(body string) {
	p.t.Helper()
	p.write([]byte(request("/ws")))
	resp, got := p.answer()
	require.Equal(p.t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(p.t, "5", resp.Header.Get("Retry-After"))
	require.Equal(p.t, body, got)
}

// requireEnd reads the end of the connection. There must not be a reset.
func (p *peer) requireEnd() {
	p.t.Helper()
	rest, err := io.ReadAll(p.in)
	require.NoError(p.t, err)
	require.Empty(p.t, rest)
}

// vanish resets the connection.
func (p *peer) vanish() {
	_ = p.tcp.SetLinger(0)
	_ = p.tcp.Close()
}

func requireError(t testing.TB, e codec.Envelope, code, id string) {
	t.Helper()
	require.Equal(t, codec.TypeError, e.Type)
	require.Equal(t, id, e.ID)
	var body codec.Error
	require.NoError(t, json.Unmarshal(e.Payload, &body))
	require.Equal(t, code, body.Code, body.Message)
}
