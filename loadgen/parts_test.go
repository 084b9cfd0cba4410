package loadgen

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestFramesAreTheSameHoweverTheBytesAreCut(t *testing.T) {
	type got struct {
		op   ws.OpCode
		head string
	}
	var stream []byte
	var want []got
	add := func(op ws.OpCode, n int) {
		payload := bytes.Repeat([]byte{byte('a' + len(want))}, n)
		stream = append(stream, ws.MustCompileFrame(ws.NewFrame(op, true, payload))...)
		want = append(want, got{op, string(payload[:min(n, headBytes)])})
	}
	for _, n := range []int{0, 1, 125, 126, 300, headBytes, headBytes + 1, 1<<16 - 1, 1 << 16, 0} {
		add(ws.OpText, n)
		add(ws.OpPing, min(n, 125))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, longest := range []int{1, 7, 1000, len(stream)} {
		var f framer
		var r headerReader
		var have []got
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(longest))
			require.NoError(t, f.feed(&r, slices.Clone(rest[:n]), func(op ws.OpCode, payload []byte) error {
				have = append(have, got{op, string(payload[:min(len(payload), headBytes)])})
				return nil
			}))
			rest = rest[n:]
		}
		require.Equal(t, want, have)
		require.Empty(t, f.carry)
	}
}

func TestCheckerJudgesEveryOrder(t *testing.T) {
	for _, c := range []struct {
		seqs []uint64
		want []verdict
	}{
		{[]uint64{0, 1, 2}, []verdict{fresh, fresh, fresh}},
		{[]uint64{0, 2, 1, 1}, []verdict{fresh, fresh, late, doubled}},
		{[]uint64{5, 0, 4, 2, 2, 5, 3, 1, 6}, []verdict{fresh, late, late, late, doubled, doubled, late, late, fresh}},
		{[]uint64{0, 0}, []verdict{fresh, doubled}},
	} {
		var k checker
		unique := map[uint64]bool{}
		for i, seq := range c.seqs {
			require.Equal(t, c.want[i], k.see(seq), "%v at %d", c.seqs, i)
			unique[seq] = true
		}
		require.EqualValues(t, len(unique), k.received)
	}
}

func TestCheckerForgetsOnlyItsOldestHoles(t *testing.T) {
	var k checker
	for seq := uint64(1); seq < 2000; seq += 2 {
		require.Equal(t, fresh, k.see(seq))
	}
	require.Len(t, k.holes, maxHoles)
	require.Equal(t, late, k.see(1998))
	require.Equal(t, doubled, k.see(0), "forgotten")
	require.EqualValues(t, 1001, k.received)
}

func TestAnEventIsReadAsItWasWritten(t *testing.T) {
	run := newRunID()
	for _, payloadBytes := range []int{MinPayloadBytes, 256, 5000} {
		for _, seq := range []uint64{0, 17, 1<<64 - 1} {
			b := appendEvent(nil, run, 12345, seq, 1<<62, payloadBytes)
			s, ok := readStamp(b)
			require.True(t, ok)
			require.Equal(t, stamp{[]byte(run), seq, 1 << 62}, s)

			e, err := codec.ParseEnvelope(b)
			require.NoError(t, err)
			require.Equal(t, "bench:12345", e.Topic())
			require.Len(t, e.Payload, payloadBytes)
			again, ok := decodeStamp(e)
			require.True(t, ok)
			require.Equal(t, s, again)
			for cut := range bytes.Index(b, []byte("xx")) - len(`,"pad":"`) {
				_, ok := readStamp(b[:cut])
				require.False(t, ok, "%s", b[:cut])
			}
		}
	}
}

func TestLimitsSayWhatIsNeededAndWhatToDo(t *testing.T) {
	c := Config{Spokes: 10_000}
	require.NoError(t, c.checkDescriptors(10_100))
	require.ErrorContains(t, c.checkDescriptors(1024), "10000 spokes need 10096 file descriptors, this process may have 1024: raise the limit (ulimit -n 10096)")
	require.NoError(t, c.checkPorts(10_000))
	require.ErrorContains(t, c.checkPorts(3000), "10000 spokes need 4 local addresses of about 3000 ports each, there are 1: name more, as in --source")
	require.Positive(t, localPorts())
}

func TestTheBusySideIsNamed(t *testing.T) {
	for _, c := range []struct {
		client Client
		want   string
	}{
		{Client{Cores: 2, CPUShare: 0.5, ReaderBusyShare: 0.8}, ""},
		{Client{Cores: 2, CPUShare: 0.95, ReaderBusyShare: 0.8}, "it used 95% of its 2 cores"},
		{Client{Cores: 2, CPUShare: 0.5, ReaderBusyShare: 0.97, ReaderCPUShare: 0.95}, "a thread that reads had something waiting 97% of the time"},
		{Client{Cores: 2, CPUShare: 0.2, ReaderBusyShare: 0.97, ReaderCPUShare: 0.35}, "a thread that reads had something waiting 97% of the time, " +
			"and a core for 35% of it: it shares them with something as busy, maybe the hub itself"},
	} {
		c.client.judge()
		require.Equal(t, c.want, c.client.Why)
		require.Equal(t, c.want != "", c.client.Busy)
	}
}

func TestLedgerFollowsWhatIsUnderWay(t *testing.T) {
	l := newLedger(2)
	under := func() int64 { n, _ := l.underWay(); return n }
	l.join(0)
	l.join(0)
	l.join(1)
	require.EqualValues(t, 0, l.publish(0))
	require.EqualValues(t, 1, l.publish(0))
	require.EqualValues(t, 0, l.publish(1))
	require.EqualValues(t, 5, under())
	l.withdraw(0)
	require.EqualValues(t, 3, under())
	require.EqualValues(t, 1, l.publish(0), "the number is used again")
	l.arrived(2, 2, 1) // both by one spoke of topic 0
	require.EqualValues(t, 3, under())
	l.leave(0, 2)
	require.EqualValues(t, 3, under())
	l.refuse(0)
	require.EqualValues(t, 2, under())
	l.leave(1, 0)
	require.EqualValues(t, 1, under())
	require.EqualValues(t, 1, l.missing(0, 0))
}

// oneReader is a reader without sockets, and a spoke of it that reads.
func oneReader() (*reader, *spoke) {
	r := newRun(Config{Spokes: 1})
	rd := &reader{run: r, epoll: -1, wakeFD: -1, counts: counts{latency: newLatency()}}
	r.readers = []*reader{rd}
	sp := r.spokes[0]
	sp.phase = reading
	r.ledger.join(0)
	return rd, sp
}

func TestADeliveryAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the detector allocates")
	}
	rd, sp := oneReader()
	seq := uint64(0)
	var b []byte
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		b = append(b[:0], 0x81, 126, 0, 0)
		b = appendEvent(b, rd.run.id, 0, seq, now(), 256)
		b[2], b[3] = byte((len(b)-4)>>8), byte(len(b)-4)
		seq++
		rd.takeLocked(sp, b)
		rd.settleLocked()
	}))
	require.Equal(t, seq, sp.check.received)
}

func BenchmarkDelivery(b *testing.B) {
	rd, sp := oneReader()
	frame := text(appendEvent(nil, rd.run.id, 0, 1<<40, now(), 256))
	b.ReportAllocs()
	for b.Loop() {
		sp.check.next = 1 << 40
		rd.takeLocked(sp, frame)
	}
}
