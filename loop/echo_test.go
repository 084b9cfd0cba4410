package loop

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// startEcho returns the address of a server that sends back what it gets, and its hub. Messages may
// have 16 MiB.
func startEcho(t testing.TB, hc fanout.Config, lc Config) (*fanout.Hub, string) {
	t.Helper()
	hc.Echo = true
	if lc.MaxMessageBytes == 0 {
		lc.MaxMessageBytes = 16 << 20
	}
	if hc.Limits.SpokeBytes == 0 {
		hc.Limits.SpokeBytes = 4*int64(lc.MaxMessageBytes) + 1<<20
	}
	_, h, address := startServer(t, hc, lc)
	return h, address
}

// connectBare returns a peer that has been upgraded, and has been sent nothing yet.
func connectBare(t testing.TB, address string, headers ...string) *peer {
	t.Helper()
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws", headers...)))
	p.upgraded()
	return p
}

// requireFrame reads the next frame, which must be this one. Large payloads are not printed.
func (p *peer) requireFrame(op ws.OpCode, payload []byte) {
	p.t.Helper()
	gotOp, got := p.next()
	require.Equal(p.t, op, gotOp, "%.200q", got)
	if !bytes.Equal(payload, got) {
		require.FailNow(p.t, "another payload", "want %d bytes %.50q, got %d bytes %.50q", len(payload), payload, len(got), got)
	}
}

func TestEchoSendsBackMessagesAndNothingElse(t *testing.T) {
	h, address := startEcho(t, fanout.Config{}, Config{})
	p := connectBare(t, address)
	event := codec.Envelope{Type: "tick", ID: "1"}
	await(t, func() bool { return h.Stats().Spokes == 1 }, "the spoke is there")
	dispatch(t, h, event)
	receipt, err := h.Spokes()[0].Dispatch(event)
	require.NoError(t, err)
	require.Zero(t, receipt.Matched)
	require.NoError(t, h.Spokes()[0].Announce(codec.TypeDrain, codec.Drain{}))
	for _, payload := range []string{"", "hello", "é", `{"type":"__subscribe","id":"tick:"}`, "\x00"} {
		p.write(text(payload))
		p.requireFrame(ws.OpText, []byte(payload))
		p.write(whole(ws.OpBinary, []byte(payload+"\xff")))
		p.requireFrame(ws.OpBinary, []byte(payload+"\xff"))
	}
	dispatch(t, h, event)
	p.write(closing(codec.CloseNormal, "bye"))
	require.Equal(t, "bye", p.requireClose(codec.CloseNormal))
	p.requireEnd()
}

func TestEchoWhatCameBeforeTheEndIsAnswered(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	large := bytes.Repeat([]byte("large "), 1<<20) // far more than the kernel takes at once
	for name, end := range map[string]struct {
		sent []byte
		code codec.CloseCode
	}{
		"close frame": {closing(4000, ""), 4000},
		"violation":   {frame(fin(3), nil), codec.CloseProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			p := connectBare(t, address)
			p.write(append(whole(ws.OpText, large), end.sent...))
			p.requireFrame(ws.OpText, large)
			p.requireClose(end.code)
			p.requireEnd()
		})
	}
}

// A peer that sends without reading is closed as slow, and what it has sent takes no more memory
// than its queue may hold.
func TestEchoOfAPeerThatDoesNotReadIsBounded(t *testing.T) {
	const message, limit = 64 << 10, 1 << 20
	hc := fanout.Config{Limits: fanout.Limits{SpokeBytes: limit, TotalBytes: 4 << 20}, CloseTimeout: 50 * time.Millisecond}
	life := watch(&hc)
	h, address := startEcho(t, hc, Config{MaxMessageBytes: message, CloseTimeout: 50 * time.Millisecond})
	p := dialPeer(t, address, from{receiveBytes: 64 << 10})
	p.write([]byte(request("/ws")))
	receive(t, life.began, "the spoke connects")
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := bytes.Repeat(whole(ws.OpBinary, make([]byte, message)), 16)
	for err := error(nil); err == nil; _, err = p.conn.Write(b) { // ends when its connection is closed
		st := h.Stats()
		require.LessOrEqual(t, st.QueuedBytes, int64(limit))
		require.LessOrEqual(t, st.PendingBytes, int64(4<<20))
		runtime.ReadMemStats(&now)
		require.Less(t, int64(now.HeapAlloc)-int64(before.HeapAlloc), int64(64<<20))
	}
	cause := receive(t, life.ended, "the spoke is gone")
	require.Equal(t, fanout.KindSlow, cause.Kind, cause)
	require.Equal(t, codec.CloseSlow, cause.Code)
}
