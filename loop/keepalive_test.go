package loop

import (
	"math"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestSilentPeerThatAnswersPingsStays(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{Ping: 20 * time.Millisecond, PongTimeout: time.Minute})
	p := connect(t, address)
	for range 5 {
		op, payload := p.next()
		require.Equal(t, ws.OpPing, op)
		p.write(whole(ws.OpPong, payload))
	}
	dispatch(t, h, codec.Envelope{Type: "tick"})
	require.Equal(t, "tick:", p.event().Topic())
}

func TestPeerThatDoesNotAnswerAPingIsClosed(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	_, h, address := startServer(t, hc, Config{Ping: 20 * time.Millisecond, PongTimeout: 20 * time.Millisecond})
	p := connect(t, address)
	op, _ := p.next()
	require.Equal(t, ws.OpPing, op)
	require.Equal(t, "no answer to a ping", p.requireClose(codec.ClosePolicy))
	p.write(closing(codec.ClosePolicy, ""))
	p.requireEnd()
	want := fanout.Cause{Side: fanout.LocalSide, Code: codec.ClosePolicy, Reason: "no answer to a ping", Kind: fanout.KindPingTimeout}
	require.Equal(t, want, receive(t, life.ended, "the spoke is gone"))
	await(t, func() bool {
		return h.Stats().Closed[fanout.Ending{Code: codec.ClosePolicy, Kind: fanout.KindPingTimeout}] == 1
	}, "it is counted")
}

func TestStalledSpokeIsClosedByPingTimeout(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	hc.Limits.SpokeBytes = 8 << 20
	lc := tight
	lc.Ping, lc.PongTimeout, lc.CloseTimeout = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	_, h, address := startServer(t, hc, lc)
	slow := slowly(t, address)
	for i := range 1000 {
		dispatch(t, h, numbered(i, 1<<10))
	}
	require.Equal(t, fanout.KindPingTimeout, receive(t, life.ended, "the spoke is gone").Kind)
	op, payload := slow.next()
	for op == ws.OpText {
		op, payload = slow.next()
	}
	require.Equal(t, ws.OpClose, op, "the ping had to wait for the chunk in flight, and was given up with the rest")
	require.Equal(t, "no answer to a ping", string(payload[2:]))
	slow.requireEnd()
}

func TestStampsCompareAcrossTheirWrap(t *testing.T) {
	for _, c := range []struct {
		from stamp
		d    time.Duration
		to   stamp
	}{
		{0, 0, 0},
		{0, time.Nanosecond, 1}, // rounded up: a deadline is not early
		{0, stampUnit, 1},
		{5, 25 * time.Second, 2505},
		{math.MaxUint32, stampUnit, 0},
		{math.MaxUint32 - 9, time.Second, 90},
		{math.MaxUint32, 24 * time.Hour, 8_639_999}, // the longest that Config allows
	} {
		require.Equal(t, c.to, c.from.after(c.d))
		rounded := (c.d + stampUnit - 1) / stampUnit * stampUnit
		require.Equal(t, rounded, c.to.since(c.from))
		require.Equal(t, -rounded, c.from.since(c.to))
	}
	s := &Server{began: time.Now().Add(-(1<<32 + 100) * stampUnit)} // 497 days ago
	require.InDelta(t, 100, float64(s.now()), 50)
}

func TestDeadlinesHoldAcrossTheWrapOfStamps(t *testing.T) {
	_, h := newServer(t, fanout.Config{}, Config{})
	cfg := Config{Ping: 10 * time.Second, PongTimeout: 5 * time.Second}
	sink := &recorder{closed: make(chan codec.CloseCode, 1), wrote: make(chan []byte, 10)}
	var wrap stamp // began at 0, so that the ping is not spread
	lastRead := wrap - 300
	c := &conn{server: &Server{config: cfg}}
	h.InitSpoke(&c.spoke, sink)
	require.NoError(t, c.spoke.Attach())
	defer c.spoke.Detach(fanout.Cause{})
	receive(t, sink.wrote, "__welcome")
	c.flags.Store(flagOpen | flagUpgraded)
	c.lastRead.Store(uint32(lastRead))

	c.check(wrap + 699) // 9.99 s of silence
	h.Flush()
	require.Empty(t, sink.wrote)
	c.check(wrap + 700)
	require.Equal(t, pingFrame.Bytes(), receive(t, sink.wrote, "a ping"))
	c.check(wrap + 1199)
	h.Flush()
	require.Empty(t, sink.closed)
	c.check(wrap + 1200)
	require.Equal(t, codec.ClosePolicy, receive(t, sink.closed, "the close frame"))
}

// recorder is a sink that takes everything.
type recorder struct {
	wrote  chan []byte
	closed chan codec.CloseCode
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote <- append([]byte(nil), b...)
	return 0, nil
}

func (r *recorder) Close(cause fanout.Cause) { r.closed <- cause.Code }

func (r *recorder) Remote() string { return "" }

func TestPingsAreSpreadOverAnEighthOfTheInterval(t *testing.T) {
	s := &Server{config: Config{Ping: 16 * time.Second}}
	perSecond := make(map[time.Duration]int)
	for began := range stamp(1000) { // connections accepted over ten seconds
		after := (&conn{server: s, began: began}).pingAfter()
		require.LessOrEqual(t, after, 16*time.Second)
		require.Greater(t, after, 14*time.Second)
		perSecond[after/(200*time.Millisecond)]++
	}
	require.GreaterOrEqual(t, len(perSecond), 10)
	for slot, n := range perSecond {
		require.Less(t, n, 150, "in slot %d of 10", slot)
	}
}
