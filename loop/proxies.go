package loop

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pires/go-proxyproto"
)

// A proxy in front says for whom it connects: with a PROXY header before anything else, or with
// X-Forwarded-For in the request. Either is believed from Config.TrustedProxies alone, and the address
// takes the place of the proxy's, for the limits and for everybody who asks.
//
// The Forwarded header of RFC 7239 is not read: a proxy that sets one of the two passes the other on as
// the client has made it up.

// trusts reports whether an address is a trusted proxy's.
func (c *Config) trusts(a netip.Addr) bool {
	for _, p := range c.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// onProxyHeader takes the first bytes of a connection from a trusted proxy: a PROXY header, if there is one,
// before anything else looks at them. It may arrive in pieces.
func (c *conn) onProxyHeader(b []byte) {
	if c.head != nil {
		c.head.Write(b)
		b = c.head.Bytes()
	}
	n, err := proxyHeaderLen(b)
	switch {
	case err == errMore && c.head == nil:
		c.head = bytes.NewBuffer(bytes.Clone(b))
		return
	case err == errMore:
		return
	case err == nil && n > 0:
		err = c.believeHeader(b[:n])
	}
	c.head = nil
	c.flags.And(^uint32(flagFirst))
	switch {
	case err != nil:
		c.refuse(newRefusal(http.StatusBadRequest, "malformed PROXY header: "+err.Error(), RefusedBadRequest))
	case n < len(b):
		c.take(b[n:])
	}
}

// The PROXY protocol, https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
const (
	proxyV1 = "PROXY "
	proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"

	maxProxyV1    = 107     // with its CRLF, section 2.1
	proxyV2Fixed  = 16      // before the addresses, section 2.2
	maxProxyV2Len = 4 << 10 // of addresses and TLVs; the largest there are hold a client's certificate
)

// errMore says that what is there may be the beginning of a PROXY header.
var errMore = errors.New("loop: more bytes are needed")

// proxyHeaderLen returns how long the PROXY header is that b begins with, once it is there as a whole; 0
// if it begins with something else.
func proxyHeaderLen(b []byte) (int, error) {
	switch {
	case begins(b, proxyV1):
		end := bytes.IndexByte(b[:min(len(b), maxProxyV1)], '\n')
		if end >= 0 {
			return end + 1, nil
		}
		if len(b) >= maxProxyV1 {
			return 0, fmt.Errorf("no end of line in %d bytes", maxProxyV1)
		}
	case begins(b, proxyV2):
		if len(b) < proxyV2Fixed {
			break
		}
		length := int(binary.BigEndian.Uint16(b[proxyV2Fixed-2:]))
		if length > maxProxyV2Len {
			return 0, fmt.Errorf("%d bytes of addresses and TLVs, at most %d are read", length, maxProxyV2Len)
		}
		if len(b) >= proxyV2Fixed+length {
			return proxyV2Fixed + length, nil
		}
	default:
		return 0, nil
	}
	return 0, errMore
}

// begins reports whether b begins with the signature, as far as b goes.
func begins(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return string(b[:n]) == signature[:n]
}

// believeHeader takes the address from a PROXY header that is there as a whole. A proxy that speaks for
// itself, as for a health check, or for something that has no such address, keeps its own.
func (c *conn) believeHeader(b []byte) error {
	h := handshakers.Get().(*handshaker)
	defer handshakers.Put(h)
	h.src.Reset(b)
	h.in.Reset(&h.src)
	from, err := parseProxyHeader(h.in, b)
	if err == nil && from.IsValid() {
		c.believe(from)
		if !c.server.config.trusts(c.addr()) {
			c.server.countForIP(c)
		}
	}
	return err
}

// parseProxyHeader reads the header b from in; an invalid address without an error says nothing about it.
func parseProxyHeader(in *bufio.Reader, b []byte) (netip.AddrPort, error) {
	none := netip.AddrPort{}
	header, err := proxyproto.Read(in)
	if err != nil {
		return none, errors.New(strings.TrimPrefix(err.Error(), "proxyproto: "))
	}
	if header.Version == 2 && !header.Command.IsLocal() {
		if err := checkTLVs(b, header.TransportProtocol); err != nil {
			return none, err
		}
	}
	tcp, _, ok := header.TCPAddrs()
	if header.Command.IsLocal() || !ok {
		return none, nil
	}
	from := tcp.AddrPort()
	if from.Addr().IsUnspecified() || from.Addr().IsMulticast() {
		return none, fmt.Errorf("nobody connects from %s", from.Addr())
	}
	return from, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkTLVs holds that they are whole, and that the checksum is right if there is one, of the header with
// zeros in its place (section 2.2.3). There is one at most: each costs a look at the whole header, and
// 4 KiB would have room for 580.
func checkTLVs(b []byte, addresses proxyproto.AddressFamilyAndProtocol) error {
	at := proxyV2Fixed
	switch {
	case addresses.IsIPv4():
		at += 12
	case addresses.IsIPv6():
		at += 36
	case addresses.IsUnix():
		at += 216
	}
	summed := false
	for at < len(b) {
		const fixed = 3 // type, length
		if at+fixed > len(b) || at+fixed+int(binary.BigEndian.Uint16(b[at+1:])) > len(b) {
			return errors.New("a TLV is cut off")
		}
		value := b[at+fixed : at+fixed+int(binary.BigEndian.Uint16(b[at+1:]))]
		if proxyproto.PP2Type(b[at]) == proxyproto.PP2_TYPE_CRC32C {
			if summed {
				return errors.New("two checksums")
			}
			if summed = true; !checksumFits(b, at+fixed, value) {
				return errors.New("wrong checksum")
			}
		}
		at += fixed + len(value)
	}
	return nil
}

// checksumFits reports whether value, which stands there in b, is the checksum of b.
func checksumFits(b []byte, at int, value []byte) bool {
	if len(value) != crc32.Size {
		return false
	}
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, make([]byte, crc32.Size))
	return crc32.Update(sum, castagnoli, b[at+crc32.Size:]) == binary.BigEndian.Uint32(value)
}

// believeRequest takes the address from X-Forwarded-For, if the request is from a trusted proxy. Each
// proxy adds whom it has the request from at the end, so from there on trusted proxies are passed over:
// the first address that is none of theirs is the client's, and what stands before it is its own say. What
// is no address ends the search as well, with the last one that was.
func (c *conn) believeRequest(header http.Header) {
	if !c.server.config.trusts(c.addr()) {
		return
	}
	var from netip.AddrPort
	for address := range backwards(header["X-Forwarded-For"]) {
		said := forwardedAddress(address)
		if !said.IsValid() {
			break
		}
		if from = said; !c.server.config.trusts(from.Addr()) {
			break
		}
	}
	if from.IsValid() {
		c.believe(from)
	}
}

// backwards goes through the elements of a list that may be spread over several headers, from its end.
func backwards(headers []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, list := range slices.Backward(headers) {
			for more := true; more; {
				comma := strings.LastIndexByte(list, ',')
				if !yield(strings.Trim(list[comma+1:], " \t")) {
					return
				}
				if more = comma >= 0; more {
					list = list[:comma]
				}
			}
		}
	}
}

// forwardedAddress reads an element of X-Forwarded-For, which some proxies write with a port, or in
// brackets. The port is 0 if there is none.
func forwardedAddress(s string) netip.AddrPort {
	from := addrIn(s)
	if inner, ok := strings.CutPrefix(s, "["); ok && !from.IsValid() {
		inner, _ = strings.CutSuffix(inner, "]")
		from = addrIn(inner)
	}
	addr := from.Addr().Unmap().WithZone("")
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, from.Port())
}

// believe puts an address in the place of the proxy's. The caller has the reading side, and there is no
// spoke yet.
func (c *conn) believe(from netip.AddrPort) {
	c.server.conns.mu.Lock()
	defer c.server.conns.mu.Unlock()
	c.ip, c.port = from.Addr().As16(), from.Port()
}
