package loop

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// loopback trusts the addresses that peers connect from, but for one.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/30"), netip.MustParsePrefix("10.0.0.0/8")}

const untrusted = "127.0.0.9"

// proxyHeader returns a PROXY header. TLVs are for version 2.
func proxyHeader(t testing.TB, version byte, source, destination string, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(destination)))
	require.NoError(t, h.SetTLVs(tlvs))
	b, err := h.Format()
	require.NoError(t, err)
	return b
}

// v2 returns a header of version 2 with this command, family and protocol, and what comes behind.
func v2(command, family byte, behind []byte) []byte {
	b := append([]byte(proxyV2), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(behind))), behind...)
}

func tlv(kind proxyproto.PP2Type, value string) proxyproto.TLV {
	return proxyproto.TLV{Type: kind, Value: []byte(value)}
}

// summed fills in the checksum, which is the last TLV of b.
func summed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, castagnoli))
	return b
}

const (
	proxied4 = "203.0.113.7:1234"
	proxied6 = "[2001:db8::7]:1234"

	longestIP = "2001:1db8:2222:3333:4444:5555:6666:7777"
)

// goodHeaders are those that are taken, and the address that they leave; none if it is the proxy's own.
func goodHeaders(t testing.TB) []headerCase {
	noop := tlv(proxyproto.PP2_TYPE_NOOP, "pad")
	alpn := tlv(proxyproto.PP2_TYPE_ALPN, "h2")
	sum := tlv(proxyproto.PP2_TYPE_CRC32C, "\x00\x00\x00\x00")
	return []headerCase{
		{"v1 TCP4", proxyHeader(t, 1, proxied4, "192.0.2.1:80"), proxied4},
		{"v1 TCP6", proxyHeader(t, 1, proxied6, "[2001:db8::1]:80"), proxied6},
		{"v1 longest", []byte("PROXY TCP6 " + longestIP + " " + longestIP + " 65535 65535\r\n"), "[" + longestIP + "]:65535"},
		{"v1 UNKNOWN", []byte("PROXY UNKNOWN\r\n"), ""},
		{"v1 UNKNOWN with addresses", []byte("PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n"), ""},
		{"v1 UNKNOWN as long as may be", []byte("PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n"), ""},
		{"v2 TCP4", proxyHeader(t, 2, proxied4, "192.0.2.1:80"), proxied4},
		{"v2 TCP6", proxyHeader(t, 2, proxied6, "[2001:db8::1]:80"), proxied6},
		{"v2 mapped", v2(0x21, 0x21, append(append(mapped("203.0.113.7"), mapped("192.0.2.1")...), 4, 210, 0, 80)), proxied4},
		{"v2 with TLVs", proxyHeader(t, 2, proxied4, "192.0.2.1:80", alpn, noop, tlv(proxyproto.PP2_TYPE_AUTHORITY, "hub.example")), proxied4},
		{"v2 with a checksum", summed(proxyHeader(t, 2, proxied4, "192.0.2.1:80", alpn, sum)), proxied4},
		{"v2 with a checksum, IPv6", summed(proxyHeader(t, 2, proxied6, "[2001:db8::1]:80", sum)), proxied6},
		{"v2 LOCAL", v2(0x20, 0x00, nil), ""},
		{"v2 LOCAL with what does not count", v2(0x20, 0x11, []byte{1, 2, 3}), ""},
		{"v2 LOCAL with addresses", v2(0x20, 0x11, make([]byte, 12)), ""},
		{"v2 of a Unix socket", v2(0x21, 0x31, make([]byte, 216)), ""},
		{"v2 of datagrams", v2(0x21, 0x12, make([]byte, 12)), ""},
		{"v2 as long as may be", proxyHeader(t, 2, proxied4, "192.0.2.1:80", tlv(0xe0, strings.Repeat("x", maxProxyV2Len-12-3))), proxied4},
	}
}

// badHeaders are those that are answered 400.
func badHeaders(t testing.TB) []headerCase {
	sum := tlv(proxyproto.PP2_TYPE_CRC32C, "1234")
	return []headerCase{
		{"v1 nothing", []byte("PROXY \r\n"), ""},
		{"v1 no CR", []byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n"), ""},
		{"v1 other family", []byte("PROXY TCP4 ::1 ::2 1 2\r\n"), ""},
		{"v1 other transport", []byte("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n"), ""},
		{"v1 too few", []byte("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n"), ""},
		{"v1 too many", []byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n"), ""},
		{"v1 two spaces", []byte("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), ""},
		{"v1 port", []byte("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n"), ""},
		{"v1 leading zero", []byte("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n"), ""},
		{"v1 zone", []byte("PROXY TCP6 fe80::1%lo fe80::2 1 2\r\n"), ""},
		{"v1 nobody", []byte("PROXY TCP6 :: fe80::2 1 2\r\n"), ""},
		{"v1 too long", []byte("PROXY UNKNOWN " + strings.Repeat("f", 107-14)), ""},
		{"v2 version", v2(0x11, 0x11, make([]byte, 12)), ""},
		{"v2 command", v2(0x22, 0x11, make([]byte, 12)), ""},
		{"v2 family", v2(0x21, 0x41, make([]byte, 12)), ""},
		{"v2 transport", v2(0x21, 0x13, make([]byte, 12)), ""},
		{"v2 no family", v2(0x21, 0x00, nil), ""},
		{"v2 short of an address", v2(0x21, 0x11, make([]byte, 11)), ""},
		{"v2 nobody", v2(0x21, 0x11, make([]byte, 12)), ""},
		{"v2 half a TLV", v2(0x21, 0x11, append([]byte{1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2}, 0x01, 0)), ""},
		{"v2 TLV too long", v2(0x21, 0x11, append([]byte{1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2}, 0x01, 0, 3, 'h', '2')), ""},
		{"v2 wrong checksum", proxyHeader(t, 2, proxied4, "192.0.2.1:80", sum), ""},
		{"v2 two checksums", proxyHeader(t, 2, proxied4, "192.0.2.1:80", sum, sum), ""},
		{"v2 short checksum", proxyHeader(t, 2, proxied4, "192.0.2.1:80", tlv(proxyproto.PP2_TYPE_CRC32C, "123")), ""},
		{"v2 too long", v2(0x21, 0x11, make([]byte, maxProxyV2Len+1))[:proxyV2Fixed], ""},
	}
}

type headerCase struct {
	name   string
	header []byte
	from   string
}

func mapped(ip string) []byte {
	b := netip.AddrFrom4(netip.MustParseAddr(ip).As4()).As16()
	return b[:]
}

// A connection that is not polled, for what is read of it before a request.
func firstBytes(t testing.TB, s *Server, pieces ...[]byte) *conn {
	t.Helper()
	c := &conn{server: s}
	c.believe(netip.MustParseAddrPort("127.0.0.1:99"))
	c.set(flagFirst)
	for _, b := range pieces {
		if len(b) > 0 {
			c.take(bytes.Clone(b))
		}
	}
	return c
}

func TestAPROXYHeaderIsReadAtEverySplit(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{TrustedProxies: loopback})
	behind := []byte("GET /ws HTTP/1.1\r\n")
	for _, h := range goodHeaders(t) {
		if h.from == "" {
			h.from = "127.0.0.1:99"
		}
		all := append(bytes.Clone(h.header), behind...)
		check := func(c *conn, what ...any) {
			require.False(t, c.has(flagFirst), what...)
			require.Equal(t, h.from, c.Remote(), what...)
			require.Equal(t, string(behind), c.head.String(), what...)
		}
		step := 1 + len(all)/300 // all but of the longest
		for cut := 0; cut < len(all); cut += step {
			check(firstBytes(t, s, all[:cut], all[cut:]), h.name, cut)
		}
		var single [][]byte
		for i := range all {
			single = append(single, all[i:i+1])
		}
		check(firstBytes(t, s, single...), h.name)
	}
}

func TestABadPROXYHeaderIsABadRequest(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{TrustedProxies: loopback})
	bad := badHeaders(t)
	for _, h := range bad {
		p := dialPeer(t, address, from{ip: "127.0.0.1"})
		p.write(h.header)
		resp, body := p.answer()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, h.name)
		require.Contains(t, body, "malformed PROXY header: ", h.name)
	}
	require.EqualValues(t, len(bad), s.Stats().Refused[RefusedBadRequest])
}

// The first of two checksums is right, and the second is not looked at: each costs a look at the whole header.
func TestAPROXYHeaderHasOneChecksum(t *testing.T) {
	sum := tlv(proxyproto.PP2_TYPE_CRC32C, "\x00\x00\x00\x00")
	b := proxyHeader(t, 2, proxied4, "192.0.2.1:80", sum, sum)
	const first = proxyV2Fixed + 12 + 3
	binary.BigEndian.PutUint32(b[first:], crc32.Checksum(b, castagnoli))
	require.True(t, checksumFits(b, first, b[first:first+4]))
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(b)))
	require.NoError(t, err)
	require.EqualError(t, checkTLVs(b, header.TransportProtocol), "two checksums")
}

// The length is known before the end has come, and no answer before that.
func TestABadPROXYHeaderIsFoundAtEverySplit(t *testing.T) {
	for _, h := range badHeaders(t) {
		for cut := range h.header {
			n, err := proxyHeaderLen(h.header[:cut])
			require.Zero(t, n, h.name)
			require.Equal(t, errMore, err, "%s %d", h.name, cut)
		}
		if n, err := proxyHeaderLen(h.header); err == nil {
			require.Equal(t, len(h.header), n, h.name)
			hs := handshakers.Get().(*handshaker)
			hs.src.Reset(h.header)
			hs.in.Reset(&hs.src)
			_, err = parseProxyHeader(hs.in, h.header)
			require.Error(t, err, h.name)
		}
	}
}

func TestWhatIsNoPROXYHeaderIsARequest(t *testing.T) {
	for _, b := range []string{"G", "PO", "PROX ", "PROXY\t", "\r\n\r\n\r", "\x16\x03\x01", "\n"} {
		n, err := proxyHeaderLen([]byte(b))
		require.NoError(t, err, b)
		require.Zero(t, n, b)
	}
	life := fanout.Config{}
	lives := watch(&life)
	_, _, address := startServer(t, life, Config{TrustedProxies: loopback})
	p := connectFrom(t, address, from{ip: "127.0.0.1"})
	require.Equal(t, p.tcp.LocalAddr().String(), receive(t, lives.began, "it connects").Remote(), "a proxy that says nothing speaks for itself")
}

func TestThePROXYHeaderSaysWhoItIs(t *testing.T) {
	hc := fanout.Config{}
	life := watch(&hc)
	asked := make(chan string, 1)
	_, h, address := startServer(t, hc, Config{TrustedProxies: loopback, Authenticate: func(r *http.Request) (fanout.Claims, error) {
		asked <- r.RemoteAddr
		return fanout.Claims{}, nil
	}})
	for _, version := range []byte{1, 2} {
		p := dialPeer(t, address, from{ip: "127.0.0.1"})
		head := proxyHeader(t, version, proxied4, "192.0.2.1:80")
		p.write(head[:7])
		p.write(append(head[7:], also(request("/ws"), "X-Forwarded-For: 192.0.2.99")...)) // the client's own say
		p.upgraded()
		require.Equal(t, codec.TypeWelcome, p.event().Type)
		require.Equal(t, proxied4, receive(t, asked, "Authenticate is asked"))
		spoke := receive(t, life.began, "it connects")
		require.Equal(t, proxied4, spoke.Remote())
		h.Inspect(func(info fanout.SpokeInfo) { require.Equal(t, proxied4, info.Remote) })
	}
}

func TestNobodyElseIsBelieved(t *testing.T) {
	hc := fanout.Config{}
	life := watch(&hc)
	for _, proxies := range [][]netip.Prefix{nil, loopback} {
		s, _, address := startServer(t, hc, Config{TrustedProxies: proxies})
		for _, version := range []byte{1, 2} {
			p := dialPeer(t, address, from{ip: untrusted})
			p.write(append(proxyHeader(t, version, proxied4, "192.0.2.1:80"), request("/ws")...))
			resp, body := p.answer()
			require.Equal(t, http.StatusBadRequest, resp.StatusCode)
			require.Contains(t, body, "not the address of a trusted proxy")
		}
		require.EqualValues(t, 2, s.Stats().Refused[RefusedBadRequest])
		p := dialPeer(t, address, from{ip: untrusted})
		p.write([]byte(also(request("/ws"), "X-Forwarded-For: 192.0.2.99")))
		p.upgraded()
		require.Equal(t, p.tcp.LocalAddr().String(), receive(t, life.began, "it connects").Remote())
	}
}

func TestXForwardedForIsReadFromItsEnd(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"one", []string{"203.0.113.7"}, "203.0.113.7:0"},
		{"the client's own say before it", []string{"192.0.2.99, 203.0.113.7"}, "203.0.113.7:0"},
		{"proxies behind", []string{"192.0.2.99,203.0.113.7, 10.1.2.3 ,127.0.0.2"}, "203.0.113.7:0"},
		{"several headers", []string{"192.0.2.99", "203.0.113.7, 10.1.2.3", "10.0.0.1"}, "203.0.113.7:0"},
		{"proxies alone", []string{"10.0.0.2, 10.0.0.1"}, "10.0.0.2:0"},
		{"with a port", []string{"203.0.113.7:1234"}, "203.0.113.7:1234"},
		{"IPv6", []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		{"IPv6 in brackets", []string{"[2001:db8::7]"}, "[2001:db8::7]:0"},
		{"IPv6 with a port", []string{"[2001:db8::7]:1234"}, "[2001:db8::7]:1234"},
		{"IPv4 in IPv6", []string{"::ffff:203.0.113.7"}, "203.0.113.7:0"},
		{"a proxy's, IPv4 in IPv6", []string{"203.0.113.7, ::ffff:10.0.0.1"}, "203.0.113.7:0"},
		{"no address", []string{"unknown"}, "127.0.0.1:99"},
		{"nothing", []string{""}, "127.0.0.1:99"},
		{"no header", nil, "127.0.0.1:99"},
		{"nobody", []string{"203.0.113.7, 0.0.0.0"}, "127.0.0.1:99"},
		{"no address behind a proxy", []string{"203.0.113.7, unknown, 10.0.0.1"}, "10.0.0.1:0"},
		{"nothing behind a proxy", []string{"203.0.113.7,, 10.0.0.1"}, "10.0.0.1:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := newServer(t, fanout.Config{}, Config{TrustedProxies: loopback})
			conn := firstBytes(t, s)
			conn.believeRequest(http.Header{"X-Forwarded-For": c.headers})
			require.Equal(t, c.want, conn.Remote())
		})
	}
}

func TestProxiedSpokesAreCountedByTheirOwnAddress(t *testing.T) {
	for _, c := range []struct {
		name string
		say  func(ip string) string
	}{
		{"PROXY", func(ip string) string {
			return string(proxyHeader(t, 2, ip+":1234", "192.0.2.1:80")) + request("/ws")
		}},
		{"X-Forwarded-For", func(ip string) string { return also(request("/ws"), "X-Forwarded-For: "+ip) }},
		{"both, by two proxies", func(ip string) string {
			return string(proxyHeader(t, 1, "10.0.0.1:1234", "192.0.2.1:80")) + also(request("/ws"), "X-Forwarded-For: "+ip)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, address := startServer(t, fanout.Config{}, Config{TrustedProxies: loopback, MaxSpokesPerIP: 2})
			dialPeer(t, address, from{ip: "127.0.0.1"}) // says nothing yet, for whomever it is
			var first *peer
			for _, ip := range []string{"203.0.113.7", "203.0.113.8"} {
				for range 2 {
					p := dialPeer(t, address, from{ip: "127.0.0.1"})
					p.write([]byte(c.say(ip)))
					p.upgraded()
					first = p
				}
				p := dialPeer(t, address, from{ip: "127.0.0.1"})
				p.write([]byte(c.say(ip)))
				resp, body := p.answer()
				require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
				require.Equal(t, "too many connections from this address\n", body)
				_ = p.tcp.Close()
			}
			require.EqualValues(t, 2, s.Stats().Refused[RefusedFullForIP])
			await(t, func() bool { return s.Stats().Connections == 5 }, "those that were refused are gone")
			first.vanish()
			await(t, func() bool { return s.Stats().Connections == 4 }, "one has left")
			p := dialPeer(t, address, from{ip: "127.0.0.1"})
			p.write([]byte(c.say("203.0.113.8")))
			p.upgraded()
		})
	}
}

func TestProxiedHandshakesHaveTheRateOfTheirOwnAddress(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{TrustedProxies: loopback})
	s.throttle = &throttle{each: pace{every: time.Hour}, addresses: newAddressClocks()}
	address := serveOn(t, s)
	for _, c := range []struct {
		ip     string
		status int
	}{
		{"203.0.113.7", 101}, {"203.0.113.7", 429}, {"203.0.113.8", 101}, {"2001:db8::1", 101}, {"2001:db8::2", 429},
	} {
		p := dialPeer(t, address, from{ip: "127.0.0.1"})
		p.write([]byte(also(request("/ws"), "X-Forwarded-For: "+c.ip)))
		resp, err := http.ReadResponse(p.in, nil)
		require.NoError(t, err)
		require.Equal(t, c.status, resp.StatusCode, c.ip)
	}
	require.EqualValues(t, 2, s.Stats().Refused[RefusedRateForIP])
}

func TestHandlerBelievesTrustedProxies(t *testing.T) {
	hc := fanout.Config{}
	life := watch(&hc)
	_, _, ts := startHandler(t, hc, Config{TrustedProxies: loopback, MaxSpokesPerIP: 1}, nil)
	for _, c := range []struct{ ip, say, want string }{
		{"127.0.0.1", "192.0.2.99, 203.0.113.7, 10.0.0.1", "203.0.113.7:0"},
		{untrusted, "203.0.113.7", untrusted + ":"},
	} {
		p := dialPeer(t, addressOf(ts), from{ip: c.ip})
		p.write([]byte(also(request("/live"), "X-Forwarded-For: "+c.say)))
		p.upgraded()
		require.Contains(t, receive(t, life.began, "it connects").Remote(), c.want)
		p = dialPeer(t, addressOf(ts), from{ip: c.ip})
		p.write([]byte(also(request("/live"), "X-Forwarded-For: "+c.say, "Connection: close")))
		resp, _ := p.answer()
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, "one from each address")
	}
}

func TestTrustedProxiesAreAddresses(t *testing.T) {
	c := Config{Hub: new(fanout.Hub), TrustedProxies: []netip.Prefix{{}}}
	require.ErrorContains(t, c.Validate(), "trusted proxy")
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}
	require.ErrorContains(t, c.Validate(), "an IPv4 address looks like")
	c.TrustedProxies = loopback
	require.NoError(t, c.Validate())
}
