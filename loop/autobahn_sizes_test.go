package loop

import (
	"bytes"
	"cmp"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Categories 9, 12 and 13 of the Autobahn suite: sizes, and compression.

// Category 9: 64 KiB to 16 MiB in one frame, 4 MiB in fragments from 64 bytes on (65,536 of them), and 1
// MiB in chops from 64 bytes on.
func TestAutobahnSizes(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	echo := func(name string, op ws.OpCode, payload, sent []byte, chop int) {
		t.Run(name, func(t *testing.T) {
			p := connectBare(t, address)
			for ; len(sent) > 0; sent = sent[min(chop, len(sent)):] {
				p.write(sent[:min(chop, len(sent))])
			}
			p.requireFrame(op, payload)
			p.requireOutcome(0)
		})
	}
	for op, name := range map[ws.OpCode]string{ws.OpText: "text", ws.OpBinary: "binary"} {
		payload := bytes.Repeat([]byte("BAsd7&jh"), 16<<20/8)
		if op == ws.OpBinary {
			payload = bytes.Repeat([]byte{0xfe}, 16<<20)
		}
		for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} {
			b := whole(op, payload[:size])
			echo(fmt.Sprintf("9.%d %s of %d bytes", op, name, size), op, payload[:size], b, len(b))
		}
		for _, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20} {
			b := inFragments(op, payload[:4<<20], size, false)
			echo(fmt.Sprintf("9.%d %s in fragments of %d bytes", op+2, name, size), op, payload[:4<<20], b, len(b))
		}
		for _, size := range []int{64, 128, 256, 512, 1024, 2048} {
			echo(fmt.Sprintf("9.%d %s in chops of %d bytes", op+4, name, size), op, payload[:1<<20], whole(op, payload[:1<<20]), size)
		}
	}
}

// 9.7 and 9.8: a thousand messages, one after the other.
func TestAutobahnRoundTrips(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	for _, size := range []int{0, 16, 64, 256, 1024, 4096} {
		for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} {
			p := connectBare(t, address)
			payload := bytes.Repeat([]byte("x"), size)
			for range 1000 {
				p.write(whole(op, payload))
				p.requireFrame(op, payload)
			}
			p.requireOutcome(0)
		}
	}
}

// inflated is the message of a compressed payload.
func inflated(t testing.TB, payload []byte) []byte {
	t.Helper()
	message, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	require.NoError(t, err)
	return message
}

// cutText returns about n bytes from the beginning of b, the first and the last character whole.
func cutText(b []byte, n int) []byte {
	for !utf8.RuneStart(b[0]) {
		b = b[1:]
	}
	for !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

// nextMessage reads the next frame, and inflates it if it is compressed.
func (p *peer) nextMessage() (op ws.OpCode, message []byte, compressed bool) {
	h, err := ws.ReadHeader(p.in)
	require.NoError(p.t, err)
	require.True(p.t, h.Fin && !h.Masked)
	require.Zero(p.t, h.Rsv&^ws.Rsv(true, false, false))
	payload := make([]byte, h.Length)
	_, err = io.ReadFull(p.in, payload)
	require.NoError(p.t, err)
	if compressed = h.Rsv != 0; compressed {
		payload = inflated(p.t, payload)
	}
	return h.OpCode, payload, compressed
}

// Categories 12 and 13: messages of data of several kinds and sizes, whole and in fragments, under every
// offer of the suite. Where it is declined messages go plain.
func TestAutobahnCompression(t *testing.T) {
	d, err := codec.NewDeflater(3, 0)
	require.NoError(t, err)
	_, address := startEcho(t, fanout.Config{Deflater: d}, Config{Compress: true})
	rnd := rand.New(rand.NewPCG(12, 13))
	noise := make([]byte, 256<<10)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	data := []struct {
		name string
		op   ws.OpCode
		b    []byte
		goes bool // smaller when compressed
	}{
		{"JSON", ws.OpText, bytes.Repeat([]byte(`{"symbol":"ALK","price":101.25,"note":"καλημέρα"},`), 256<<10/50), true},
		{"noise", ws.OpBinary, noise, false},
		{"bitmap", ws.OpBinary, bytes.Repeat([]byte{0, 0, 0, 255, 254, 253}, 256<<10/6), true},
	}
	for _, c := range []struct{ offer, answer string }{
		{"permessage-deflate; client_max_window_bits", agreed},
		{"permessage-deflate; server_no_context_takeover; client_max_window_bits", agreed},
		{"permessage-deflate; client_max_window_bits; server_max_window_bits=9", ""},
		{"permessage-deflate; client_max_window_bits; server_max_window_bits=15", agreed + ";server_max_window_bits=15"},
		{"permessage-deflate; server_no_context_takeover; client_max_window_bits; server_max_window_bits=9", ""},
		{"permessage-deflate; server_no_context_takeover; client_max_window_bits; server_max_window_bits=15", agreed + ";server_max_window_bits=15"},
		{"permessage-deflate; server_no_context_takeover; client_max_window_bits; server_max_window_bits=9, permessage-deflate; server_no_context_takeover; client_max_window_bits, permessage-deflate; client_max_window_bits", agreed},
	} {
		for _, kind := range data {
			t.Run(kind.name+" "+c.offer, func(t *testing.T) {
				p := dialPeer(t, address, from{})
				p.write([]byte(request("/ws", offerHeader+": "+c.offer)))
				require.Equal(t, c.answer, p.upgraded().Header.Get(offerHeader))
				for _, size := range []struct{ message, fragment int }{
					{16, 0}, {64, 0}, {256, 0}, {1024, 0}, {4096, 0}, {8192, 0}, {16384, 0}, {32768, 0}, {65536, 0}, {131072, 0},
					{8192, 256}, {16384, 256}, {32768, 256}, {65536, 256}, {131072, 256}, {131072, 1024}, {131072, 4096}, {131072, 32768},
				} {
					for i := range 5 {
						message := kind.b[i*100:][:size.message]
						if kind.op == ws.OpText {
							message = cutText(kind.b[i*100:], size.message)
						}
						payload, compresses := message, c.answer != ""
						if compresses {
							payload = []byte(deflated(t, string(message)))
						}
						p.write(inFragments(kind.op, payload, cmp.Or(size.fragment, len(payload)), compresses))
						op, got, wasCompressed := p.nextMessage()
						require.Equal(t, kind.op, op)
						require.True(t, bytes.Equal(message, got), "%d bytes, got %d", len(message), len(got))
						if size.message > 256 {
							require.Equal(t, compresses && kind.goes, wasCompressed)
						}
					}
				}
				p.requireOutcome(0)
			})
		}
	}
}

// The largest messages, compressed both ways.
func TestAutobahnCompressedSizes(t *testing.T) {
	d, err := codec.NewDeflater(3, 512)
	require.NoError(t, err)
	_, address := startEcho(t, fanout.Config{Deflater: d}, Config{Compress: true})
	message := bytes.Repeat([]byte("BAsd7&jh"), 16<<20/8)
	payload := deflated(t, string(message))
	for _, size := range []int{len(payload), max(1, len(payload)/65536)} {
		p := dialPeer(t, address, from{})
		p.write([]byte(request("/ws", offerHeader+": permessage-deflate")))
		p.upgraded()
		p.write(inFragments(ws.OpText, payload, size, true))
		op, got, wasCompressed := p.nextMessage()
		require.Equal(t, ws.OpText, op)
		require.True(t, wasCompressed)
		require.True(t, bytes.Equal(message, got))
		p.requireOutcome(0)
	}
}
