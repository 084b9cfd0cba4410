package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// scriptEngine is an engine that does what the test says.
type scriptEngine struct {
	handler Handler

	mu        sync.Mutex
	fail      error  // of Publish
	each      func() // called by Publish, with nothing held
	most      int64  // MaxBytes
	published []string
	subjects  []string
}

func (*scriptEngine) Kind() string           { return "script" }
func (*scriptEngine) Server() string         { return "" }
func (*scriptEngine) Unsubscribe(...Subject) {}
func (*scriptEngine) Flush()                 {}
func (e *scriptEngine) MaxBytes() int64      { return e.most }
func (*scriptEngine) Close()                 {}
func (*scriptEngine) Subscribe(...Subject)   {}

func (e *scriptEngine) Start(h Handler) error {
	e.handler = h
	return nil
}

func (e *scriptEngine) Publish(subject string, data []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if each := e.each; each != nil {
		e.mu.Unlock()
		each()
		e.mu.Lock()
	}
	if e.fail != nil {
		return e.fail
	}
	e.published, e.subjects = append(e.published, string(data)), append(e.subjects, subject)
	return nil
}

// fixture is a hub whose engine is a script, and a spoke of it. It runs in fake time.
type fixture struct {
	engine *scriptEngine
	member *Member
	hub    *fanout.Hub
	sink   *sink
	beats  uint64
}

// sink is a connection that takes everything, or waits until the gate is closed.
type sink struct {
	mu   sync.Mutex
	gate chan struct{}
	got  []codec.Envelope
}

func (k *sink) Write(b []byte) (int, error) {
	k.mu.Lock()
	gate := k.gate
	k.mu.Unlock()
	if gate != nil {
		<-gate
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	codec.EachMessage(b, func(payload []byte) {
		if e, err := codec.ParseEnvelope(payload); err == nil && e.Type != codec.TypeWelcome {
			k.got = append(k.got, e)
		}
	})
	return 0, nil
}
func (*sink) Close(fanout.Cause) {}
func (*sink) Remote() string     { return "192.0.2.1:1234" }

// stream returns what the spoke has got, in short.
func (k *sink) stream(t *testing.T) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var words []string
	for _, e := range k.got {
		if e.Type != codec.TypeGap {
			words = append(words, string(e.Payload))
			continue
		}
		var gap codec.Gap
		require.NoError(t, e.Decode(&gap))
		words = append(words, fmt.Sprintf("gap(%s,%d)", gap.Reason, gap.Dropped))
	}
	k.got = nil
	return strings.Join(words, " ")
}

func run(t *testing.T, c Config, topics []string, test func(*testing.T, *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{engine: &scriptEngine{}, sink: &sink{}}
		format, err := NATSHub("h")
		require.NoError(t, err)
		c.Engine, c.Format, c.ID, c.Logger = f.engine, format, "me", cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
		f.member, err = New(c)
		require.NoError(t, err)
		f.hub, err = fanout.New(fanout.Config{Cluster: f.member, Shards: 1, Logger: c.Logger, Limits: fanout.Limits{TotalBytes: 64 << 10}})
		require.NoError(t, err)
		require.NoError(t, f.member.Start(f.hub))
		defer f.hub.Close()
		defer f.member.Close()
		f.engine.handler.Up()
		synctest.Wait()
		time.Sleep(100 * time.Millisecond) // who comes now has come after the engine
		var patterns []codec.Pattern
		for _, text := range topics {
			patterns = append(patterns, pattern(t, text))
		}
		require.NoError(t, f.hub.NewSpoke(f.sink).Attach(patterns...))
		synctest.Wait()
		test(t, f)
	})
}

// event has an event of another hub arrive, by the subscription source.
func (f *fixture) event(source, id string, seq uint64) {
	f.engine.handler.Receive(source, "h.e.t."+id, fmt.Appendf(nil, `{"type":"t","id":%q,"payload":%d,"via":"other.%d"}`, id, seq, seq))
}

func (f *fixture) beat(b beat) {
	f.beats++
	if b.No == 0 {
		b.No = f.beats
	}
	n := note{From: "other", Beat: &b}
	f.engine.handler.Receive("h.c.hubs", "h.c.hubs", n.encode())
	synctest.Wait()
}

func TestWhatComesTwiceIsDeliveredOnce(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) {
		f.event("h.e.t.1", "1", 1)
		f.event("h.e.>", "1", 1) // while the one gives way to the other both bring it
		f.event("h.e.>", "1", 2)
		f.event("h.e.t.1", "1", 2)
		f.event("h.e.>", "1", 3)
		f.engine.handler.Receive("h.e.>", "h.e.t.1", []byte(`{"type":"t","id":"1","payload":"foreign"}`))
		f.engine.handler.Receive("h.e.>", "h.e.t.1", []byte(`{"type":"t","id":"1","payload":"foreign"}`))
		f.engine.handler.Receive("h.e.>", "h.e.t.1", []byte(`{"type":"t","payload":0,"via":"me.7"}`))
		f.engine.handler.Receive("h.e.>", "h.e.t.1", []byte(`no envelope`))
		f.engine.handler.Receive("h.e.>", "h.e.t.1", []byte(`{"type":"__gap"}`))
		synctest.Wait()
		require.Equal(t, `1 2 3 "foreign" "foreign"`, f.sink.stream(t))
		e := f.hub.ClusterInfo().Engine
		require.Equal(t, [3]uint64{5, 2, 2}, [3]uint64{e.Arrived, e.Repeated, e.Foreign})
	})
}

func TestAHubThatAsksForEverythingSeesWhatIsMissing(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) {
		f.beat(beat{})
		f.event("h.e.>", "1", 5) // the first that it is told of
		f.event("h.e.>", "1", 6)
		f.event("h.e.>", "1", 9)
		f.event("h.e.t.1", "1", 20) // asked for alone: of the others it knows nothing
		f.event("h.e.>", "1", 30)
		synctest.Wait()
		require.Equal(t, "5 6 gap(engine,2) 9 20 30", f.sink.stream(t))
		f.beat(beat{Seq: 30})
		require.Empty(t, f.sink.stream(t))
		f.beat(beat{Seq: 31}) // the last is missing
		f.event("h.e.>", "1", 32)
		synctest.Wait()
		require.Equal(t, "gap(engine,0) 32", f.sink.stream(t))
	})
}

func TestWhatNobodyWantedIsNotMissing(t *testing.T) {
	run(t, Config{Linger: time.Second}, []string{"t:1"}, func(t *testing.T, f *fixture) {
		all := f.hub.NewSpoke(&sink{})
		require.NoError(t, all.Attach())
		synctest.Wait()
		f.event("h.e.>", "1", 1)
		synctest.Wait()
		all.Detach(fanout.CauseOf(fanout.PeerSide, codec.CloseNormal, ""))
		time.Sleep(time.Second + settle + time.Second) // it lingers, it is received for a while longer, and then it is not
		again := &sink{}
		require.NoError(t, f.hub.NewSpoke(again).Attach())
		synctest.Wait()
		f.event("h.e.>", "1", 10)
		synctest.Wait()
		require.Equal(t, "10", again.stream(t))
		require.Equal(t, "1 10", f.sink.stream(t))
	})
}

func TestWhoComesAfterALossIsNotTold(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) {
		lost := time.Now()
		time.Sleep(time.Second)
		late := &sink{}
		require.NoError(t, f.hub.NewSpoke(late).Attach())
		require.Equal(t, 1, f.hub.Gap(lost, 3, fanout.GapEngine))
		synctest.Wait()
		require.Equal(t, "gap(engine,3)", f.sink.stream(t))
		require.Empty(t, late.stream(t))
	})
}

func TestWhatAnotherHubCouldNotForwardIsTold(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) {
		f.beat(beat{NotForwarded: 7, Outages: 1}) // before this hub knew of it
		f.beat(beat{NotForwarded: 7, Outages: 1})
		require.Empty(t, f.sink.stream(t))
		f.beat(beat{NotForwarded: 8, Outages: 1})
		require.Equal(t, "gap(engine,0)", f.sink.stream(t))
		f.beat(beat{NotForwarded: 8, Outages: 2})
		require.Equal(t, "gap(engine,0)", f.sink.stream(t))
		f.beats++ // a beat is lost on the way
		f.beat(beat{NotForwarded: 8, Outages: 2})
		require.Equal(t, "gap(engine,0)", f.sink.stream(t))
		f.beat(beat{NotForwarded: 8, Outages: 2})
		require.Empty(t, f.sink.stream(t))
	})
}

func TestASilentHubIsLostAfterThreeBeats(t *testing.T) {
	run(t, Config{Beat: time.Second}, nil, func(t *testing.T, f *fixture) {
		time.Sleep(10 * time.Second)
		require.Equal(t, hubUnknown, f.member.whereabouts("other"), "it would have been heard of")
		f.beat(beat{Spokes: 7, DispatchedPerSec: 5, DeliveriesPerSec: 35})
		require.Equal(t, hubLive, f.member.whereabouts("other"))
		require.InDelta(t, 35, f.hub.ClusterInfo().Hubs[1].DeliveriesPerSec, 0)
		time.Sleep(2900 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, hubLive, f.member.whereabouts("other"))
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, hubLost, f.member.whereabouts("other"))
		require.Equal(t, "gap(engine,0)", f.sink.stream(t))
		lost := f.hub.ClusterInfo().Hubs[1]
		require.Equal(t, "lost", lost.State)
		require.Equal(t, 7, lost.Spokes, "which may be there still")
		require.Zero(t, lost.DispatchedPerSec+lost.DeliveriesPerSec)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, f.sink.stream(t), "once")
		f.beat(beat{})
		require.Equal(t, hubLive, f.member.whereabouts("other"))
		require.Equal(t, "gap(engine,0)", f.sink.stream(t), "and once more when it is back")
		f.beat(beat{Bye: true})
		require.Equal(t, hubUnknown, f.member.whereabouts("other"))
		f.engine.handler.Lost(0, "other") // its connection ends with it
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, f.sink.stream(t))
		require.Len(t, f.hub.ClusterInfo().Hubs, 1)
	})
}

func TestWhatIsLostIsToldToThoseWhoWantIt(t *testing.T) {
	run(t, Config{QueueBytes: 4 << 10}, []string{"t:1"}, func(t *testing.T, f *fixture) {
		other := &sink{}
		require.NoError(t, f.hub.NewSpoke(other).Attach(pattern(t, "t:2")))
		idle := &sink{}
		require.NoError(t, f.hub.NewSpoke(idle).Attach(pattern(t, "u:*")))
		synctest.Wait()
		f.sink.mu.Lock()
		f.sink.gate = make(chan struct{})
		f.sink.mu.Unlock()
		const events = 5000
		for seq := uint64(1); seq <= events; seq++ { // until the hub is full, then the queue
			f.event("h.e.t.1", "1", seq)
		}
		for range 1000 { // the shard waits for the sink, and the member for the shard
			time.Sleep(0)
		}
		close(f.sink.gate)
		f.sink.mu.Lock()
		f.sink.gate = nil
		f.sink.mu.Unlock()
		synctest.Wait()
		f.event("h.e.t.1", "1", events+1)
		synctest.Wait()
		e := f.hub.ClusterInfo().Engine
		require.NotZero(t, e.Shed)
		require.EqualValues(t, events+1, e.Arrived+e.Shed, "the counters add up")
		require.Zero(t, e.IncomingBytes)
		stream := strings.Fields(f.sink.stream(t))
		next, lost := uint64(1), uint64(0)
		for _, word := range stream {
			var n uint64
			if _, err := fmt.Sscanf(word, "gap(engine,%d)", &n); err == nil {
				next, lost = next+n, lost+n
				continue
			}
			require.Equal(t, fmt.Sprint(next), word, "each loss is announced where it is")
			next++
		}
		require.EqualValues(t, events+2, next)
		require.Equal(t, e.Shed, lost)
		require.Empty(t, other.stream(t))
		require.Empty(t, idle.stream(t))
	})
}

func TestTheEngineGoneAndBack(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) {
		f.engine.handler.Down(errors.New("gone"))
		synctest.Wait()
		require.Empty(t, f.sink.stream(t))
		during := &sink{}
		require.NoError(t, f.hub.NewSpoke(during).Attach())
		r, err := f.hub.Dispatch(codec.Envelope{Type: "t", Payload: []byte("1")})
		require.NoError(t, err)
		require.True(t, r.NotForwarded)
		time.Sleep(time.Second)
		f.engine.handler.Up()
		synctest.Wait()
		time.Sleep(time.Second)
		after := &sink{}
		require.NoError(t, f.hub.NewSpoke(after).Attach())
		synctest.Wait()
		require.Equal(t, "1 gap(engine,0)", f.sink.stream(t))
		require.Equal(t, "1 gap(engine,0)", during.stream(t), "it has missed something as well")
		require.Empty(t, after.stream(t))
		e := f.hub.ClusterInfo().Engine
		require.Equal(t, [4]uint64{1, 1, 0, 1}, [4]uint64{e.Outages, e.NotForwarded, e.Forwarded, e.Gaps})
	})
}

func TestWhatIsDispatchedIsHandedOverInOrderBesideOrders(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) {
		f.beat(beat{})
		f.engine.mu.Lock()
		f.engine.published, f.engine.subjects = nil, nil
		f.engine.mu.Unlock()
		for i := range 3 {
			_, err := f.hub.Dispatch(codec.Envelope{Type: "t", ID: "a.b", Payload: fmt.Append(nil, i)})
			require.NoError(t, err)
			found, err := f.hub.DispatchTo("0000000000000000-other", codec.Envelope{Type: "own", Payload: []byte(`{ "as" : "it is" }`)})
			require.NoError(t, err)
			require.True(t, found)
		}
		synctest.Wait()
		f.engine.mu.Lock()
		defer f.engine.mu.Unlock()
		require.Equal(t, []string{"h.e.t.a=2Eb", "h.c.other", "h.e.t.a=2Eb", "h.c.other", "h.e.t.a=2Eb", "h.c.other"}, f.engine.subjects)
		require.Equal(t, `{"type":"t","id":"a.b","payload":0,"via":"me.1"}`, f.engine.published[0])
		require.True(t, strings.HasSuffix(f.engine.published[1], "\n"+`{"type":"own","id":"","payload":{ "as" : "it is" }}`), f.engine.published[1])
		f.engine.fail = errors.New("not taken")
	})
}

func TestAnOrderThatNobodyAnswersIsOpenAfterItsTime(t *testing.T) {
	run(t, Config{Timeout: 3 * time.Second}, nil, func(t *testing.T, f *fixture) {
		f.beat(beat{})
		began := time.Now()
		err := f.hub.Carry(t.Context(), "0000000000000000-other", fanout.Order{Events: []codec.Envelope{{Type: "t"}}})
		require.ErrorIs(t, err, fanout.ErrUnanswered)
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

func TestBackoffDoublesAndDiffers(t *testing.T) {
	for attempt, want := range map[int]time.Duration{0: 100, 1: 100, 2: 200, 3: 400, 6: 3200, 7: 5000, 1000: 5000} {
		require.Equal(t, want*time.Millisecond, backoff(attempt, 0))
		require.Equal(t, want*time.Millisecond/2, backoff(attempt, 1))
	}
}
