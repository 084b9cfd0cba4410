package loop

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// FuzzProxy sends the first bytes of a connection from a trusted proxy, whole and in two pieces, and looks
// at what is made of them: the same of both, and an address only of a header that says it.
func FuzzProxy(f *testing.F) {
	for _, h := range append(goodHeaders(f), badHeaders(f)...) {
		f.Add(h.header, uint16(len(h.header)/2))
		f.Add(append(bytes.Clone(h.header), request("/ws")...), uint16(len(h.header)))
	}
	f.Add([]byte(request("/ws")), uint16(3))
	s, _ := newServer(f, fanout.Config{}, Config{TrustedProxies: loopback})
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		n, err := proxyHeaderLen(b)
		at := min(int(cut), len(b))
		early, earlyErr := proxyHeaderLen(b[:at])
		switch {
		case earlyErr == errMore: // whatever comes of it
		case at > 0:
			require.Equal(t, n, early, "what has been decided stays so")
			require.Equal(t, err, earlyErr)
		}
		if err != nil || n == 0 {
			return
		}
		require.LessOrEqual(t, n, proxyV2Fixed+maxProxyV2Len)
		c := firstBytes(t, s)
		if c.believeHeader(b[:n]) != nil {
			return
		}
		from, err := netip.ParseAddrPort(c.Remote())
		require.NoError(t, err)
		require.False(t, from.Addr().IsUnspecified() || from.Addr().IsMulticast())
		pieces := firstBytes(t, s, b[:min(at, n)], b[min(at, n):n])
		require.Equal(t, c.Remote(), pieces.Remote())
		require.False(t, pieces.has(flagFirst))
		require.Nil(t, pieces.head)
	})
}

// FuzzForwarded sends X-Forwarded-For from a trusted proxy. What stands before the first address that is no
// proxy's changes nothing.
func FuzzForwarded(f *testing.F) {
	for _, header := range []string{
		"203.0.113.7", "192.0.2.99, 203.0.113.7, 10.0.0.1", "[2001:db8::7]:1234", "unknown, 10.0.0.1", ",,", "::ffff:10.0.0.1", "0.0.0.0",
		"fe80::1%lo", "[", "[]", "[1.2.3.4]", "1.2.3.4:99999", "10.0.0.1:80,\t127.0.0.1",
	} {
		f.Add(header, "192.0.2.99, unknown")
	}
	s, _ := newServer(f, fanout.Config{}, Config{TrustedProxies: loopback})
	remote := func(t *testing.T, headers ...string) netip.AddrPort {
		c := firstBytes(t, s)
		c.believeRequest(map[string][]string{"X-Forwarded-For": headers})
		from, err := netip.ParseAddrPort(c.Remote())
		require.NoError(t, err)
		require.False(t, from.Addr().IsUnspecified() || from.Addr().IsMulticast())
		return from
	}
	f.Fuzz(func(t *testing.T, header, lie string) {
		from := remote(t, header)
		if !s.config.trusts(from.Addr()) {
			require.Equal(t, from, remote(t, lie+","+header))
			require.Equal(t, from, remote(t, lie, header))
		}
	})
}
