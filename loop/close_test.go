package loop

import (
	"bytes"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestCloseIsEchoedAndNamesThePeer(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	s, _, address := startServer(t, hc, Config{CloseTimeout: time.Minute})
	kinds := map[codec.CloseCode]fanout.CauseKind{
		1000: fanout.KindNormal, 1001: fanout.KindNormal, 1002: fanout.KindProtocol, 1003: fanout.KindOther,
		1007: fanout.KindBadData, 1008: fanout.KindPolicy, 1009: fanout.KindTooBig, 1010: fanout.KindOther,
		1011: fanout.KindOther, 1012: fanout.KindOther, 1013: fanout.KindOther, 1014: fanout.KindOther,
		3000: fanout.KindOther, 4000: fanout.KindOther, 4008: fanout.KindSlow, 4999: fanout.KindOther,
	}
	for code, kind := range kinds {
		p := connect(t, address)
		p.write(append(closing(code, "because"), message("ask", "after the close frame")...))
		require.Equal(t, "because", p.requireClose(code))
		p.requireEnd()
		want := fanout.Cause{Side: fanout.PeerSide, Code: code, Reason: "because", Kind: kind}
		require.Equal(t, want, receive(t, life.ended, "the spoke is gone"))
	}
	p := connect(t, address)
	p.write(whole(ws.OpClose, nil))
	p.requireClose(codec.CloseNoStatus)
	p.requireEnd()
	want := fanout.Cause{Side: fanout.PeerSide, Code: codec.CloseNoStatus, Kind: fanout.KindNormal}
	require.Equal(t, want, receive(t, life.ended, "the spoke is gone"))
	require.Zero(t, s.Stats().Received)
}

func TestCloseByTheHubWaitsForTheAnswer(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	_, h, address := startServer(t, hc, Config{CloseTimeout: time.Minute})
	got := listen(t, h)
	p := connect(t, address)
	s := receive(t, life.began, "the spoke connects")
	dispatch(t, h, codec.Envelope{Type: "tick"})
	s.Close(4000, "bye")
	require.Equal(t, "tick:", p.event().Topic(), "what was dispatched before goes out")
	require.Equal(t, "bye", p.requireClose(4000))
	p.write(append(message("ask", "late"), whole(ws.OpPing, nil)...))
	require.Empty(t, life.ended)
	p.write(closing(4000, ""))
	p.requireEnd()
	want := fanout.Cause{Side: fanout.LocalSide, Code: 4000, Reason: "bye", Kind: fanout.KindOther}
	require.Equal(t, want, receive(t, life.ended, "the spoke is gone"))
	require.Empty(t, got, "what comes after our close frame does not count")
}

func TestPeerThatDoesNotAnswerTheCloseFrameIsCutOff(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	_, _, address := startServer(t, hc, Config{CloseTimeout: 50 * time.Millisecond})
	p := connect(t, address)
	receive(t, life.began, "the spoke connects").Close(codec.CloseNormal, "")
	p.requireClose(codec.CloseNormal)
	p.requireEnd()
	want := fanout.Cause{Side: fanout.LocalSide, Code: codec.CloseNormal, Kind: fanout.KindNormal}
	require.Equal(t, want, receive(t, life.ended, "the spoke is gone"))
}

func TestPeerThatViolatesAfterOurCloseFrameIsCutOff(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	_, _, address := startServer(t, hc, Config{CloseTimeout: 50 * time.Millisecond})
	p := connect(t, address)
	receive(t, life.began, "the spoke connects").Close(4000, "bye")
	p.requireClose(4000)
	p.write(bytes.Repeat([]byte{0xff}, 14))
	p.requireEnd()
	want := fanout.Cause{Side: fanout.LocalSide, Code: 4000, Reason: "bye", Kind: fanout.KindOther}
	require.Equal(t, want, receive(t, life.ended, "the spoke is gone"), "the first cause counts")
}

func TestConnectionThatEndsWithoutACloseFrameIsGone(t *testing.T) {
	for name, end := range map[string]func(*peer){
		"FIN":              func(p *peer) { _ = p.tcp.Close() },
		"half-close":       func(p *peer) { _ = p.tcp.CloseWrite() },
		"reset":            (*peer).vanish,
		"FIN in a frame":   func(p *peer) { p.write(message("ask", "cut")[:9]); _ = p.tcp.Close() },
		"FIN in a header":  func(p *peer) { p.write(message("ask", "cut")[:1]); _ = p.tcp.Close() },
		"reset in a frame": func(p *peer) { p.write(message("ask", "cut")[:9]); p.vanish() },
		"FIN in a message": func(p *peer) { p.write(frame(more(ws.OpText), []byte("{"))); _ = p.tcp.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			var hc fanout.Config
			life := watch(&hc)
			s, h, address := startServer(t, hc, Config{})
			got := listen(t, h)
			p := connect(t, address)
			p.write(message("ask", "1"))
			end(p)
			cause := receive(t, life.ended, "the spoke is gone")
			require.NotEmpty(t, cause.Reason)
			cause.Reason = ""
			require.Equal(t, fanout.Cause{Side: fanout.PeerSide, Code: codec.CloseAbnormal, Kind: fanout.KindGone}, cause)
			if name != "reset" && name != "reset in a frame" { // the kernel may lose it then
				require.Equal(t, "ask:1", receive(t, got, "the event before").Topic())
			}
			requireEmpty(t, s, h)
		})
	}
}

func TestEverythingSentBeforeHangingUpReachesTheListenersFirst(t *testing.T) {
	const total = 20_000 // a little more than 1 MB
	received := make(chan int, 1)
	n := 0
	_, h, address := startServer(t, fanout.Config{
		OnDisconnection: func(*fanout.Spoke, fanout.Cause) { received <- n },
	}, Config{})
	_, err := h.AddListener("*", func(*fanout.Spoke, codec.Envelope) { n++ }) // one spoke, so one goroutine at a time
	require.NoError(t, err)
	p := connect(t, address)
	p.write(bytes.Repeat(message("ask", "0123456789"), total))
	_ = p.tcp.Close()
	require.Equal(t, total, receive(t, received, "the spoke is gone"))
}

// gate is a listener that holds the poller.
type gate struct {
	entered, openc chan struct{}
}

func addGate(t testing.TB, h *fanout.Hub) gate {
	t.Helper()
	g := gate{make(chan struct{}, 10), make(chan struct{}, 10)}
	_, err := h.AddListener("gate:", func(*fanout.Spoke, codec.Envelope) {
		g.entered <- struct{}{}
		<-g.openc
	})
	require.NoError(t, err)
	t.Cleanup(func() { close(g.openc) })
	return g
}

func TestFailedWriteLosesNothingThatThePeerHasSent(t *testing.T) {
	for name, end := range map[string]func(*peer){
		"FIN":   func(p *peer) { _ = p.tcp.CloseWrite(); _ = p.tcp.Close() },
		"reset": (*peer).vanish,
	} {
		t.Run(name, func(t *testing.T) {
			var hc fanout.Config
			life := watch(&hc)
			_, h, address := startServer(t, hc, Config{Pollers: 1})
			g := addGate(t, h)
			got := listen(t, h)
			p := connect(t, address)
			p.write(message("gate", ""))
			receive(t, g.entered, "the poller is held")
			const total = 100
			p.write(append(bytes.Repeat(message("ask", ""), total), closing(4000, "done")...))
			end(p)
			for range 100 { // the first is answered by a reset, at the latest; those behind it fail
				dispatch(t, h, codec.Envelope{Type: "tick"})
				h.Flush()
			}
			g.openc <- struct{}{}
			for range 1 + total {
				receive(t, got, "what the peer has sent")
			}
			require.EqualValues(t, 4000, receive(t, life.ended, "the spoke is gone").Code)
		})
	}
}

// A poller has a hang-up in hand when somebody else writes to that connection, fails, and a new
// connection gets its descriptor: the hang-up must not hit that one.
func TestHangUpDoesNotHitTheNextConnectionWithTheDescriptor(t *testing.T) {
	s, h, address := startServer(t, fanout.Config{}, Config{Pollers: 1})
	ts := httptest.NewServer(s.Handler()) // it accepts while the poller is held
	defer ts.Close()
	g := addGate(t, h)
	holder, victim := connect(t, address), connect(t, address)
	holder.write(message("gate", ""))
	receive(t, g.entered, "the poller is held")
	holder.write(message("gate", ""))
	_ = victim.tcp.Close()
	g.openc <- struct{}{}
	receive(t, g.entered, "the poller is held, and has the hang-up in its next event")

	fill(t, connOf(t, s, victim).sock.Hash(), 2) // the client's socket and the one accepted, so that its copy gets the victim's
	for range 100 {
		dispatch(t, h, codec.Envelope{Type: "tick"})
		h.Flush()
	}
	next := dialPeer(t, addressOf(ts), from{})
	next.write([]byte(request("/")))
	connOf(t, s, next)
	g.openc <- struct{}{}
	next.upgraded()
	require.Equal(t, codec.TypeWelcome, next.event().Type)
	next.write(whole(ws.OpPing, nil))
	op, _ := next.next()
	require.Equal(t, ws.OpPong, op)
}

// connOf returns the server's side of the peer's connection.
func connOf(t testing.TB, s *Server, p *peer) (found *conn) {
	t.Helper()
	await(t, func() bool {
		s.conns.each(func(c *conn) {
			if c.has(flagOpen) && c.Remote() == p.tcp.LocalAddr().String() {
				found = c
			}
		})
		return found != nil
	}, "the server has accepted the peer")
	return found
}

// fill takes all the descriptors below the given one, except for so many.
func fill(t testing.TB, below, except int) {
	t.Helper()
	var taken []*os.File
	t.Cleanup(func() {
		for _, f := range taken {
			_ = f.Close()
		}
	})
	for {
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		taken = append(taken, f)
		if int(f.Fd()) > below {
			break
		}
	}
	for _, f := range taken[:except] {
		require.NoError(t, f.Close())
	}
}

func TestWriteAfterHangUpFails(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{})
	c := connOf(t, s, connect(t, address))
	c.hangUp()
	_, err := write(c.sock, []byte("x"))
	require.Error(t, err)
	c.hangUp()
	await(t, func() bool { return s.Stats().Connections == 0 }, "it is forgotten")
	_, err = write(c.sock, []byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	c.hangUp()
}
