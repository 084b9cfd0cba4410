package loop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestMessageInFragmentsMayHavePingsInBetween(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{})
	got := listen(t, h)
	p := connect(t, address)
	payload := []byte(`{"type":"ask","id":"é","payload":[1,2,3]}`)
	for i, b := range payload { // a byte per frame, the é in two
		op := ws.OpContinuation
		if i == 0 {
			op = ws.OpText
		}
		p.write(frame(ws.Header{OpCode: op}, []byte{b}))
		if i%10 == 0 {
			p.write(whole(ws.OpPing, fmt.Append(nil, i)))
		}
	}
	p.write(frame(ws.Header{Fin: true, OpCode: ws.OpContinuation}, nil))
	require.Equal(t, codec.Envelope{Type: "ask", ID: "é", Payload: json.RawMessage("[1,2,3]")}, receive(t, got, "the event"))
	for i := 0; i < len(payload); i += 10 {
		op, echo := p.next()
		require.Equal(t, ws.OpPong, op)
		require.Equal(t, fmt.Sprint(i), string(echo))
	}
}

// fin and more are headers of final and of other frames.
func fin(op ws.OpCode) ws.Header  { return ws.Header{Fin: true, OpCode: op} }
func more(op ws.OpCode) ws.Header { return ws.Header{OpCode: op} }

func TestViolationsCloseWithTheCodeOfTheRFC(t *testing.T) {
	const limit = 1000
	for _, c := range []struct {
		name string
		sent []byte
		code codec.CloseCode
		kind fanout.CauseKind
	}{
		{"unmasked", []byte{0x81, 2, '{', '}'}, 1002, fanout.KindProtocol},
		{"reserved bit", frame(ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText}, nil), 1002, fanout.KindProtocol},
		{"reserved opcode", frame(fin(3), nil), 1002, fanout.KindProtocol},
		{"ping in fragments", frame(more(ws.OpPing), nil), 1002, fanout.KindProtocol},
		{"long ping", frame(fin(ws.OpPing), make([]byte, 126)), 1002, fanout.KindProtocol},
		{"continuation of nothing", frame(fin(ws.OpContinuation), nil), 1002, fanout.KindProtocol},
		{"message within a message", append(frame(more(ws.OpText), nil), frame(fin(ws.OpText), nil)...), 1002, fanout.KindProtocol},
		{"length not in its shortest form", []byte{0x81, 0x80 | 126, 0, 2, 0, 0, 0, 0, '{', '}'}, 1002, fanout.KindProtocol},
		{"half a close code", frame(fin(ws.OpClose), []byte{3}), 1002, fanout.KindProtocol},
		{"close code below 1000", closing(999, ""), 1002, fanout.KindProtocol},
		{"close code 1005", closing(1005, ""), 1002, fanout.KindProtocol},
		{"close code 1006", closing(1006, ""), 1002, fanout.KindProtocol},
		{"close code 1015", closing(1015, ""), 1002, fanout.KindProtocol},
		{"close code that nobody has registered", closing(2999, ""), 1002, fanout.KindProtocol},
		{"close code above 4999", closing(5000, ""), 1002, fanout.KindProtocol},
		{"close reason that is no UTF-8", closing(1000, "\xff"), 1007, fanout.KindBadData},
		{"text that is no UTF-8", text("{\"type\":\"a\xff\"}"), 1007, fanout.KindBadData},
		{"text that is no UTF-8, not complete yet", frame(more(ws.OpText), []byte("a\xc0")), 1007, fanout.KindBadData},
		{"message over the limit, its header is enough", frame(fin(ws.OpText), make([]byte, limit+1))[:8], 1009, fanout.KindTooBig},
		{"message over the limit in fragments", append(frame(more(ws.OpBinary), make([]byte, limit)), frame(fin(ws.OpContinuation), []byte{1})[:6]...), 1009, fanout.KindTooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			var hc fanout.Config
			life := watch(&hc)
			_, h, address := startServer(t, hc, Config{MaxMessageBytes: limit})
			got := listen(t, h)
			p := connect(t, address)
			p.write(append(message("ask", "1"), c.sent...))
			reason := p.requireClose(c.code)
			p.requireEnd()
			p.write(message("ask", "2")) // is discarded, and does not reset the connection
			_ = p.tcp.Close()
			cause := receive(t, life.ended, "the spoke is gone")
			require.Equal(t, fanout.Cause{Side: fanout.LocalSide, Code: c.code, Reason: reason, Kind: c.kind}, cause)
			require.Equal(t, "ask:1", receive(t, got, "the event before").Topic())
			require.Empty(t, got)
		})
	}
}

func TestMessageOfTheLargestSizeIsTaken(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{ReadBufferBytes: 1 << 10})
	got := listen(t, h)
	p := connect(t, address)
	e := event("ask", "1", 1)
	b, err := codec.AppendEnvelope(nil, e)
	require.NoError(t, err)
	e = event("ask", "1", 3+64<<10-len(b))
	b, err = codec.AppendEnvelope(nil, e)
	require.NoError(t, err)
	require.Len(t, b, 64<<10)
	p.write(whole(ws.OpText, b))
	require.Equal(t, e, receive(t, got, "the event"))
}

func TestTooBigIsToldWhileThePeerStillSends(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{CloseTimeout: time.Minute})
	p := connect(t, address)
	const length = 16 << 20 // more than all the buffers on the way
	head := frame(fin(ws.OpBinary), make([]byte, length))
	p.write(head)
	p.requireClose(codec.CloseTooBig)
	p.requireEnd()
}

func TestBadEnvelopesAreAnsweredAndThenCostTheConnection(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	hc.BadEnvelopesPerMin = 3
	s, h, address := startServer(t, hc, Config{})
	got := listen(t, h)
	p := connect(t, address)
	p.write(text(`nonsense`))
	requireError(t, p.event(), codec.CodeBadEnvelope, "")
	p.write(text(`{"type":1,"id":"7"}`))
	requireError(t, p.event(), codec.CodeBadEnvelope, "7")
	p.write(message("ask", "1"))
	require.Equal(t, "ask:1", receive(t, got, "a good event in between").Topic())
	p.write(append(message("__gap", "8"), message("ask", "2")...))
	requireError(t, p.event(), codec.CodeBadEnvelope, "8")
	p.requireClose(codec.ClosePolicy)
	p.write(closing(codec.ClosePolicy, ""))
	p.requireEnd()
	cause := receive(t, life.ended, "the spoke is gone")
	require.Equal(t, fanout.KindPolicy, cause.Kind)
	require.Equal(t, fanout.LocalSide, cause.Side)
	require.EqualValues(t, 3, h.Stats().Refused)
	require.GreaterOrEqual(t, s.Stats().Received, uint64(4))
}

func TestASpokeThatSendsTooMuchIsToldAndThenLosesItsConnection(t *testing.T) {
	hc := fanout.Config{SpokeRatePerSec: 1, SpokeBurst: 50}
	life := watch(&hc)
	_, h, address := startServer(t, hc, Config{})
	got := listen(t, h)
	p, other := connect(t, address), connect(t, address)
	p.write(bytes.Repeat(message("ask", "1"), 50+10))
	requireError(t, p.event(), codec.CodeRateLimited, "")
	for range 50 {
		require.Equal(t, "ask:1", receive(t, got, "what is within the burst").Topic())
	}
	p.write(bytes.Repeat(message("ask", "2"), 10_000))
	reason := p.requireClose(codec.ClosePolicy)
	require.Equal(t, "rate limited: 50 messages refused, a spoke may send 1 messages a second, 50 at once", reason)
	p.write(closing(codec.ClosePolicy, ""))
	p.requireEnd()
	require.Equal(t, fanout.KindPolicy, receive(t, life.ended, "the spoke is gone").Kind)
	require.EqualValues(t, 50, h.Stats().RateLimited)
	other.write(message("ask", "3"))
	require.Equal(t, "ask:3", receive(t, got, "the other's").Topic())
}

func TestBinaryMessagesAreReadAsJSON(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{})
	got := listen(t, h)
	p := connect(t, address)
	p.write(whole(ws.OpBinary, []byte(`{"type":"ask","id":"1"}`)))
	require.Equal(t, codec.Envelope{Type: "ask", ID: "1"}, receive(t, got, "the event"))
	p.write(whole(ws.OpBinary, []byte("\xff"))) // no text, so it is only no envelope
	requireError(t, p.event(), codec.CodeBadEnvelope, "")
}

func TestPingIsAnsweredWithItsPayload(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{})
	p := connect(t, address)
	for _, n := range []int{0, 1, 125} {
		payload := bytes.Repeat([]byte{0xff}, n)
		p.write(whole(ws.OpPing, payload))
		op, echo := p.next()
		require.Equal(t, ws.OpPong, op)
		require.Equal(t, payload, echo)
	}
}

func TestPongsThatNobodyAskedForAreIgnored(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{})
	got := listen(t, h)
	p := connect(t, address)
	p.write(append(bytes.Repeat(whole(ws.OpPong, []byte("x")), 100_000), message("ask", "1")...))
	require.Equal(t, "ask:1", receive(t, got, "the event behind them").Topic())
	dispatch(t, h, codec.Envelope{Type: "tick"})
	op, _ := p.next()
	require.Equal(t, ws.OpText, op, "no answer")
}

func TestFloodDoesNotStarveTheOthersOnThePoller(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{SpokeRatePerSec: -1}, Config{Pollers: 1})
	flooded := make(chan struct{}, 1)
	_, err := h.AddListener("flood:", func(*fanout.Spoke, codec.Envelope) {
		select {
		case flooded <- struct{}{}:
		default:
		}
	})
	require.NoError(t, err)
	loud, calm := connect(t, address), connect(t, address)
	done := make(chan struct{})
	go func() { // ends when its connection is closed
		defer close(done)
		b := bytes.Repeat(message("flood", ""), 10_000)
		for {
			if _, err := loud.conn.Write(b); err != nil {
				return
			}
		}
	}()
	for i := range 20 {
		receive(t, flooded, "the flood comes in")
		calm.write(whole(ws.OpPing, fmt.Append(nil, i)))
		op, echo := calm.next()
		require.Equal(t, ws.OpPong, op)
		require.Equal(t, fmt.Sprint(i), string(echo))
	}
	_ = loud.tcp.Close()
	receive(t, done, "the flood ends")
}
