package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func pattern(t *testing.T, text string) codec.Pattern {
	t.Helper()
	p, err := codec.ParsePattern(text)
	require.NoError(t, err)
	return p
}

func testInterest(t *testing.T) (*interest, func(d time.Duration) (add, remove []string, again time.Duration)) {
	format, err := NATSHub("h")
	require.NoError(t, err)
	i := newInterest(format, time.Second)
	began := time.Unix(0, 0)
	return i, func(d time.Duration) (add, remove []string, again time.Duration) {
		adds, removes, at := i.step(began.Add(d))
		for _, s := range adds {
			add = append(add, s.Name)
		}
		for _, s := range removes {
			remove = append(remove, s.Name)
		}
		slices.Sort(add)
		slices.Sort(remove)
		if !at.IsZero() {
			again = at.Sub(began)
		}
		return add, remove, again
	}
}

func TestTheFirstTakerAsksAndTheLastLingers(t *testing.T) {
	i, step := testInterest(t)
	p := pattern(t, "tick:42")
	i.want(p, 1)
	i.want(p, 1)
	add, remove, again := step(0)
	require.Equal(t, []string{"h.e.tick.42"}, add)
	require.Empty(t, remove)
	require.Zero(t, again)
	i.want(p, -1)
	add, remove, again = step(0)
	require.Empty(t, slices.Concat(add, remove))
	require.Zero(t, again, "another shard wants it")
	i.want(p, -1)
	add, remove, again = step(0)
	require.Empty(t, slices.Concat(add, remove))
	require.Equal(t, time.Second, again)
	i.want(p, 1) // it flaps
	_, remove, again = step(time.Second)
	require.Empty(t, remove)
	require.Zero(t, again)
	i.want(p, -1)
	_, _, again = step(2 * time.Second)
	require.Equal(t, 3*time.Second, again)
	_, remove, _ = step(3*time.Second - 1)
	require.Empty(t, remove)
	_, remove, again = step(3 * time.Second)
	require.Equal(t, []string{"h.e.tick.42"}, remove)
	require.Zero(t, again)
	require.Empty(t, i.held)
	require.Empty(t, i.counts)
}

func TestWhatAWiderPatternCoversIsNotAskedForBeside(t *testing.T) {
	i, step := testInterest(t)
	i.want(pattern(t, "tick:1"), 1)
	i.want(pattern(t, "order:1"), 1)
	add, _, _ := step(0)
	require.Equal(t, []string{"h.e.order.1", "h.e.tick.1"}, add)
	i.want(pattern(t, "tick:*"), 1)
	add, remove, _ := step(0)
	require.Equal(t, []string{"h.e.tick.*"}, add)
	require.Equal(t, []string{"h.e.tick.1"}, remove)
	i.want(codec.Everything, 1)
	add, remove, _ = step(0)
	require.Equal(t, []string{"h.e.>"}, add)
	require.Equal(t, []string{"h.e.order.1", "h.e.tick.*"}, remove)
	i.want(pattern(t, "tick:2"), 1)
	add, remove, _ = step(0)
	require.Empty(t, slices.Concat(add, remove))
	i.want(codec.Everything, -1)
	step(0)
	add, remove, _ = step(time.Second)
	require.Equal(t, []string{"h.e.order.1", "h.e.tick.*"}, add)
	require.Equal(t, []string{"h.e.>"}, remove)
	i.want(pattern(t, "tick:*"), -1)
	step(time.Second)
	add, remove, _ = step(2 * time.Second)
	require.Equal(t, []string{"h.e.tick.1", "h.e.tick.2"}, add)
	require.Equal(t, []string{"h.e.tick.*"}, remove)
}

// TestInterestAgreesWithItsModel: at any time what is asked for covers all that is wanted, no part of it covers
// another, and once everything has lingered it is what is wanted and no more.
func TestInterestAgreesWithItsModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	i, step := testInterest(t)
	var patterns []codec.Pattern
	for _, text := range []string{"*", "a:*", "b:*", "a:1", "a:2", "b:1", "b:2", "c:1"} {
		patterns = append(patterns, pattern(t, text))
	}
	counts := make(map[codec.Pattern]int)
	asked := make(map[string]bool)
	now := time.Duration(0)
	apply := func() {
		add, remove, _ := step(now)
		for _, s := range add {
			require.False(t, asked[s], "%s is asked for twice", s)
			asked[s] = true
		}
		for _, s := range remove {
			require.True(t, asked[s], "%s is given up and was not asked for", s)
			delete(asked, s)
		}
	}
	minimal := func(held func(codec.Pattern) bool) map[string]bool {
		want := make(map[string]bool)
		for _, p := range patterns {
			covered := slices.ContainsFunc(patterns, func(w codec.Pattern) bool { return w != p && w.Covers(p) && held(w) })
			if held(p) && !covered {
				for _, s := range i.format.Subscriptions(p) {
					want[s.Name] = true
				}
			}
		}
		return want
	}
	for range 3000 {
		for range random.IntN(4) {
			p := patterns[random.IntN(len(patterns))]
			n := 1
			if counts[p] > 0 && random.IntN(2) == 0 {
				n = -1
			}
			counts[p] += n
			i.want(p, n)
		}
		now += time.Duration(random.IntN(700)) * time.Millisecond
		apply()
		require.Equal(t, minimal(func(p codec.Pattern) bool { _, ok := i.held[p]; return ok }), asked)
		for _, p := range patterns {
			if counts[p] > 0 {
				require.Contains(t, i.held, p)
			}
		}
		if random.IntN(20) == 0 {
			now += time.Second
			apply()
			require.Equal(t, minimal(func(p codec.Pattern) bool { return counts[p] > 0 }), asked, fmt.Sprint(counts))
		}
	}
}

func TestWhatIsGivenUpIsReceivedForAWhile(t *testing.T) {
	now := time.Unix(100, 0)
	wide, narrow := Subject{Name: "h.e.>", Glob: true}, Subject{Name: "h.e.tick.42"}
	f := farewell{wide.Name: {wide, now.Add(settle)}, narrow.Name: {narrow, now.Add(2 * settle)}}
	gone, again := f.due(now)
	require.Empty(t, gone)
	require.Equal(t, now.Add(settle), again)
	require.Empty(t, f.stay([]Subject{narrow}), "it has not been given up")
	gone, again = f.due(now.Add(settle))
	require.Equal(t, []Subject{wide}, gone)
	require.Zero(t, again)
	require.Equal(t, []Subject{wide, narrow}, f.stay([]Subject{wide, narrow}), "nothing is left")
}
