package loop

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// A peer sends on and on while the hub still works on its handshake. What does not fit is lost, and ends the
// connection, but not without an answer to what came first; and the peer is read from all the time.
func TestTLSFloodDuringTheHandshakeIsAnswered(t *testing.T) {
	const flood = 2 << 20
	for name, c := range map[string]struct {
		first, then string
		check       func(t *testing.T, s *Server, p *peer)
	}{
		"a bad request": {"POST /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", "x", func(t *testing.T, s *Server, p *peer) {
			resp, _ := p.answer()
			require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
		}},
		"half a request": {"GET /ws HTTP/1.1\r\nx: ", "x", func(t *testing.T, s *Server, p *peer) {
			resp, _ := p.answer()
			require.Contains(t, []int{http.StatusRequestHeaderFieldsTooLarge, http.StatusBadRequest}, resp.StatusCode, "whatever of it fits")
		}},
		"a spoke": {request("/ws"), string(whole(ws.OpPong, make([]byte, 100))), func(t *testing.T, s *Server, p *peer) {
			p.upgraded()
			require.Equal(t, codec.TypeWelcome, p.event().Type)
			require.Contains(t, p.requireClose(codec.ClosePolicy), "before the handshake was over")
			p.requireEnd()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			config, begun, release := secured(), make(chan struct{}), make(chan struct{})
			config.ClientAuth = tls.RequestClientCert // so that the client has had everything when it is asked about
			config.VerifyConnection = func(tls.ConnectionState) error {
				close(begun)
				<-release
				return nil
			}
			s, _, address := startServer(t, fanout.Config{}, Config{TLS: config})
			goOn := sync.OnceFunc(func() { close(release) })
			t.Cleanup(goOn) // or the server would wait for it
			p, _ := dialSecure(t, address, from{}, &tls.Config{MinVersion: tls.VersionTLS13})
			receive(t, begun, "the handshake is under way")
			p.write(append([]byte(c.first), bytes.Repeat([]byte(c.then), flood/len(c.then))...))
			awaitFlood(t, s, p)
			goOn()
			c.check(t, s, p)
			await(t, func() bool { return s.Stats().TLS.Running == 0 }, "the handshake is over")
		})
	}
}

// awaitFlood waits until more has arrived behind a handshake than fits.
func awaitFlood(t *testing.T, s *Server, p *peer) {
	t.Helper()
	c := connOf(t, s, p).secure()
	await(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.shaking != nil && c.shaking.flooded
	}, "more has arrived than fits")
}

// What has been lost is part of the handshake: it ends then, and not with the deadline.
func TestTLSFloodInPlaceOfTheHandshakeEndsIt(t *testing.T) {
	config := secured()
	config.MaxVersion = tls.VersionTLS12 // where the client goes on in the clear
	s, _, address := startServer(t, fanout.Config{}, Config{TLS: config, TLSHandshakes: 1, HandshakeTimeout: time.Hour})
	holder := dialPeer(t, address, from{})
	holder.write(clientHello(t))
	await(t, func() bool { return s.Stats().TLS.Running == 1 }, "the only turn is taken")
	p := dialPeer(t, address, from{})
	const record = 16 << 10
	flood := clientHello(t)
	for i := range 128 {
		flood = append(flood, recordHandshake, 3, 3, record>>8, 0)
		body := make([]byte, record)
		if i == 0 {
			copy(body, []byte{16, 0, 0xff, 0xff}) // a ClientKeyExchange as long as may be
		}
		flood = append(flood, body...)
	}
	p.write(flood)
	awaitFlood(t, s, p) // it is read
	require.Equal(t, 1, s.Stats().TLS.InLine)
	holder.vanish()
	await(t, func() bool { return s.Stats().TLS.Running+s.Stats().TLS.InLine == 0 }, "it is over")
	_, err := io.Copy(io.Discard, p.tcp)
	require.NoError(t, err)
	require.NotZero(t, s.Stats().Refused[RefusedTLS])
}
