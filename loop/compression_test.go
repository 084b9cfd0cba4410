package loop

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

const (
	offerHeader = "Sec-WebSocket-Extensions"
	// agreed is the answer to an offer that can be accepted.
	agreed = "permessage-deflate;server_no_context_takeover;client_no_context_takeover"
)

// offers are what clients may offer, and what the hub answers.
var offers = []struct {
	name, offer, answer string
}{
	{"nothing", "", ""},
	{"no parameters", "permessage-deflate", agreed},
	{"Chrome, Safari", "permessage-deflate; client_max_window_bits", agreed},
	{"Firefox", "permessage-deflate", agreed},
	{"Node's ws", "permessage-deflate; client_max_window_bits", agreed},
	{"coder/websocket, gorilla", "permessage-deflate; server_no_context_takeover; client_no_context_takeover", agreed},
	{"server_no_context_takeover", "permessage-deflate; server_no_context_takeover", agreed},
	{"client_no_context_takeover", "permessage-deflate; client_no_context_takeover", agreed},
	{"a window of the client's", "permessage-deflate; client_max_window_bits=10", agreed},
	{"the smallest window of the client's", "permessage-deflate;client_max_window_bits=8", agreed},
	{"the value in quotes", `permessage-deflate; client_max_window_bits="10"`, agreed},
	{"the full window of the server's", "permessage-deflate; server_max_window_bits=15", agreed + ";server_max_window_bits=15"},
	{"everything", "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15; client_no_context_takeover; server_no_context_takeover", agreed + ";server_max_window_bits=15"},

	{"a smaller window of the server's", "permessage-deflate; server_max_window_bits=14", ""},
	{"the smallest window of the server's", "permessage-deflate; server_max_window_bits=8", ""},
	{"a smaller window, then any", "permessage-deflate; server_max_window_bits=10, permessage-deflate", agreed},
	{"a smaller window, then the full one", "permessage-deflate; server_max_window_bits=10, permessage-deflate; server_max_window_bits=15, permessage-deflate", agreed + ";server_max_window_bits=15"},
	{"twice: the first counts", "permessage-deflate, permessage-deflate; server_max_window_bits=15", agreed},
	{"twice the same", "permessage-deflate; client_max_window_bits, permessage-deflate; client_max_window_bits", agreed},
	{"behind another extension", "x-webkit-deflate-frame, permessage-bzip2; level=9, permessage-deflate", agreed},
	{"other extensions alone", "x-webkit-deflate-frame; no_context_takeover, permessage-bzip2", ""},

	{"server's window without a value", "permessage-deflate; server_max_window_bits", ""},
	{"server's window of 7", "permessage-deflate; server_max_window_bits=7", ""},
	{"server's window of 16", "permessage-deflate; server_max_window_bits=16", ""},
	{"server's window with a leading zero", "permessage-deflate; server_max_window_bits=015", ""},
	{"client's window of 7", "permessage-deflate; client_max_window_bits=7", ""},
	{"client's window of 16", "permessage-deflate; client_max_window_bits=16", ""},
	{"client's window with a leading zero", "permessage-deflate; client_max_window_bits=08", ""},
	{"client's window that is no number", "permessage-deflate; client_max_window_bits=ten", ""},
	{"client's window that is empty", `permessage-deflate; client_max_window_bits=""`, ""},
	{"a value where none is", "permessage-deflate; server_no_context_takeover=1", ""},
	{"another value where none is", "permessage-deflate; client_no_context_takeover=true", ""},
	{"a parameter that nobody knows", "permessage-deflate; level=9", ""},
	{"a parameter twice", "permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
	{"a parameter twice, with another value", "permessage-deflate; client_max_window_bits; client_max_window_bits=10", ""},
	{"more parameters than there are", "permessage-deflate" + strings.Repeat("; client_max_window_bits=10", 20), ""},
	{"what is invalid, then what is not", "permessage-deflate; level=9, permessage-deflate; client_max_window_bits", agreed},
}

func TestOffersOfCompressionAreAnswered(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	s, _, address := startServer(t, hc, Config{Compress: true})
	_, _, plain := startServer(t, fanout.Config{}, Config{})
	for _, c := range offers {
		p := dialPeer(t, address, from{})
		p.write([]byte(request("/ws", offerHeader+":"+c.offer)))
		require.Equal(t, c.answer, p.upgraded().Header.Get(offerHeader), "%s: %q", c.name, c.offer)
		require.Equal(t, codec.TypeWelcome, p.event().Type)
		receive(t, life.began, "the spoke connects")
		s.conns.each(func(conn *conn) {
			require.Equal(t, c.answer != "", conn.has(flagCompressed), c.name)
		})
		p.vanish()
		receive(t, life.ended, "the spoke is gone")
		await(t, func() bool { return s.Stats().Connections == 0 }, "it is forgotten")

		p = dialPeer(t, plain, from{})
		p.write([]byte(request("/ws", offerHeader+":"+c.offer)))
		require.Empty(t, p.upgraded().Header.Get(offerHeader), "compression is off: %s", c.name)
	}
}

func TestOffersInSeveralHeadersAreOneList(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{Compress: true})
	p := dialPeer(t, address, from{})
	p.write([]byte(also(request("/ws"), offerHeader+": permessage-deflate; level=9", offerHeader+": permessage-deflate", offerHeader+": permessage-deflate")))
	require.Equal(t, []string{agreed}, p.upgraded().Header.Values(offerHeader))
}

func TestMalformedOffersFailTheHandshake(t *testing.T) {
	_, _, address := startServer(t, fanout.Config{}, Config{Compress: true})
	for _, offer := range []string{
		"permessage-deflate; =1", "permessage-deflate; a=b=c", "permessage-deflate; a b", `permessage-deflate; a="`,
		"permessage-deflate, ;", // a good offer before makes no difference
	} {
		p := dialPeer(t, address, from{})
		p.write([]byte(also(request("/ws"), offerHeader+": "+offer)))
		resp, body := p.answer()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, offer) // RFC 6455 section 9.1
		require.Contains(t, body, "malformed")
	}
}

// deflated is the payload of a compressed message.
func deflated(t testing.TB, message string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write([]byte(message))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// compressed is the header of the first frame of a compressed message.
func compressed(op ws.OpCode, fin bool) ws.Header {
	return ws.Header{Fin: fin, Rsv: ws.Rsv(true, false, false), OpCode: op}
}

// connectCompressed returns a peer that negotiated compression and has had its __welcome.
func connectCompressed(t testing.TB, address string) *peer {
	t.Helper()
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws", offerHeader+": permessage-deflate")))
	require.Equal(t, agreed, p.upgraded().Header.Get(offerHeader))
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	return p
}

func TestCompressedAndPlainMessagesReachTheListeners(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{Compress: true})
	got := listen(t, h)
	p := connectCompressed(t, address)
	e := event("ask", "1", 20_000)
	b, err := codec.AppendEnvelope(nil, e)
	require.NoError(t, err)
	p.write(frame(compressed(ws.OpText, true), deflated(t, string(b))))
	require.Equal(t, e, receive(t, got, "the event"))

	p.write(message("ask", "2"))
	require.Equal(t, "ask:2", receive(t, got, "the plain event").Topic())

	payload := deflated(t, `{"type":"ask","id":"3","payload":null}`)
	for i, b := range payload { // a byte per frame, pings in between
		h := more(ws.OpContinuation)
		if i == 0 {
			h = compressed(ws.OpBinary, false)
		}
		p.write(frame(h, []byte{b}))
		p.write(whole(ws.OpPing, fmt.Append(nil, i)))
	}
	p.write(frame(fin(ws.OpContinuation), nil))
	require.Equal(t, "ask:3", receive(t, got, "the event in fragments").Topic())
	for i := range payload {
		op, echo := p.next()
		require.Equal(t, ws.OpPong, op)
		require.Equal(t, fmt.Sprint(i), string(echo))
	}
	dispatch(t, h, codec.Envelope{Type: "tick", ID: "1"})
	require.Equal(t, "tick:1", p.event().Topic())
}

func TestCompressedMessagesMayComeWithTheHead(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{Compress: true})
	got := listen(t, h)
	_, handled, ts := startHandler(t, fanout.Config{}, Config{Compress: true}, nil)
	gotHandled := listen(t, handled)
	for _, c := range []struct {
		target, address string
		got             <-chan codec.Envelope
	}{
		{"/ws", address, got},
		{"/live", addressOf(ts), gotHandled},
	} {
		p := dialPeer(t, c.address, from{})
		first := frame(compressed(ws.OpText, true), deflated(t, `{"type":"ask","id":"1"}`))
		second := frame(compressed(ws.OpText, true), deflated(t, `{"type":"ask","id":"2"}`))
		p.write(append(append([]byte(request(c.target, offerHeader+": permessage-deflate")), first...), second[:9]...))
		require.Equal(t, "ask:1", receive(t, c.got, "the event that came with the head").Topic())
		p.write(second[9:])
		require.Equal(t, "ask:2", receive(t, c.got, "the event of which half came with the head").Topic())
		require.Equal(t, agreed, p.upgraded().Header.Get(offerHeader))
	}
}

func TestViolationsInCompressedMessagesCloseTheConnection(t *testing.T) {
	const limit = 1000
	for _, c := range []struct {
		name string
		sent []byte
		code codec.CloseCode
		kind fanout.CauseKind
	}{
		{"no DEFLATE data", frame(compressed(ws.OpText, true), []byte(`{"type":"a"}`)), 1007, fanout.KindBadData},
		{"no UTF-8", frame(compressed(ws.OpText, true), deflated(t, "\xff")), 1007, fanout.KindBadData},
		{"a bomb", frame(compressed(ws.OpText, true), deflated(t, strings.Repeat(" ", 400_000))), 1009, fanout.KindTooBig},
		{"RSV1 on a continuation", append(frame(compressed(ws.OpText, false), nil), frame(compressed(ws.OpContinuation, true), []byte{0})...), 1002, fanout.KindProtocol},
		{"RSV1 on a ping", frame(compressed(ws.OpPing, true), nil), 1002, fanout.KindProtocol},
		{"RSV2", frame(ws.Header{Fin: true, Rsv: ws.Rsv(true, true, false), OpCode: ws.OpText}, []byte{0}), 1002, fanout.KindProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			var hc fanout.Config
			life := watch(&hc)
			_, h, address := startServer(t, hc, Config{Compress: true, MaxMessageBytes: limit})
			got := listen(t, h)
			p := connectCompressed(t, address)
			p.write(append(message("ask", "1"), c.sent...))
			reason := p.requireClose(c.code)
			p.requireEnd()
			_ = p.tcp.Close()
			cause := receive(t, life.ended, "the spoke is gone")
			require.Equal(t, fanout.Cause{Side: fanout.LocalSide, Code: c.code, Reason: reason, Kind: c.kind}, cause)
			require.Equal(t, "ask:1", receive(t, got, "the event before").Topic())
			require.Empty(t, got)
		})
	}
}

func TestCompressedMessagesAreRefusedWhereNothingWasNegotiated(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{Compress: true})
	got := listen(t, h)
	compressing := connectCompressed(t, address)
	hello := frame(compressed(ws.OpText, true), deflated(t, `{"type":"ask","id":"1"}`))
	for range 20 { // the readers are shared, and have just read a compressed message
		compressing.write(hello)
		require.Equal(t, "ask:1", receive(t, got, "the event").Topic())
		p := connect(t, address)
		p.write(hello)
		p.requireClose(codec.CloseProtocolError)
		require.Empty(t, got)
	}
}

// countingConn counts what is read from it and written to it.
type countingConn struct {
	net.Conn
	read, written atomic.Int64
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.written.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// dialCompressing connects a foreign client that compresses everything if mode lets it, and counts
// what goes over its socket.
func dialCompressing(ctx context.Context, t *testing.T, address string, mode websocket.CompressionMode) (*websocket.Conn, *http.Response, *countingConn) {
	t.Helper()
	counting := &countingConn{}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (_ net.Conn, err error) {
		counting.Conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return counting, err
	}}
	c, resp, err := websocket.Dial(ctx, "ws://"+address+"/ws", &websocket.DialOptions{
		CompressionMode: mode, CompressionThreshold: 1, HTTPClient: &http.Client{Transport: transport},
	})
	require.NoError(t, err)
	return c, resp, counting
}

func TestForeignClientsCompressWhatTheySend(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{Compress: true})
	got := listen(t, h)
	for name, mode := range map[string]websocket.CompressionMode{
		"without context takeover": websocket.CompressionNoContextTakeover,
		"told not to take it over": websocket.CompressionContextTakeover,
		"not at all":               websocket.CompressionDisabled,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, resp, bytes := dialCompressing(ctx, t, address, mode)
			defer c.CloseNow()
			off := mode == websocket.CompressionDisabled
			require.Equal(t, off, resp.Header.Get(offerHeader) == "")
			require.Equal(t, codec.TypeWelcome, read(t, c).Type)
			const events, size = 10, 20_000
			for i := range events {
				e := event("ask", fmt.Sprint(i), size)
				b, err := codec.AppendEnvelope(nil, e)
				require.NoError(t, err)
				require.NoError(t, c.Write(ctx, websocket.MessageText, b))
				require.Equal(t, e, receive(t, got, "the event"))
			}
			require.Equal(t, off, bytes.written.Load() > events*size/10, "%d bytes were sent", bytes.written.Load())

			w, err := c.Writer(ctx, websocket.MessageText) // in fragments
			require.NoError(t, err)
			for _, part := range []string{`{"type":"ask",`, `"id":"é",`, `"payload":[1,2,3]}`} {
				_, err = w.Write([]byte(part))
				require.NoError(t, err)
			}
			require.NoError(t, w.Close())
			require.Equal(t, codec.Envelope{Type: "ask", ID: "é", Payload: []byte("[1,2,3]")}, receive(t, got, "the event"))

			dispatch(t, h, codec.Envelope{Type: "tick", ID: "1"})
			require.Equal(t, "tick:1", read(t, c).Topic())
			require.NoError(t, c.Close(websocket.StatusNormalClosure, "bye"))
		})
	}
}

// One event goes to all: compressed to those that negotiated it, the same to the others.
func TestForeignClientsReadWhatTheHubCompresses(t *testing.T) {
	d, err := codec.NewDeflater(3, 512)
	require.NoError(t, err)
	_, h, address := startServer(t, fanout.Config{Deflater: d}, Config{Compress: true})
	type reader struct {
		c     *websocket.Conn
		bytes *countingConn
		off   bool
	}
	var readers []reader
	for _, mode := range []websocket.CompressionMode{
		websocket.CompressionNoContextTakeover, websocket.CompressionContextTakeover, websocket.CompressionDisabled,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, _, bytes := dialCompressing(ctx, t, address, mode)
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		require.Equal(t, codec.TypeWelcome, read(t, c).Type)
		readers = append(readers, reader{c, bytes, mode == websocket.CompressionDisabled})
	}
	want := []codec.Envelope{event("tick", "1", 10), event("tick", "2", 20_000), event("tick", "3", 600), event("tick", "4", 150_000)}
	total := 0
	for _, e := range want {
		total += len(e.Payload)
		dispatch(t, h, e)
	}
	for _, r := range readers {
		for _, e := range want {
			require.Equal(t, e, read(t, r.c))
		}
		require.Equal(t, r.off, r.bytes.read.Load() > int64(total)/4, "%d of %d bytes were read", r.bytes.read.Load(), total)
	}
}

func TestIdleConnectionHoldsNothingForCompression(t *testing.T) {
	s, h, address := startServer(t, fanout.Config{}, Config{Compress: true})
	got := listen(t, h)
	p := connectCompressed(t, address)
	p.write(frame(compressed(ws.OpText, true), deflated(t, `{"type":"ask","id":"1"}`)))
	receive(t, got, "the event")
	p.write(whole(ws.OpPing, nil)) // answered once the poller is through with the message
	op, _ := p.next()
	require.Equal(t, ws.OpPong, op)
	s.conns.each(func(c *conn) {
		await(t, func() bool { return !c.has(flagReading) }, "the poller is through with the ping")
		require.Nil(t, c.reader)
		require.True(t, c.has(flagCompressed))
	})
}
