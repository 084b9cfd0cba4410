package fanout

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

const testLag = 10 * time.Second

// after advances the clock, and lets the hub do what is then due.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestSpokeIsDisconnectedWhenItsOldestEventIsTooOld(t *testing.T) {
	for rule, stall := range map[string]func(testing.TB, *Hub) *scriptSink{
		"queued behind a ping": func(t testing.TB, h *Hub) *scriptSink {
			_, k := stall(t, h)
			return k
		},
		"queued behind an event": func(t testing.TB, h *Hub) *scriptSink {
			_, k := connect(t, h)
			h.Flush()
			k.block(10)
			send(t, h, "d9")
			return k
		},
	} {
		t.Run(rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{Limits: Limits{SpokeLag: testLag}})
				k := stall(t, h)
				after(3 * time.Second) // what is in flight has no age
				send(t, h, "d1")
				after(5 * time.Second)
				send(t, h, "d2")
				after(5*time.Second - 1)
				closed, _, _ := k.ending()
				require.False(t, closed)
				after(1)
				closed, code, reason := k.ending()
				require.True(t, closed)
				require.Equal(t, codec.CloseSlow, code)
				require.Equal(t, "slow: queued=200 age=10s", reason)
				s := h.Stats()
				require.EqualValues(t, 1, s.Disconnected[OverSpokeLag])
				require.EqualValues(t, 2, s.Dropped[OverSpokeLag])
			})
		})
	}
}

func TestEventsThatLeaveInTimeAreNotTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Limits: Limits{SpokeLag: testLag}})
		_, k := stall(t, h)
		for range 10 { // it always lags, but never by so much
			send(t, h, "d1")
			after(testLag - 1)
			k.give(102)
			synctest.Wait()
		}
		k.resume()
		after(testLag)
		closed, _, _ := k.ending()
		require.False(t, closed)
		require.Len(t, k.topics(t), 10)
	})
}

func TestAgeLimitUnderEachPolicy(t *testing.T) {
	type moment struct {
		at     time.Duration
		stream string
	}
	for _, test := range []struct {
		rule    string
		moments []moment
		until   time.Duration
		want    string
	}{
		{"drop-oldest loses what is too old, and only that",
			[]moment{{0, "o1"}, {4 * time.Second, "o2"}, {6 * time.Second, "o3"}}, 14 * time.Second,
			"gap 2 0 o3#1"},
		{"drop-oldest does not lose what is not yet too old",
			[]moment{{0, "o1"}, {4 * time.Second, "o2"}}, 14*time.Second - 1,
			"gap 1 0 o2#1"},
		{"drop-newest takes events until the oldest is too old",
			[]moment{{0, "n1"}, {testLag - 1, "n2"}, {testLag, "n3 n4"}, {2 * testLag, "n5"}}, 3 * testLag,
			"n1#1 n2#1 gap 3 0"},
		{"conflate merges once the oldest is too old",
			[]moment{{0, "c1"}, {1, "c1 c2"}, {2, "c2 c3"}}, testLag,
			"gap 0 1 c1#1 gap 0 1 c2#1 c3#2"},
		{"conflate does not merge before",
			[]moment{{0, "c1"}, {1, "c1"}}, testLag - 1,
			"c1#1 c1#1"},
		{"conflate looks again at what stays too old",
			[]moment{{0, "c1"}, {1, "c1"}, {testLag + 1, "c1 c1"}}, 2 * testLag,
			"gap 0 3 c1#2"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{PolicyFor: byLetter, Limits: Limits{SpokeLag: testLag}})
				_, k := stall(t, h)
				began := time.Now()
				for _, m := range test.moments {
					after(m.at - time.Since(began))
					send(t, h, m.stream)
				}
				after(test.until - time.Since(began))
				k.resume()
				synctest.Wait()
				require.Equal(t, test.want, arrived(t, k))
			})
		})
	}
}

func TestDisconnectIsNotLateBehindOtherPolicies(t *testing.T) {
	for _, older := range []string{"o1", "n1", "c1", "o1 n2 c3", "c1 c1 o2"} {
		t.Run(older, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{PolicyFor: byLetter, Limits: Limits{SpokeLag: testLag}})
				_, k := stall(t, h)
				send(t, h, older)
				after(3 * time.Second)
				send(t, h, "d1 c4 o5")
				after(testLag - 1)
				closed, _, _ := k.ending()
				require.False(t, closed)
				after(1)
				closed, code, _ := k.ending()
				require.True(t, closed)
				require.Equal(t, codec.CloseSlow, code)
			})
		})
	}
}

func TestManySpokesAreNotLookedAtAllTheTime(t *testing.T) {
	// The oldest event is for good too old, and every event is a reason to look at that.
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 1, Policy: DropNewest, Limits: Limits{SpokeLag: testLag}})
		stall(t, h)
		send(t, h, "n1")
		after(testLag)
		sh, last, sweeps := h.shards[0], int64(0), 0
		for range 2000 {
			send(t, h, "n2")
			after(time.Millisecond)
			sh.do(func() {
				if sh.rested != last {
					last = sh.rested
					sweeps++
				}
			})
		}
		require.LessOrEqual(t, sweeps, 21, "in 2 s, not more often than sweepPause")
	})
}

func TestTotalLimitShedsTheLargestQueueOfAllShards(t *testing.T) {
	for _, test := range []struct {
		policy Policy
		want   string
	}{
		{DropOldest, "gap 3 0 o1#4 o1#5 o1#6"},
		{DropNewest, "o1#1 o1#2 o1#3 gap 3 0"},
		{Conflate, "gap 0 5 o1#6"},
	} {
		t.Run(test.policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Config{Shards: 3, Policy: test.policy, Limits: Limits{TotalBytes: 10 * (100 + itemBytes)}})
				large, kl := stall(t, h)
				small, _ := stall(t, h)
				third, _ := stall(t, h)
				require.NotSame(t, large.shard, small.shard)
				for n, s := range []*Spoke{large, large, large, large, large, large, small, small, third, third} {
					_, err := s.Dispatch(sized(t, "o:1", n+1, 100))
					require.NoError(t, err)
				}
				synctest.Wait()
				require.EqualValues(t, 10*(100+itemBytes), h.Stats().HeldBytes)
				require.Zero(t, sum(h.Stats().Dropped))
				_, err := small.Dispatch(sized(t, "o:1", 1, 100)) // over the total, though it has little
				require.NoError(t, err)
				synctest.Wait()
				require.EqualValues(t, 3, small.Info().QueuedCount)
				require.EqualValues(t, 2, third.Info().QueuedCount)
				kl.resume()
				synctest.Wait()
				require.Equal(t, test.want, arrived(t, kl))
				s := h.Stats()
				require.Equal(t, sum(s.Dropped)+sum(s.Conflated), s.Dropped[OverTotalBytes]+s.Conflated[OverTotalBytes])
			})
		})
	}
}

func TestTotalLimitShedsNoMoreThanItMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 1, Policy: DropOldest, Limits: Limits{TotalBytes: 15 * (100 + itemBytes)}})
		var spokes []*Spoke
		for _, n := range []int{6, 5, 5} {
			s, _ := stall(t, h)
			spokes = append(spokes, s)
			for range n {
				_, err := s.Dispatch(sized(t, "o:1", 1, 100))
				require.NoError(t, err)
			}
		}
		synctest.Wait()
		for i, queued := range []uint64{3, 5, 5} {
			require.Equal(t, queued, spokes[i].Info().QueuedCount)
		}
	})
}

// A shard may come to see the lowered limit and the Flush behind it at once.
func TestFlushWaitsForWhatALoweredTotalSheds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 1, Policy: DropOldest})
		s, _ := stall(t, h)
		for range 8 {
			_, err := s.Dispatch(sized(t, "o:1", 1, 100))
			require.NoError(t, err)
		}
		busyc, laterc := make(chan struct{}), make(chan struct{})
		defer close(laterc)
		var held int64
		for _, fn := range []func(){
			func() { s.shard.do(func() { <-busyc }) }, // what is posted meanwhile is taken at once
			func() { s.shard.do(func() { h.SetTotalBytes(4 * (100 + itemBytes)) }) },
			func() { h.Flush(); held = h.Stats().HeldBytes },
			func() { s.shard.do(func() { <-laterc }) },
		} {
			go fn()
			synctest.Wait()
		}
		close(busyc)
		synctest.Wait()
		require.EqualValues(t, 4*(100+itemBytes), held)
	})
}

func TestTotalLimitClosesTheLargestUnderDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 2, Limits: Limits{TotalBytes: 5 * (100 + itemBytes)}})
		large, kl := stall(t, h)
		small, ks := stall(t, h)
		for _, s := range []*Spoke{small, small, large, large, large, small} {
			_, err := s.Dispatch(sized(t, "d:1", 1, 100))
			require.NoError(t, err)
			synctest.Wait()
		}
		closed, _, _ := ks.ending()
		closedLarge, code, reason := kl.ending()
		require.NotEqual(t, closed, closedLarge, "one of two with 300 bytes each")
		if closedLarge {
			require.Equal(t, codec.CloseSlow, code)
			require.Equal(t, "slow: queued=300 age=0s", reason)
		}
		require.EqualValues(t, 3*(100+itemBytes), h.Stats().HeldBytes)
		require.EqualValues(t, 1, h.Stats().Disconnected[OverTotalBytes])
	})
}

func TestTotalLimitCountsSharedFramesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 2, Limits: Limits{TotalBytes: 5 * (100 + itemBytes)}})
		for range 20 {
			stall(t, h)
		}
		send(t, h, "d1 d2 d3 d4 d5")
		synctest.Wait()
		s := h.Stats()
		require.EqualValues(t, 5*(100+itemBytes), s.HeldBytes)
		require.EqualValues(t, 20*500, s.QueuedBytes)
		require.Equal(t, 20, s.QueuedSpokes)
		require.Zero(t, sum(s.Dropped))
	})
}

func TestNobodyPaysForTheTotalBeforeTheLargest(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const total = 20000 + 120*itemBytes
				rng := rand.New(rand.NewPCG(seed, 2))
				h := newHub(t, Config{
					Shards: 1 + rng.IntN(4), Policy: DropOldest, Limits: Limits{SpokeBytes: 4000, TotalBytes: total},
				})
				spokes := make([]*Spoke, 30)
				before := make(map[string]SpokeInfo)
				for i := range spokes {
					spokes[i], _ = stall(t, h)
				}
				for range 300 {
					i := rng.IntN(len(spokes))
					i = rng.IntN(i + 1) // some get much more than others
					_, err := spokes[i].Dispatch(sized(t, "o:1", 1, 60+rng.IntN(200)))
					require.NoError(t, err)
					synctest.Wait()
					payers, others := int64(4000), int64(0)
					h.Inspect(func(now SpokeInfo) {
						then := before[now.ID]
						if now.ID == spokes[i].ID() {
							then.Queued += 260 // at most
						}
						if now.Dropped > then.Dropped {
							payers = min(payers, then.Queued)
						} else {
							others = max(others, now.Queued)
						}
						before[now.ID] = now
					})
					require.LessOrEqual(t, others, payers, "who kept all had more queued than one who did not")
					require.LessOrEqual(t, h.Stats().HeldBytes, int64(total))
				}
				require.NotZero(t, h.Stats().Dropped[OverTotalBytes])
			})
		})
	}
}
