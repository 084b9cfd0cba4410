package loop

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestASpokeIsReadFromForItsShareOfACore(t *testing.T) {
	s := &Server{allowance: allowanceOf(0.1)}
	c := &conn{server: s}
	worked, now := time.Duration(0), time.Duration(0)
	for now < 10*time.Second { // it sends without end, and each read takes 50 us
		worked += 50 * time.Microsecond
		now += 50 * time.Microsecond
		wait := c.charge(50 * time.Microsecond)
		require.LessOrEqual(t, wait, 2*stampUnit)
		before := stamp(now / stampUnit)
		now += wait
		c.rested(stamp(now/stampUnit) - before)
	}
	require.InDelta(t, 0.1, float64(worked)/float64(now), 0.01)

	require.Zero(t, (&conn{server: s}).charge(time.Hour), "who is read from for the first time is not to blame for the kernel")
	s.allowance = allowanceOf(-1)
	for range 1000 {
		require.Zero(t, c.charge(time.Millisecond), "without a limit")
	}
	s.allowance = allowanceOf(1e-9)
	require.Less(t, (&conn{server: s}).charge(time.Millisecond), time.Minute, "the least share is more than nothing")
	c.rested(1 << 31)
	require.Zero(t, c.spent, "all is forgotten in the end")
}

// stingy gives a spoke a twentieth of a core.
var stingy = Config{SpokeCPU: 0.05, Pollers: 1}

// counted is a stream of messages: the i-th has the number i as its id.
func counted(from, to int) []byte {
	var b bytes.Buffer
	for i := from; i < to; i++ {
		b.Write(message("n", fmt.Sprint(i)))
	}
	return b.Bytes()
}

// expect has every message of a counted stream arrive, in order, and returns how many have.
func expect(t *testing.T, h *fanout.Hub) *atomic.Int64 {
	t.Helper()
	next := new(atomic.Int64)
	_, err := h.AddListener("n:", func(_ *fanout.Spoke, e codec.Envelope) {
		if want := fmt.Sprint(next.Load()); e.ID != want {
			t.Errorf("message %s instead of %s", e.ID, want)
		}
		next.Add(1)
	})
	require.NoError(t, err)
	return next
}

func TestNothingIsLostOfWhatASpokeSendsBeyondItsShare(t *testing.T) {
	const total = 5000
	for _, c := range []struct {
		name string
		end  func(p *peer) // once everything is sent
		kind fanout.CauseKind
	}{
		{"and it stays", func(*peer) {}, ""},
		{"and it hangs up", func(p *peer) { _ = p.tcp.Close() }, fanout.KindGone},
		{"and it says goodbye", func(p *peer) { p.write(closing(codec.CloseNormal, "")) }, fanout.KindNormal},
	} {
		t.Run(c.name, func(t *testing.T) {
			hc := fanout.Config{SpokeRatePerSec: -1}
			life := watch(&hc)
			s, h, address := startServer(t, hc, stingy)
			arrived := expect(t, h)
			p := connect(t, address)
			p.write(counted(0, total))
			c.end(p)
			await(t, func() bool { return arrived.Load() == total }, "everything arrives")
			require.NotZero(t, s.Stats().Suspensions)
			if c.kind != "" {
				require.Equal(t, c.kind, receive(t, life.ended, "the spoke is gone").Kind)
				return
			}
			p.write(counted(total, total+1))
			await(t, func() bool { return arrived.Load() == total+1 }, "it is read from again")
		})
	}
}

// While a spoke is not read from its poller still has to see that there is room for what it is sent.
func TestASpokeBeyondItsShareIsWrittenTo(t *testing.T) {
	const events, length = 40, 4 << 10
	lc := tight
	lc.SpokeCPU, lc.Pollers = stingy.SpokeCPU, 1
	s, h, address := startServer(t, fanout.Config{SpokeRatePerSec: -1}, lc)
	arrived := expect(t, h)
	p := slowly(t, address)
	c := connOf(t, s, p)
	sent := 0
	for i := range events {
		p.write(counted(sent, sent+200))
		sent += 200
		dispatch(t, h, numbered(i, length))
	}
	await(t, func() bool { return c.inFlight.Load() > 0 }, "the kernel is full")
	for i := range events {
		require.Contains(t, string(p.event().Payload), fmt.Sprintf(`{"n":%d,`, i))
	}
	await(t, func() bool { return arrived.Load() == int64(sent) }, "everything arrives")
	require.NotZero(t, s.Stats().Suspensions)
}

func TestOthersAreServedWhileASpokeIsNotReadFrom(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{SpokeRatePerSec: -1}, stingy)
	flood, other := connect(t, address), connect(t, address)
	c := connOf(t, s, flood)
	go func() { // ends with the connection
		pings := bytes.Repeat(whole(ws.OpPing, nil), 1000)
		for {
			if _, err := flood.conn.Write(pings); err != nil {
				return
			}
		}
	}()
	seen := 0
	await(t, func() bool {
		other.write(whole(ws.OpPing, []byte("?")))
		op, _ := other.next()
		require.Equal(t, ws.OpPong, op)
		if c.has(flagSuspended) {
			seen++
		}
		return seen > 10
	}, "the flood is not read from while the other is answered")
	await(t, func() bool { return s.Stats().Suspensions > 1 }, "it is read from again, and again too much")
	_ = flood.tcp.Close()
	await(t, func() bool { return s.Stats().Connections == 1 }, "it is forgotten")
}
