package loop

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// coroutines counts those that inflate messages as they arrive.
func coroutines() int {
	for buf := make([]byte, 1<<20); ; buf = make([]byte, 2*len(buf)) {
		if n := runtime.Stack(buf, true); n < len(buf) {
			return bytes.Count(buf[:n], []byte("codec.(*inflater).run("))
		}
	}
}

// longPayload is the payload of a compressed text that no reader keeps until it is complete.
func longPayload(t *testing.T) (text string, payload []byte) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 40_000)
	for i := range b {
		b[i] = 'a' + byte(rnd.IntN(26))
	}
	payload = deflated(t, string(b))
	require.Greater(t, len(payload), 20_000)
	return string(b), payload
}

func TestALongCompressedMessageIsInflatedAsItArrives(t *testing.T) {
	address := startCompressedEcho(t, 1<<16)
	text, payload := longPayload(t)
	p := connectDeflating(t, address)
	b := frame(compressed(ws.OpText, true), payload)
	for range 2 {
		p.write(b[:10_000])
		await(t, func() bool { return coroutines() == 1 }, "it is inflated before it is complete")
		p.write(b[10_000:])
		op, got, _ := p.nextMessage()
		require.Equal(t, ws.OpText, op)
		require.True(t, text == string(got))
		await(t, func() bool { return coroutines() == 0 }, "the coroutine has ended with the message")
	}
}

// However a connection ends in the middle of a compressed message, nothing goes on waiting for the rest.
func TestAConnectionThatEndsWithinACompressedMessageLeavesNoCoroutine(t *testing.T) {
	_, payload := longPayload(t)
	for _, c := range []struct {
		name string
		end  func(*peer, *Server, *fanout.Hub)
		code codec.CloseCode // with which the spoke is gone
	}{
		{"it closes", func(p *peer, _ *Server, _ *fanout.Hub) { _ = p.tcp.Close() }, codec.CloseAbnormal},
		{"it closes its side", func(p *peer, _ *Server, _ *fanout.Hub) { _ = p.tcp.CloseWrite() }, codec.CloseAbnormal},
		{"it resets", func(p *peer, _ *Server, _ *fanout.Hub) { p.vanish() }, codec.CloseAbnormal},
		{"it sends a close frame", func(p *peer, _ *Server, _ *fanout.Hub) {
			p.write(closing(1000, ""))
			p.requireClose(codec.CloseNormal)
		}, codec.CloseNormal},
		{"it breaks the protocol", func(p *peer, _ *Server, _ *fanout.Hub) {
			p.write(text("a message within a message"))
			p.requireClose(codec.CloseProtocolError)
			await(t, func() bool { return coroutines() == 0 }, "the coroutine has ended with the message")
			_ = p.tcp.Close()
		}, codec.CloseProtocolError},
		{"it is no compressed data any more", func(p *peer, _ *Server, _ *fanout.Hub) {
			p.write(frame(more(ws.OpContinuation), append(payload[10_000:len(payload):len(payload)], "\x00\x00\xff\xff\x06"...))) // a reserved block
			p.requireClose(codec.CloseInvalidUTF8)
			await(t, func() bool { return coroutines() == 0 }, "the coroutine has ended with the message")
			_ = p.tcp.Close()
		}, codec.CloseInvalidUTF8},
		{"it is closed", func(p *peer, _ *Server, h *fanout.Hub) {
			h.Spokes()[0].Close(codec.ClosePolicy, "")
			p.requireClose(codec.ClosePolicy)
			_ = p.tcp.Close()
		}, codec.ClosePolicy},
		{"the server shuts down", func(_ *peer, s *Server, _ *fanout.Hub) {
			now, cancel := context.WithCancel(t.Context())
			cancel()
			_ = s.Shutdown(now)
		}, codec.CloseGoingAway},
	} {
		t.Run(c.name, func(t *testing.T) {
			var hc fanout.Config
			life := watch(&hc)
			s, h, address := startServer(t, hc, Config{Compress: true})
			p := connectCompressed(t, address)
			p.write(frame(compressed(ws.OpText, false), payload[:10_000]))
			await(t, func() bool { return coroutines() == 1 }, "it is being inflated")
			c.end(p, s, h)
			require.Equal(t, c.code, receive(t, life.ended, "the spoke is gone").Code)
			await(t, func() bool { return coroutines() == 0 }, "the coroutine has ended with the connection")
		})
	}
}
