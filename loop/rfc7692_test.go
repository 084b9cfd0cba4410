package loop

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// What RFC 7692 demands of a server that has negotiated permessage-deflate, by its sections, on real
// connections to a hub that echoes. The offers of section 7.1 are in compression_test.go.

func startCompressedEcho(t *testing.T, maxMessage int) (address string) {
	t.Helper()
	d, err := codec.NewDeflater(3, 0)
	require.NoError(t, err)
	_, address = startEcho(t, fanout.Config{Deflater: d}, Config{Compress: true, MaxMessageBytes: maxMessage})
	return address
}

// connectDeflating returns a peer that has negotiated compression, and has been sent nothing yet.
func connectDeflating(t *testing.T, address string) *peer {
	t.Helper()
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws", offerHeader+": permessage-deflate")))
	require.Equal(t, agreed, p.upgraded().Header.Get(offerHeader))
	return p
}

func TestRFC7692Receiving(t *testing.T) {
	address := startCompressedEcho(t, 1000)
	twice := deflated(t, "Hello")
	taken := []byte("\xf2\x00\x11\x00\x00") // 7.2.3.2: "Hello" by a reference to the message before
	begin := func(op ws.OpCode, payload string) []byte { return frame(compressed(op, false), []byte(payload)) }
	end := func(payload string) []byte { return frame(fin(ws.OpContinuation), []byte(payload)) }
	whole7692 := func(payload []byte) []byte { return frame(compressed(ws.OpText, true), payload) }
	for _, c := range []struct {
		name string
		sent []byte
		want []string // messages that come back, as text; "ping" stands for a pong
		code codec.CloseCode
	}{
		{"6 a message without RSV1 is not compressed", text("Hello"), []string{"Hello"}, 0},
		{"6 compressed and other messages in turn", join(whole7692(twice), text("Hello"), whole7692(twice)), []string{"Hello", "Hello", "Hello"}, 0},
		{"6.1 RSV1 on a continuation", join(begin(ws.OpText, "\xf2"), frame(compressed(ws.OpContinuation, true), []byte("\x48"))), nil, 1002},
		{"6.1 RSV1 on a continuation of a plain message", join(frame(more(ws.OpText), nil), frame(compressed(ws.OpContinuation, true), nil)), nil, 1002},
		{"6.1 RSV1 on a ping", frame(compressed(ws.OpPing, true), nil), nil, 1002},
		{"6.1 RSV1 on a pong", frame(compressed(ws.OpPong, true), nil), nil, 1002},
		{"6.1 RSV1 on a close frame", frame(compressed(ws.OpClose, true), nil), nil, 1002},
		{"6.1 RSV2 beside it", frame(ws.Header{Fin: true, Rsv: ws.Rsv(true, true, false), OpCode: ws.OpText}, twice), nil, 1002},
		{"6.1 RSV3 alone", frame(ws.Header{Fin: true, Rsv: ws.Rsv(false, false, true), OpCode: ws.OpText}, nil), nil, 1002},
		{"6.2 fragments, a ping between", join(begin(ws.OpText, "\xf2\x48\xcd"), whole(ws.OpPing, nil), end("\xc9\xc9\x07\x00")), []string{"ping", "Hello"}, 0},
		{"6.2 empty fragments", join(begin(ws.OpText, ""), frame(more(ws.OpContinuation), twice), end("")), []string{"Hello"}, 0},
		{"7.2.3.1 one block", whole7692([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00")), []string{"Hello"}, 0},
		{"7.2.3.2 no window is shared", join(whole7692(twice), whole7692(taken)), []string{"Hello"}, 1007},
		{"7.2.3.3 a block without compression", whole7692([]byte("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00")), []string{"Hello"}, 0},
		{"7.2.3.4 BFINAL", whole7692([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00")), []string{"Hello"}, 0},
		{"7.2.3.5 two blocks", whole7692([]byte("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00")), []string{"Hello"}, 0},
		{"7.2.3.6 an empty message", whole7692([]byte("\x00")), []string{""}, 0},
		{"7.2.2 no DEFLATE data", whole7692([]byte("\x06\xff")), nil, 1007},
		{"RFC 6455 8.1 UTF-8 of what was inflated", whole7692(deflated(t, "a\xff")), nil, 1007},
		{"RFC 6455 8.1 cut off at the end", whole7692(deflated(t, "\xe2\x82")), nil, 1007},
		{"RFC 6455 10.4 the limit holds for what was inflated", whole7692(deflated(t, strings.Repeat("a", 1001))), nil, 1009},
		{"RFC 6455 10.4 up to it", whole7692(deflated(t, strings.Repeat("a", 1000))), []string{strings.Repeat("a", 1000)}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := connectDeflating(t, address)
			p.write(c.sent)
			for _, want := range c.want {
				op, got, _ := p.nextMessage()
				if op == ws.OpPong {
					got = []byte("ping")
				}
				require.Equal(t, want, string(got))
			}
			p.requireOutcome(c.code)
		})
	}
}

// 6 and 9.1 of RFC 6455: what was not negotiated is not used.
func TestRFC7692NotNegotiated(t *testing.T) {
	address := startCompressedEcho(t, 1000)
	p := connectBare(t, address)
	p.write(text(strings.Repeat("a", 1000)))
	p.requireFrame(ws.OpText, bytes.Repeat([]byte("a"), 1000)) // without RSV1
	p.write(frame(compressed(ws.OpText, true), deflated(t, "Hello")))
	p.requireOutcome(codec.CloseProtocolError)
}

// 7.1.1.1 and 7.2.1: every message of the server's stands by itself, without the tail of its last flush.
func TestRFC7692Sending(t *testing.T) {
	address := startCompressedEcho(t, 1<<20)
	p := connectDeflating(t, address)
	message := bytes.Repeat([]byte("the quick brown fox "), 100)
	var first []byte
	for range 3 {
		p.write(whole(ws.OpText, message))
		h, err := ws.ReadHeader(p.in)
		require.NoError(t, err)
		require.Equal(t, ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText, Length: h.Length}, h)
		payload := make([]byte, h.Length)
		_, err = io.ReadFull(p.in, payload)
		require.NoError(t, err)
		require.False(t, bytes.HasSuffix(payload, []byte("\x00\x00\xff\xff")))
		require.Equal(t, message, inflated(t, payload))
		if first == nil {
			first = payload
		}
		require.Equal(t, first, payload, "nothing is taken over")
	}
	p.write(whole(ws.OpPing, bytes.Repeat([]byte("a"), 125)))
	p.requireFrame(ws.OpPong, bytes.Repeat([]byte("a"), 125)) // 6.1: never compressed
	p.requireOutcome(0)
}
