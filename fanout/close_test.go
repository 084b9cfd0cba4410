package fanout

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestCloseIsBehindWhatWasDispatchedBefore(t *testing.T) {
	for _, stalled := range []bool{false, true} {
		t.Run(fmt.Sprint("stalled=", stalled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{Shards: 1})
				s, k := connect(t, h)
				other, ko := connect(t, h)
				h.Flush()
				if stalled {
					k.block(50)
				}
				release := holdShards(t, h) // all this is taken at once
				for i := range 100 {
					dispatch(t, h, event("a", fmt.Sprint(i), 2))
				}
				_, err := s.Dispatch(event("last", "", 2))
				require.NoError(t, err)
				s.Close(codec.CloseNormal, "bye")
				s.Close(codec.CloseInternal, "again") // does nothing
				require.Equal(t, 2, dispatch(t, h, event("late", "", 2)))
				release()
				synctest.Wait()
				closed, _, _ := k.ending()
				require.Equal(t, stalled, !closed)
				after(DefaultCloseTimeout - 1)
				k.resume()
				synctest.Wait()
				topics := k.topics(t)
				require.Len(t, topics, 101)
				require.Equal(t, "last:", topics[100])
				_, body := k.events(t)
				require.Equal(t, "\x03\xe8bye", string(body))
				require.Len(t, ko.topics(t), 101)
				other.Fail(codec.CloseNormal, "")
				synctest.Wait()
				require.Zero(t, h.Stats().QueuedSpokes)
			})
		})
	}
}

func TestCloseTimeoutEndsAStalledSpoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{CloseTimeout: 3 * time.Second, Limits: Limits{SpokeLag: time.Hour}})
		s, k := stall(t, h)
		send(t, h, "a1 a2")
		s.Close(codec.CloseNormal, "bye")
		after(3*time.Second - 1)
		closed, _, _ := k.ending()
		require.False(t, closed)
		after(1)
		closed, code, reason := k.ending()
		require.True(t, closed)
		require.Equal(t, codec.CloseNormal, code)
		require.Equal(t, "bye", reason)
		require.EqualValues(t, 2, h.Stats().Dropped[Closed])
		k.resume()
		require.Equal(t, []string{"__welcome:", "ping ", "close 1000"}, wire(t, k))
	})
}

func TestManyCloseTimeoutsAreMetWhateverTheLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 1, Limits: Limits{SpokeLag: 10 * time.Hour}})
		var sinks []*scriptSink
		for range 20 {
			s, k := stall(t, h)
			s.Close(codec.CloseNormal, "")
			sinks = append(sinks, k)
			after(time.Second / 5)
		}
		began := time.Now()
		for i, k := range sinks {
			due := began.Add(DefaultCloseTimeout - time.Duration(20-i)*time.Second/5 + sweepPause)
			after(time.Until(due))
			closed, _, _ := k.ending()
			require.True(t, closed, i)
		}
	})
}

func TestFailGivesUpTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, k := stall(t, h)
		send(t, h, "a1 a2")
		s.Close(codec.CloseNormal, "") // an orderly end is under way
		s.Fail(codec.CloseProtocolError, "nonsense")
		h.Flush()
		closed, code, reason := k.ending()
		require.True(t, closed)
		require.Equal(t, codec.CloseProtocolError, code)
		require.Equal(t, "nonsense", reason)
		require.EqualValues(t, 2, h.Stats().Dropped[Closed])
		s.Fail(codec.CloseNormal, "")
		s.Detach(Cause{})
		send(t, h, "a3")
		k.resume()
		h.Flush()
		require.Equal(t, []string{"__welcome:", "ping ", "close 1002"}, wire(t, k))
	})
}

func TestSpokeWhoseConnectionFailsIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		a, ka := connect(t, h)
		b, kb := stall(t, h)
		_, kc := connect(t, h)
		send(t, h, "a1 a2")
		ka.broken, kb.broken = true, true
		send(t, h, "a3")
		kb.resume()
		synctest.Wait()
		send(t, h, "a4")
		require.Equal(t, []string{"a:1", "a:2"}, ka.topics(t))
		require.Equal(t, []string{"a:1", "a:2", "a:3", "a:4"}, kc.topics(t))
		for _, s := range []*Spoke{a, b} {
			i := s.Info()
			require.Equal(t, i.Offered, i.Delivered+i.Dropped)
			s.Close(codec.CloseNormal, "")
			s.Fail(codec.CloseNormal, "")
		}
		h.Flush()
		closed, _, _ := ka.ending()
		require.False(t, closed, "its owner knows already")
		require.Zero(t, h.Stats().HeldBytes)
	})
}

func TestHubCloseIsOrderly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		h := newHub(t, Config{Shards: 3, OnDisconnection: func(_ *Spoke, c Cause) { d.note("%s", c.Kind) }})
		var sinks []*scriptSink
		var spokes []*Spoke
		for range 10 {
			s, k := connect(t, h)
			spokes, sinks = append(spokes, s), append(sinks, k)
		}
		leaving, kl := stall(t, h)
		leaving.Close(codec.CloseNormal, "on its way")
		_, ks := stall(t, h)
		var want []string
		for i := range 50 {
			dispatch(t, h, event("a", fmt.Sprint(i), 2))
			want = append(want, fmt.Sprint("a:", i))
		}
		var closing sync.WaitGroup
		for range 3 {
			closing.Go(h.Close)
		}
		closing.Wait()
		synctest.Wait()
		for _, k := range sinks {
			require.Equal(t, want, k.topics(t))
			_, body := k.events(t)
			require.Equal(t, "\x03\xe9the hub is closed", string(body))
		}
		closed, code, reason := kl.ending()
		require.True(t, closed)
		require.Equal(t, codec.CloseNormal, code)
		require.Equal(t, "on its way", reason)
		closed, code, _ = ks.ending()
		require.True(t, closed, "whoever does not take what is queued loses it")
		require.Equal(t, codec.CloseGoingAway, code)

		for _, s := range spokes {
			s.Detach(CauseOf(LocalSide, codec.CloseGoingAway, ""))
		}
		require.Len(t, d.read(), 10)
		require.Equal(t, "drain", d.read()[0])
		require.Zero(t, h.Stats().HeldBytes+h.Stats().QueuedBytes+h.Stats().PendingBytes)
	})
}

func TestAClosedHubDoesNothing(t *testing.T) {
	h := newHub(t, Config{})
	s, k := connect(t, h)
	tap := h.Tap()
	h.Close()
	h.Close()
	_, err := h.Dispatch(event("a", "1", 2))
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.Dispatch(event("a", "1", 2))
	require.ErrorIs(t, err, ErrClosed)
	_, err = tap.Next(t.Context())
	require.ErrorIs(t, err, ErrClosed)
	_, err = h.Tap().Next(t.Context())
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, h.NewSpoke(&scriptSink{}).Attach(), ErrClosed)
	h.Flush()
	s.Info()
	h.Inspect(func(SpokeInfo) {})
	for range 100 { // the connection is still there for a while
		s.Receive([]byte("nonsense"))
		s.Control(codec.NewControlFrame(codec.Pong, nil))
		s.Written()
	}
	require.Empty(t, s.shard.inbox)
	require.Empty(t, s.shard.drained)
	writes := k.writes
	s.Detach(Cause{})
	require.Equal(t, writes, k.writes)
	require.Zero(t, h.Stats().Spokes)
}

func TestDetachWithoutAttachTakesNobodyElseAway(t *testing.T) {
	var d diary
	h := newHub(t, Config{Shards: 1, OnDisconnection: func(s *Spoke, _ Cause) { d.note("%s", s.ID()) }})
	h.NewSpoke(&scriptSink{}).Detach(Cause{})
	s, _ := connect(t, h)
	h.NewSpoke(&scriptSink{}).Detach(Cause{}) // as after an Attach that was refused
	require.Same(t, s, h.Spoke(s.ID()))
	require.Equal(t, 1, dispatch(t, h, event("a", "1", 2)))
	require.Empty(t, d.read())
	require.Empty(t, h.Stats().Closed)
}

func TestSpokesThatComeWhileTheHubClosesAreClosedOrRefused(t *testing.T) {
	for range 50 {
		h, err := New(Config{Shards: 4})
		require.NoError(t, err)
		sinks := make([]*scriptSink, 40)
		refused := make([]bool, len(sinks))
		var attaching sync.WaitGroup
		for i := range sinks {
			attaching.Go(func() {
				k := &scriptSink{}
				k.spoke = h.NewSpoke(k)
				refused[i] = k.spoke.Attach() != nil
				sinks[i] = k
			})
		}
		h.Close()
		attaching.Wait()
		for i, k := range sinks {
			closed, _, _ := k.ending()
			require.Equal(t, !refused[i], closed)
			require.Equal(t, !refused[i], len(k.topics(t)) == 0 && len(wire(t, k)) == 2, "__welcome and the close frame")
		}
	}
}
