package cluster

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/synced"
)

// startMember is run in real time.
func startMember(t *testing.T, c Config) (*Member, *fanout.Hub) {
	t.Helper()
	format, err := NATSHub("h")
	require.NoError(t, err)
	engine := &scriptEngine{}
	c.Engine, c.Format, c.ID, c.Logger = engine, format, "me", slog.New(slog.DiscardHandler)
	member, err := New(c)
	require.NoError(t, err)
	hub, err := fanout.New(fanout.Config{Cluster: member, Shards: 1, Logger: c.Logger})
	require.NoError(t, err)
	t.Cleanup(hub.Close)
	require.NoError(t, member.Start(hub))
	t.Cleanup(member.Close)
	engine.handler.Up()
	return member, hub
}

// beatOf has a beat of the named hub arrive.
func (f *fixture) beatOf(id string, b beat) {
	n := note{From: id, Beat: &b}
	f.engine.handler.Receive("h.c.hubs", "h.c.hubs", n.encode())
}

// notes returns what has been published for other hubs, and forgets it.
func (e *scriptEngine) notes(t *testing.T) (notes []*note) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, subject := range e.subjects {
		if strings.HasPrefix(subject, "h.c.") {
			n, err := parseNote([]byte(e.published[i]))
			require.NoError(t, err)
			notes = append(notes, n)
		}
	}
	e.published, e.subjects = nil, nil
	return notes
}

// TestWhatIsNotAskedForAnyMoreIsNotMissing: the numbers of a hub that asked for everything until a moment ago say nothing
// about what is dispatched from then on.
func TestWhatIsNotAskedForAnyMoreIsNotMissing(t *testing.T) {
	run(t, Config{Linger: time.Second}, []string{"t:1"}, func(t *testing.T, f *fixture) {
		all := f.hub.NewSpoke(&sink{})
		require.NoError(t, all.Attach())
		synctest.Wait()
		f.beat(beat{})
		f.event("h.e.>", "1", 1)
		synctest.Wait()
		all.Detach(fanout.CauseOf(fanout.PeerSide, codec.CloseNormal, ""))
		time.Sleep(time.Second + settle/2) // everything is still received, but not asked for
		f.event("h.e.>", "1", 2)
		synctest.Wait()
		time.Sleep(settle)
		f.beat(beat{Seq: 7}) // 3 to 7 were for others
		f.event("h.e.t.1", "1", 8)
		f.beat(beat{Seq: 9})
		require.Equal(t, "1 2 8", f.sink.stream(t))
		require.Zero(t, f.hub.ClusterInfo().Engine.Gaps)
	})
}

// TestAHubIsTakenInThoughManyAreLost: hubs that crash and start again all day do not keep a new one out.
func TestAHubIsTakenInThoughManyAreLost(t *testing.T) {
	run(t, Config{Beat: time.Second}, nil, func(t *testing.T, f *fixture) {
		for i := range maxPeers {
			f.beatOf(fmt.Sprintf("dead%d", i), beat{No: 1})
			if i%64 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, hubLost, f.member.whereabouts("dead0"))
		f.engine.notes(t)
		for no := range uint64(3) {
			f.beat(beat{No: no + 1})
		}
		require.Equal(t, hubLive, f.member.whereabouts("other"), "its spokes can be reached")
		require.Len(t, f.engine.notes(t), 1, "it is greeted once, and not in answer to each beat")
		require.Equal(t, hubUnknown, f.member.whereabouts("dead0"), "for the one that was lost first")
		require.Equal(t, hubLost, f.member.whereabouts(fmt.Sprintf("dead%d", maxPeers-1)))
	})
}

// TestNothingIsSaidAfterTheFarewell: a beat behind it would be that of a hub which is lost three beats later.
func TestNothingIsSaidAfterTheFarewell(t *testing.T) {
	for i := range 50 {
		var engine *scriptEngine
		run(t, Config{Beat: time.Second}, nil, func(t *testing.T, f *fixture) {
			engine = f.engine
			for k := range 20 { // hubs come as this one goes
				f.beatOf(fmt.Sprintf("h%dx%d", i, k), beat{No: 1})
			}
		})
		notes := engine.notes(t)
		require.True(t, notes[len(notes)-1].Beat.Bye)
	}
}

// TestAHubIsClosedThoughOthersDispatch: what is dispatched while a member is closed does not keep it.
func TestAHubIsClosedThoughOthersDispatch(t *testing.T) {
	member, _ := startMember(t, Config{})
	engine := member.config.Engine.(*scriptEngine)
	frame, err := codec.NewFrame(codec.Envelope{Type: "t"}, codec.Text)
	require.NoError(t, err)
	engine.mu.Lock()
	engine.each = func() { _, _ = member.Forward(frame) } // whenever one has been handed over there is another
	engine.mu.Unlock()
	_, err = member.Forward(frame)
	require.NoError(t, err)
	closed := make(chan struct{})
	go func() { member.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		engine.mu.Lock()
		engine.each = nil
		engine.mu.Unlock()
		<-closed
		t.Fatal("it is never closed")
	}
	forwarded, err := member.Forward(frame)
	require.NoError(t, err)
	require.False(t, forwarded)
}

// TestAnOrderThatComesTooLateIsAnswered: the hub was closed after it was found that there is somebody to ask.
func TestAnOrderThatComesTooLateIsAnswered(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) {
		f.beat(beat{})
		f.member.orders.end()
		err := f.member.Send("0000000000000000-other", fanout.Order{}, func(error) {})
		require.ErrorIs(t, err, fanout.ErrUnanswered)
	})
}

// TestOrdersThatWaitAreBounded: as events are, and the spokes are told that something may be missing.
func TestOrdersThatWaitAreBounded(t *testing.T) {
	run(t, Config{QueueBytes: 64 << 10}, nil, func(t *testing.T, f *fixture) {
		f.beat(beat{})
		n := note{From: "other", Order: &order{No: 1, Spoke: "0000000000000000-me"}}
		require.NoError(t, n.setEvents([]codec.Envelope{{Type: "t", Payload: []byte(`"` + strings.Repeat("x", 4<<10) + `"`)}}))
		data := n.encode()
		const orders = 100
		f.member.peers.mu.Lock() // what comes waits behind a beat
		f.beatOf("another", beat{No: 1})
		for range orders {
			f.engine.handler.Receive("h.c.me", "h.c.me", data)
		}
		waiting := f.member.in.size()
		f.member.peers.mu.Unlock()
		require.Greater(t, waiting, int64(32<<10), "they are counted")
		require.LessOrEqual(t, waiting, int64(64<<10))
		synctest.Wait()
		answered := 0
		for _, n := range f.engine.notes(t) {
			if n.Answer != nil {
				answered++
			}
		}
		shed := f.hub.ClusterInfo().Engine.Shed
		require.NotZero(t, shed)
		require.EqualValues(t, orders, uint64(answered)+shed)
		gaps := strings.Fields(f.sink.stream(t)) // a beat of this hub may come between
		require.Equal(t, []string{"gap(engine,0)"}, slices.Compact(gaps))
	})
}

// TestTheFirstBeatSaysWhoItIs: it may be long until the next.
func TestTheFirstBeatSaysWhoItIs(t *testing.T) {
	run(t, Config{Node: "lisa", Beat: time.Hour}, nil, func(t *testing.T, f *fixture) {
		notes := f.engine.notes(t)
		require.NotEmpty(t, notes)
		require.Equal(t, "lisa", notes[0].Beat.Node)
	})
}

// TestALargeEventTakesNoOthersWithIt: events that fit by themselves are delivered though they do not fit together.
func TestALargeEventTakesNoOthersWithIt(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) { // the hub's total is 64 KiB
		large := `"` + strings.Repeat("x", 60<<10) + `"`
		for seq := range uint64(20) {
			f.event("h.e.>", "1", seq+1)
		}
		f.engine.handler.Receive("h.e.>", "h.e.t.1", fmt.Appendf(nil, `{"type":"t","id":"1","payload":%s,"via":"other.21"}`, large))
		f.event("h.e.>", "1", 22)
		synctest.Wait()
		words := strings.Fields(f.sink.stream(t))
		require.Len(t, words, 22)
		require.Equal(t, large, words[20])
		require.Zero(t, f.hub.ClusterInfo().Engine.Shed)
	})
}

// TestTheWallClockMayStep: for how long the engine has been there is measured with a clock that does not.
func TestTheWallClockMayStep(t *testing.T) {
	m, hub := startMember(t, Config{})
	for range 2 {
		require.Contains(t, hub.ClusterInfo().Engine.Since.String(), " m=")
		m.config.Engine.(*scriptEngine).handler.Up()
	}
}

// TestAHubThatStandsStillMissesNobody: what others said meanwhile is still to be read.
func TestAHubThatStandsStillMissesNobody(t *testing.T) {
	run(t, Config{Beat: time.Second}, nil, func(t *testing.T, f *fixture) {
		f.beat(beat{})
		time.Sleep(1500 * time.Millisecond)
		later := time.Now().Add(time.Minute)
		f.member.in.put(inMessage{kind: inTick, at: later}, 0)
		synctest.Wait()
		require.Equal(t, hubLive, f.member.whereabouts("other"))
		for i := range 4 {
			f.member.in.put(inMessage{kind: inTick, at: later.Add(time.Duration(i+1) * time.Second)}, 0)
		}
		synctest.Wait()
		require.Equal(t, hubLost, f.member.whereabouts("other"), "it has had its time")
		require.Equal(t, "gap(engine,0)", f.sink.stream(t))
	})
}

// TestHubsMayBeatAtDifferentRates: each is missed after three beats of its own.
func TestHubsMayBeatAtDifferentRates(t *testing.T) {
	run(t, Config{Beat: time.Second}, nil, func(t *testing.T, f *fixture) {
		for range 5 {
			f.beat(beat{EveryMillis: 10_000})
			time.Sleep(10 * time.Second)
		}
		require.Empty(t, f.sink.stream(t))
		time.Sleep(25 * time.Second)
		synctest.Wait()
		require.Equal(t, hubLost, f.member.whereabouts("other"))
		require.Equal(t, "gap(engine,0)", f.sink.stream(t))
		require.EqualValues(t, 1000, f.engine.notes(t)[0].Beat.EveryMillis, "it says how often it does so itself")
	})
}

// TestAHubThatLeavesAnswersNothingMore: who waits for it is told so at once.
func TestAHubThatLeavesAnswersNothingMore(t *testing.T) {
	run(t, Config{Timeout: time.Hour}, nil, func(t *testing.T, f *fixture) {
		f.beat(beat{})
		began := time.Now()
		time.AfterFunc(time.Second, func() { f.beatOf("other", beat{No: 2, Bye: true}) })
		require.ErrorIs(t, f.hub.Carry(t.Context(), "0000000000000000-other", fanout.Order{}), fanout.ErrUnanswered)
		require.Equal(t, time.Second, time.Since(began))
	})
}

// TestWhatHubsTellEachOtherIsNotForeign: a hub may see it that asks a server of others for everything.
func TestWhatHubsTellEachOtherIsNotForeign(t *testing.T) {
	run(t, Config{}, nil, func(t *testing.T, f *fixture) {
		yoga, err := RedisYoga("")
		require.NoError(t, err)
		f.member.config.Format = yoga
		f.engine.handler.Receive("*", yoga.Control("another"), []byte(`{"from":"other","order":{"no":1,"spoke":"0-another"}}`))
		synctest.Wait()
		require.Zero(t, f.hub.ClusterInfo().Engine.Foreign)
		f.engine.handler.Receive("*", "__keyspace@0__:x", []byte(`set`))
		synctest.Wait()
		require.EqualValues(t, 1, f.hub.ClusterInfo().Engine.Foreign)
	})
}

// TestHowManyAreMissingIsSaidOnlyIfItIsKnown: of many topics together it is not known for any spoke.
func TestHowManyAreMissingIsSaidOnlyIfItIsKnown(t *testing.T) {
	for subjects, want := range map[int]string{1: "gap(engine,1)", 2: "gap(engine,0)", maxShedSubjects + 1: "gap(engine,0)"} {
		run(t, Config{}, nil, func(t *testing.T, f *fixture) {
			full := incoming{newQueue[inMessage](1)}
			for i := range subjects {
				full.bounded(inMessage{kind: inEvent, subject: fmt.Sprint("h.e.t.", i)})
			}
			f.member.in.put(full.take(nil)[0], 0)
			synctest.Wait()
			require.Equal(t, want, f.sink.stream(t), "%d subjects", subjects)
			require.EqualValues(t, subjects, f.hub.ClusterInfo().Engine.Shed)
		})
	}
}

// TestTwoHubsWithOneIDAreFoundOut: they do not hear each other, and the log says why, once in a while.
func TestTwoHubsWithOneIDAreFoundOut(t *testing.T) {
	var log synced.Buffer
	run(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, nil, func(t *testing.T, f *fixture) {
		said := func() int { return strings.Count(log.String(), "another hub has the id of this one") }
		own := f.engine.notes(t)[0]
		f.beatOf("me", *own.Beat)
		synctest.Wait()
		require.Zero(t, said(), "its own, by a connection that has broken")
		for range 10 {
			f.beatOf("me", beat{No: 1000})
		}
		synctest.Wait()
		require.Equal(t, 1, said())
		time.Sleep(2 * twinEvery)
		f.beatOf("me", beat{No: 2000})
		synctest.Wait()
		require.Equal(t, 2, said())
	})
}
