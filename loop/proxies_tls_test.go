package loop

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Whatever is cut where, TLS gets what stands behind the header, and nothing else.
func TestThePROXYHeaderEndsWhereTLSBegins(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{TrustedProxies: loopback, TLS: secured()})
	hello := clientHello(t)
	hello = hello[:len(hello)-1] // with the last byte the handshake would begin
	for _, h := range goodHeaders(t) {
		if h.from == "" {
			h.from = "127.0.0.1:99"
		}
		all := append(bytes.Clone(h.header), hello...)
		border := len(h.header)
		for cut := max(1, border-20); cut < border+recordHeader+3; cut++ {
			for next := cut; next < border+recordHeader+3; next++ {
				c := &secureConn{conn: conn{server: s}}
				c.believe(netip.MustParseAddrPort("127.0.0.1:99"))
				c.set(flagFirst | flagTLS)
				for _, b := range [][]byte{all[:cut], all[cut:next], all[next:]} {
					if len(b) > 0 {
						c.take(bytes.Clone(b))
					}
				}
				require.False(t, c.has(flagFirst|flagDeaf), h.name, cut, next)
				require.Equal(t, h.from, c.Remote(), h.name, cut, next)
				require.Equal(t, hello, c.head.Bytes(), h.name, cut, next)
			}
		}
	}
}

// behind writes a header in front of the first bytes, in one piece with them.
type behind struct {
	net.Conn
	header []byte
}

func (c *behind) Write(b []byte) (int, error) {
	if c.header == nil {
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(append(c.header, b...))
	n, c.header = max(0, n-len(c.header)), nil
	return n, err
}

func TestThePROXYHeaderComesBeforeTLS(t *testing.T) {
	hc := fanout.Config{}
	life := watch(&hc)
	_, h, address := startServer(t, hc, Config{TrustedProxies: loopback, TLS: secured()})
	for _, version := range []byte{1, 2} {
		for _, piece := range []int{0, 1, 7} {
			tcp, err := from{ip: "127.0.0.1"}.dial(address)
			require.NoError(t, err)
			header := proxyHeader(t, version, proxied4, "192.0.2.1:80")
			p := newPeerOver(t, tcp, tls.Client(&behind{&slicer{tcp, piece}, header}, trusting(nil)))
			welcomed(t, p)
			require.Equal(t, proxied4, receive(t, life.began, "it connects").Remote())
			dispatch(t, h, codec.Envelope{Type: "tick"})
			require.Equal(t, "tick", p.event().Type)
			_ = p.tcp.Close()
			receive(t, life.ended, "it is gone")
		}
	}
}

// On a port with TLS a header of version 1 looks like HTTP, and is told so. One of version 2 looks like
// nothing, and ends the connection. Both are counted.
func TestAnUntrustedPROXYHeaderIsNoTLS(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{TrustedProxies: loopback, TLS: secured()})
	p := dialPeer(t, address, from{ip: untrusted})
	p.write(append(proxyHeader(t, 1, proxied4, "192.0.2.1:80"), clientHello(t)...))
	resp, _ := p.answer()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	p = dialPeer(t, address, from{ip: untrusted})
	p.write(append(proxyHeader(t, 2, proxied4, "192.0.2.1:80"), clientHello(t)...))
	p.requireEnd()
	require.EqualValues(t, 2, s.Stats().Refused[RefusedTLS])
}

// A bad header from a trusted proxy is told so before TLS, as it has come.
func TestABadPROXYHeaderBeforeTLSIsABadRequest(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{TrustedProxies: loopback, TLS: secured()})
	p := dialPeer(t, address, from{ip: "127.0.0.1"})
	p.write(append(v2(0x21, 0x11, make([]byte, 12)), clientHello(t)...))
	resp, body := p.answer()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, body, "malformed PROXY header: ")
	require.EqualValues(t, 1, s.Stats().Refused[RefusedBadRequest])
}
