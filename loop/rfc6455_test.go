package loop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// What RFC 6455 demands of a server, by its sections, on real connections to a hub that echoes.
// docs/protocol.md lists which test stands for which section.

// sent and answer are what goes over the wire in an exchange.
type wireFrame struct {
	op      ws.OpCode
	payload string
}

// exchange writes bytes to a new connection, and must get these frames back and then, unless code is
// 0, a close frame with that code and the end of the connection. With 0 the connection must be alive.
func exchange(t *testing.T, address string, sent []byte, want []wireFrame, code codec.CloseCode) {
	t.Helper()
	p := connectBare(t, address)
	p.write(sent)
	for _, f := range want {
		p.requireFrame(f.op, []byte(f.payload))
	}
	p.requireOutcome(code)
}

// requireOutcome reads the close frame and the end, or if code is 0 closes in order.
func (p *peer) requireOutcome(code codec.CloseCode) {
	p.t.Helper()
	if code == 0 {
		p.write(closing(codec.CloseNormal, "done"))
		require.Equal(p.t, "done", p.requireClose(codec.CloseNormal))
	} else {
		p.requireClose(code)
	}
	p.requireEnd()
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// headOf returns a header as it is given, masked by a mask of zeros, with the length in so many bits.
func headOf(first byte, bits int, length uint64) []byte {
	b := []byte{first, 0x80}
	switch bits {
	case 7:
		b[1] |= byte(length)
	case 16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(length))
	case 64:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, length)
	}
	return append(b, 0, 0, 0, 0)
}

func TestRFC6455Section4Handshake(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	good := request("/ws")
	long := strings.Repeat("x", maxHeadBytes)
	for _, c := range []struct {
		name, head string
		status     int
	}{
		{"4.1 a key, a version, nothing else", good, 101},
		{"4.2.1 names in any case", strings.NewReplacer("Host", "hOST", "Upgrade:", "uPGRADE:", "Connection", "CONNECTION", "Sec-W", "sEC-w").Replace(good), 101},
		{"4.2.1 item 1: method", strings.Replace(good, "GET", "PUT", 1), 405},
		{"4.2.1 item 1: method in lower case", strings.Replace(good, "GET", "get", 1), 405},
		{"4.2.1 item 1: HTTP/1.0", strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), 505},
		{"4.2.1 item 1: absolute URI", strings.Replace(good, "/ws", "http://hub.example/ws", 1), 101},
		{"4.2.1 item 2: no Host", request("/ws", "Host:"), 400},
		{"4.2.1 item 2: two of them", also(good, "Host: hub.example"), 400},
		{"4.2.1 item 3: no Upgrade", request("/ws", "Upgrade:"), 426},
		{"4.2.1 item 3: another", request("/ws", "Upgrade: websockets"), 400},
		{"4.2.1 item 3: in any case", request("/ws", "Upgrade: WebSocket"), 101},
		{"4.2.1 item 3: among others", request("/ws", "Upgrade: h2c, websocket"), 101},
		{"4.2.1 item 3: in the second of two", also(request("/ws", "Upgrade: h2c"), "Upgrade: websocket"), 101},
		{"4.2.1 item 3: oversized", request("/ws", "Upgrade: websocket, "+long), 431},
		{"4.2.1 item 4: no Connection", request("/ws", "Connection:"), 400},
		{"4.2.1 item 4: another", request("/ws", "Connection: keep-alive"), 400},
		{"4.2.1 item 4: a part of a token", request("/ws", "Connection: Upgraded"), 400},
		{"4.2.1 item 4: a token in a string", request("/ws", `Connection: "Upgrade"`), 400},
		{"4.2.1 item 4: among others, in any case", request("/ws", "Connection: keep-alive , uPGRADE"), 101},
		{"4.2.1 item 4: in the second of two", also(request("/ws", "Connection: keep-alive"), "Connection: Upgrade"), 101},
		{"4.2.1 item 4: oversized", request("/ws", "Connection: Upgrade, "+long), 431},
		{"4.2.1 item 5: no key", request("/ws", "Sec-WebSocket-Key:"), 400},
		{"4.2.1 item 5: 15 bytes", request("/ws", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), 400},
		{"4.2.1 item 5: 17 bytes", request("/ws", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXM="), 400},
		{"4.2.1 item 5: no base64", request("/ws", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), 400},
		{"4.2.1 item 5: base64 for URLs", request("/ws", "Sec-WebSocket-Key: ____________________-w=="), 400},
		{"4.2.1 item 5: two of them", also(good, "Sec-WebSocket-Key: "+sampleKey), 400},
		{"4.2.1 item 5: oversized", request("/ws", "Sec-WebSocket-Key: "+long), 431},
		{"4.2.1 item 6: no version", request("/ws", "Sec-WebSocket-Version:"), 400},
		{"4.2.1 item 6: two of them", also(good, "Sec-WebSocket-Version: 13"), 400},
		{"4.4 a version before", request("/ws", "Sec-WebSocket-Version: 8"), 426},
		{"4.4 a version after", request("/ws", "Sec-WebSocket-Version: 14"), 426},
		{"4.4 several versions in one", request("/ws", "Sec-WebSocket-Version: 13, 8"), 426},
		{"4.4 leading zero", request("/ws", "Sec-WebSocket-Version: 013"), 426},
		{"4.2.2 item 4: a foreign origin", also(good, "Origin: http://evil.example"), 403},
		{"4.2.2 item 4: two origins", also(good, "Origin: http://hub.example", "Origin: http://hub.example"), 400},
		{"4.2.1 item 8: a subprotocol that is no token", also(good, "Sec-WebSocket-Protocol: a b"), 400},
		{"4.2.1 item 8: an empty subprotocol", also(good, "Sec-WebSocket-Protocol: chat, ,x"), 400},
		{"9.1 a malformed extension", also(good, offerHeader+": permessage-deflate; =1"), 400},
		{"9.1 a malformed extension behind a good one", also(good, offerHeader+": permessage-deflate, ;"), 400},
		{"9.1 extensions that the server does not know", also(good, offerHeader+": foo; bar=\"b z\", permessage-bzip2"), 101},
		{"4.2.1 a line without a colon", also(good, "nonsense"), 400},
		{"4.2.1 a folded line", also(good, "A: b", " c"), 101}, // net/http joins them, as RFC 9112 section 5.2 allows
		{"4.2.1 a space before the colon", also(good, "A : b"), 400},
		{"4.2.1 a head with a body", also(good, "Content-Length: 1"), 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := dialPeer(t, address, from{})
			p.write([]byte(c.head))
			if c.status == http.StatusSwitchingProtocols {
				requireSection422(t, p.upgraded())
				p.write(text("hello"))
				p.requireFrame(ws.OpText, []byte("hello"))
				return
			}
			resp, body := p.answer()
			require.Equal(t, c.status, resp.StatusCode, body)
			if c.status == http.StatusUpgradeRequired {
				require.Equal(t, []string{"13"}, resp.Header.Values("Sec-WebSocket-Version"), "4.2.2 item 4")
			}
		})
	}
}

// requireSection422 looks at what a server must answer to a handshake that names neither subprotocol
// nor extension.
func requireSection422(t *testing.T, resp *http.Response) {
	t.Helper()
	require.Equal(t, "HTTP/1.1", resp.Proto)
	require.Equal(t, []string{"websocket"}, resp.Header.Values("Upgrade"), "4.2.2 item 5.2")
	require.Equal(t, []string{"Upgrade"}, resp.Header.Values("Connection"), "4.2.2 item 5.3")
	require.Equal(t, []string{sampleAccept}, resp.Header.Values("Sec-WebSocket-Accept"), "4.2.2 item 5.4")
	require.Empty(t, resp.Header.Values("Sec-WebSocket-Protocol"), "4.2.2 item 5.5: none was offered")
	require.Empty(t, resp.Header.Values("Sec-WebSocket-Extensions"), "4.2.2 item 5.6, 9.1: none was offered")
}

func TestRFC6455Section4HandshakeAtEverySplit(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	head := []byte(also(request("/ws", "Connection: keep-alive, Upgrade"), "Origin: http://hub.example"))
	all := join(head, text("é"))
	for cut := range len(all) {
		p := dialPeer(t, address, from{})
		p.write(all[:cut])
		p.write(all[cut:])
		requireSection422(t, p.upgraded())
		p.requireFrame(ws.OpText, []byte("é"))
		p.vanish()
	}
	bad := []byte(request("/ws", "Sec-WebSocket-Version: 8"))
	for cut := range len(bad) {
		p := dialPeer(t, address, from{})
		p.write(bad[:cut])
		p.write(bad[cut:])
		resp, _ := p.answer()
		require.Equal(t, http.StatusUpgradeRequired, resp.StatusCode, "cut at %d", cut)
		p.vanish()
	}
}

func TestRFC6455Section5Framing(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{MaxMessageBytes: 1 << 20})
	hello := wireFrame{ws.OpText, "hello"}
	for _, c := range []struct {
		name string
		sent []byte // behind a text "hello"
		want []wireFrame
		code codec.CloseCode
	}{
		{"5.1 unmasked text", []byte{0x81, 1, 'x'}, nil, 1002},
		{"5.1 unmasked binary", []byte{0x82, 0}, nil, 1002},
		{"5.1 unmasked continuation", join(frame(more(ws.OpText), nil), []byte{0x80, 0}), nil, 1002},
		{"5.1 unmasked ping", []byte{0x89, 0}, nil, 1002},
		{"5.1 unmasked close", []byte{0x88, 2, 3, 0xe8}, nil, 1002},
		{"5.2 RSV1", headOf(0xc1, 7, 0), nil, 1002},
		{"5.2 RSV2", headOf(0xa1, 7, 0), nil, 1002},
		{"5.2 RSV3", headOf(0x92, 7, 0), nil, 1002},
		{"5.2 all of them", headOf(0xf1, 7, 0), nil, 1002},
		{"5.2 RSV1 on a ping", headOf(0xc9, 7, 0), nil, 1002},
		{"5.2 RSV2 on a close frame", headOf(0xa8, 7, 0), nil, 1002},
		{"5.2 RSV3 on a continuation", join(frame(more(ws.OpText), nil), headOf(0x90, 7, 0)), nil, 1002},
		{"5.2 length 0 in 7 bits", headOf(0x81, 7, 0), []wireFrame{{ws.OpText, ""}}, 0},
		{"5.2 length 0 in 16 bits", headOf(0x81, 16, 0), nil, 1002},
		{"5.2 length 125 in 16 bits", headOf(0x82, 16, 125), nil, 1002},
		{"5.2 length 0 in 64 bits", headOf(0x82, 64, 0), nil, 1002},
		{"5.2 length 65535 in 64 bits", headOf(0x82, 64, 65535), nil, 1002},
		{"5.2 highest bit of the length", headOf(0x82, 64, 1<<63), nil, 1002},
		{"5.2 all bits of the length", headOf(0x82, 64, 1<<64-1), nil, 1002},
		{"5.2 the longest length there is: too big", headOf(0x82, 64, 1<<63-1), nil, 1009},
		{"5.4 a control frame between fragments", join(frame(more(ws.OpText), []byte("a")), whole(ws.OpPing, []byte("p")), frame(fin(ws.OpContinuation), []byte("b"))),
			[]wireFrame{{ws.OpPong, "p"}, {ws.OpText, "ab"}}, 0},
		{"5.4 fragments take the type of the first", join(frame(more(ws.OpBinary), []byte{0xff}), frame(more(ws.OpContinuation), nil), frame(fin(ws.OpContinuation), []byte{0xfe})),
			[]wireFrame{{ws.OpBinary, "\xff\xfe"}}, 0},
		{"5.4 empty fragments alone", join(frame(more(ws.OpText), nil), frame(more(ws.OpContinuation), nil), frame(fin(ws.OpContinuation), nil)),
			[]wireFrame{{ws.OpText, ""}}, 0},
		{"5.4 continuation of nothing", frame(fin(ws.OpContinuation), nil), nil, 1002},
		{"5.4 first fragment of nothing", frame(more(ws.OpContinuation), nil), nil, 1002},
		{"5.4 continuation behind a whole message", join(text("x"), frame(fin(ws.OpContinuation), nil)), []wireFrame{{ws.OpText, "x"}}, 1002},
		{"5.4 text within a message", join(frame(more(ws.OpText), nil), text("x")), nil, 1002},
		{"5.4 binary fragment within a message", join(frame(more(ws.OpText), nil), frame(more(ws.OpBinary), nil)), nil, 1002},
		{"5.5 ping of 125 bytes", whole(ws.OpPing, bytes.Repeat([]byte{0xfe}, 125)), []wireFrame{{ws.OpPong, strings.Repeat("\xfe", 125)}}, 0},
		{"5.5 ping of 126 bytes", headOf(0x89, 16, 126), nil, 1002},
		{"5.5 pong of 126 bytes", headOf(0x8a, 16, 126), nil, 1002},
		{"5.5 close of 126 bytes", headOf(0x88, 16, 126), nil, 1002},
		{"5.5 ping of 65536 bytes", headOf(0x89, 64, 65536), nil, 1002},
		{"5.5 ping in fragments", frame(more(ws.OpPing), nil), nil, 1002},
		{"5.5 pong in fragments", frame(more(ws.OpPong), nil), nil, 1002},
		{"5.5 close in fragments", frame(more(ws.OpClose), nil), nil, 1002},
		{"5.5.2 ping without a payload", whole(ws.OpPing, nil), []wireFrame{{ws.OpPong, ""}}, 0},
		{"5.5.3 pong that nobody asked for", whole(ws.OpPong, []byte("x")), nil, 0},
		{"5.6 text is UTF-8", text("\U0010ffff"), []wireFrame{{ws.OpText, "\U0010ffff"}}, 0},
		{"5.6 binary is anything", whole(ws.OpBinary, []byte{0xff, 0}), []wireFrame{{ws.OpBinary, "\xff\x00"}}, 0},
		{"8.1 text that is not UTF-8", text("x\xff"), nil, 1007},
		{"8.1 a character cut off by the end", join(frame(more(ws.OpText), []byte("\xe2\x82")), frame(fin(ws.OpContinuation), nil)), nil, 1007},
		{"8.1 a character over three fragments", join(frame(more(ws.OpText), []byte("\xf0\x9f")), frame(more(ws.OpContinuation), []byte("\x8e")), frame(fin(ws.OpContinuation), []byte("\x89"))),
			[]wireFrame{{ws.OpText, "🎉"}}, 0},
		{"8.1 wrong across fragments", join(frame(more(ws.OpText), []byte("\xf0")), frame(more(ws.OpContinuation), []byte("\x8f"))), nil, 1007},
		{"10.4 a message over the limit", headOf(0x82, 64, 1<<20+1), nil, 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			exchange(t, address, append(text("hello"), c.sent...), append([]wireFrame{hello}, c.want...), c.code)
		})
	}
	for op := range ws.OpCode(16) {
		if op <= ws.OpBinary || op >= ws.OpClose && op <= ws.OpPong {
			continue
		}
		t.Run(fmt.Sprintf("5.2 reserved opcode %d", op), func(t *testing.T) {
			exchange(t, address, append(text("hello"), frame(fin(op), nil)...), []wireFrame{hello}, 1002)
			within := join(text("hello"), frame(more(ws.OpText), nil), frame(fin(op), nil))
			exchange(t, address, within, []wireFrame{hello}, 1002)
		})
	}
}

func TestRFC6455Section52EveryLengthForm(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	p := connectBare(t, address)
	for _, n := range []int{0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 1 << 20} {
		payload := bytes.Repeat([]byte{'a'}, n)
		p.write(whole(ws.OpText, payload))
		h, err := ws.ReadHeader(p.in)
		require.NoError(t, err)
		require.EqualValues(t, n, h.Length)
		require.False(t, h.Masked, "5.1: a server must not mask")
		require.Equal(t, byte(0), h.Rsv)
		want := map[bool]int{true: 2, false: 4}[n < 126]
		if n > 65535 {
			want = 10
		}
		require.Equal(t, want, ws.HeaderSize(h))
		rest, err := p.in.Discard(n)
		require.NoError(t, err)
		require.Equal(t, n, rest)
	}
	p.requireOutcome(0)
}

func TestRFC6455Section53Masking(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	p := connectBare(t, address)
	payload := []byte("masks are four bytes, wherever the message is cut")
	for _, mask := range [][4]byte{{}, {0xff, 0xff, 0xff, 0xff}, {1, 2, 3, 4}, {0x80, 0, 0, 0}, {0, 0, 0, 'm'}} {
		b := ws.MustCompileFrame(ws.MaskFrameWith(ws.NewTextFrame(payload), mask))
		for cut := range len(b) {
			p.write(b[:cut])
			p.write(b[cut:])
			p.requireFrame(ws.OpText, payload)
		}
	}
	p.requireOutcome(0)
}

// 5.4: a message may have any number of fragments, of any size, and what is between them is answered
// before they are complete.
func TestRFC6455Section54FragmentsWithPingsBetween(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	p := connectBare(t, address)
	p.write(frame(more(ws.OpText), []byte("κ")))
	for i := range 100 {
		p.write(frame(more(ws.OpContinuation), []byte("όσμε")[i%8:i%8+1]))
		p.write(whole(ws.OpPing, fmt.Append(nil, i)))
		p.requireFrame(ws.OpPong, fmt.Append(nil, i))
	}
	p.write(frame(fin(ws.OpContinuation), []byte("όσμε")[4:]))
	p.requireFrame(ws.OpText, []byte("κ"+strings.Repeat("όσμε", 13)))
	p.requireOutcome(0)
}
