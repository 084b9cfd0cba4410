package fanout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func pattern(t testing.TB, text string) codec.Pattern {
	t.Helper()
	p, err := codec.ParsePattern(text)
	require.NoError(t, err)
	return p
}

// indexModel says who wants what by looking at every pattern of everyone.
type indexModel map[*Spoke]*wants

type wants struct {
	everything bool // has never subscribed
	patterns   map[codec.Pattern]bool
	claims     []codec.Pattern // what it may have; nil for everything
}

func (w *wants) match(typ, id string) bool {
	for p := range w.patterns {
		if p.Matches(typ, id) {
			return w.may(typ, id)
		}
	}
	return w.everything && w.may(typ, id)
}

// may reports whether the claims let it have the topic.
func (w *wants) may(typ, id string) bool {
	matches := func(p codec.Pattern) bool { return p.Matches(typ, id) }
	return w.claims == nil || slices.ContainsFunc(w.claims, matches)
}

// mayAll reports whether it may have everything that p selects, as far as the topics given go.
func (w *wants) mayAll(p codec.Pattern, topics [][2]string) bool {
	for _, topic := range topics {
		if p.Matches(topic[0], topic[1]) && !w.may(topic[0], topic[1]) {
			return false
		}
	}
	return true
}

func (m indexModel) takers(typ, id string) (spokes []*Spoke) {
	for s, w := range m {
		if w.match(typ, id) {
			spokes = append(spokes, s)
		}
	}
	return spokes
}

// loan is a slice that was lent, and what was in it then.
type loan struct {
	spokes, then []*Spoke
}

func TestIndexAgreesWithALookAtEveryPattern(t *testing.T) {
	types := []string{"a", "a*"}
	ids := []string{"", "1", "*", "x:1", "x:*"}
	texts := []string{"*", "c:1"}
	for _, typ := range types {
		for _, id := range ids {
			texts = append(texts, typ+":"+id)
		}
	}
	var topics [][2]string
	for _, typ := range append(types, "c", "d") {
		for _, id := range append(ids, "no pattern has this one") {
			topics = append(topics, [2]string{typ, id})
		}
	}
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		x := index{sets: make(map[string]*takers)}
		model := make(indexModel)
		var joined []*Spoke
		var loans []loan
		any := func() *Spoke { return joined[rng.IntN(len(joined))] }
		claims := func() []codec.Pattern {
			some := []codec.Pattern{}
			for range rng.IntN(6) {
				some = append(some, pattern(t, texts[1+rng.IntN(len(texts)-1)]))
			}
			if rng.IntN(8) == 0 {
				some = append(some, codec.Everything)
			}
			return some
		}
		for step := range 200 {
			p := pattern(t, texts[rng.IntN(len(texts))])
			switch n := rng.IntN(22); {
			case n < 3 || len(joined) == 0:
				s := &Spoke{inAll: notIndexed}
				w := &wants{everything: n > 0, patterns: make(map[codec.Pattern]bool)}
				if model[s] = w; rng.IntN(2) == 0 {
					w.claims = claims()
					s.Restrict(Claims{Topics: w.claims})
				}
				switch {
				case w.everything && s.claimed:
					x.imply(s)
				case w.everything:
					s.inAll = x.all.add(s)
				case !s.claimed:
					s.subs = &subscriptions{} // as Config.Explicit has it
				}
				joined = append(joined, s)
			case n < 4:
				s := any()
				x.removeAll(s)
				delete(model, s)
				joined = slices.DeleteFunc(joined, func(other *Spoke) bool { return other == s })
			case n < 13:
				s := any()
				if may := model[s].mayAll(p, topics); s.claimed {
					require.Equal(t, may, covers(s.subs.claims.Topics, p), "%s of %v", p, model[s].claims)
					if !may {
						break
					}
				}
				x.subscribe(s, p)
				model[s].everything, model[s].patterns[p] = false, true
			case n < 15:
				if s := any(); s.claimed {
					w := model[s]
					w.claims = claims()
					var gone []codec.Pattern
					for p := range w.patterns {
						if !w.mayAll(p, topics) {
							gone = append(gone, p)
							delete(w.patterns, p)
						}
					}
					require.ElementsMatch(t, gone, x.restrict(s, &Claims{Topics: normal(w.claims)}))
				}
			default:
				s := any()
				x.unsubscribe(s, p)
				model[s].everything = model[s].everything && p != codec.Everything
				delete(model[s].patterns, p)
			}
			for _, typ := range append(types, "c", "d") {
				for _, id := range ids {
					lent := checkTakers(t, &x, model, typ, id, rng.IntN(30) == 0)
					loans = append(loans, lent...)
					require.False(t, t.Failed(), "seed %d step %d", seed, step)
				}
			}
			for pattern, set := range x.sets {
				require.NotEmpty(t, set.spokes, pattern)
			}
			loans = loans[max(0, len(loans)-50):]
			for _, l := range loans {
				if !slices.Equal(l.then, l.spokes) {
					require.Fail(t, "a lent slice has changed", "seed %d step %d", seed, step)
				}
			}
		}
		for _, s := range joined {
			x.removeAll(s)
		}
		require.Empty(t, x.sets)
		require.Empty(t, x.all.spokes)
	}
}

// checkTakers compares the takers of a topic. It returns the slices that it was lent, if it borrows.
func checkTakers(t *testing.T, x *index, model indexModel, typ, id string, borrow bool) (loans []loan) {
	e := codec.Envelope{Type: typ, ID: id}
	got := make(map[*Spoke]bool)
	x.lookup(e.Topic(), typ, func(set *takers) {
		for _, s := range set.spokes {
			if got[s] {
				t.Errorf("somebody is there twice for %s", e.Topic())
			}
			got[s] = true
		}
		if borrow {
			lent := set.lend()
			loans = append(loans, loan{lent, slices.Clone(lent)})
		}
	})
	want := model.takers(typ, id)
	for _, s := range want {
		if !got[s] || !s.wantsLocked(typ, id) {
			t.Errorf("somebody is missing for %s", e.Topic())
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d take %s, not %d", len(got), e.Topic(), len(want))
	}
	return loans
}

// A map keeps the room for what it once held.
func TestAFloodOfTopicsLeavesNoRoomBehind(t *testing.T) {
	h := newHub(t, Config{Shards: 1, MaxTopics: 3000})
	connect(t, h, "stays:1")
	s, _ := connect(t, h)
	var flood []codec.Pattern
	for i := range 3000 {
		flood = append(flood, pattern(t, fmt.Sprint("flood:", i)))
	}
	x := &s.shard.index
	require.NoError(t, s.Subscribe(flood...))
	require.Equal(t, 3001, x.most)
	s.Unsubscribe(flood[:2950]...)
	require.LessOrEqual(t, x.most, 3001/32, "another map has taken its place")
	require.Len(t, x.sets, 51)
	require.Equal(t, 1, dispatch(t, h, event("flood", "2999", 2)))
	require.Equal(t, 0, dispatch(t, h, event("flood", "1", 2)))
	require.Equal(t, 1, dispatch(t, h, event("stays", "1", 2)))
}

func TestSubscriptionReplacesEverything(t *testing.T) {
	h := newHub(t, Config{})
	s, _ := connect(t, h)
	patterns, everything := s.Topics()
	require.Empty(t, patterns)
	require.True(t, everything)
	require.Equal(t, 1, dispatch(t, h, event("a", "1", 2)))

	require.NoError(t, s.Subscribe(pattern(t, "b:2"), pattern(t, "a:"), pattern(t, "b:2")))
	patterns, everything = s.Topics()
	require.Equal(t, []codec.Pattern{pattern(t, "a:*"), pattern(t, "b:2")}, patterns, "in the order of their text")
	require.False(t, everything)
	require.Equal(t, 1, dispatch(t, h, event("a", "1", 2)))
	require.Equal(t, 1, dispatch(t, h, event("b", "2", 2)))
	require.Zero(t, dispatch(t, h, event("b", "1", 2)))

	s.Unsubscribe(pattern(t, "b:2"), pattern(t, "a:*"), pattern(t, "never:*"))
	require.Zero(t, dispatch(t, h, event("a", "1", 2)), "without a subscription left there is nothing")
}

func TestExplicitSpokesBeginWithNothing(t *testing.T) {
	h := newHub(t, Config{Explicit: true})
	s, _ := connect(t, h)
	_, everything := s.Topics()
	require.False(t, everything)
	require.Zero(t, dispatch(t, h, event("a", "1", 2)))
	require.NoError(t, s.Subscribe(codec.Everything))
	require.Equal(t, 1, dispatch(t, h, event("a", "1", 2)))
}

func TestSpokesHaveSoManyTopics(t *testing.T) {
	h := newHub(t, Config{})
	s, _ := connect(t, h)
	for i := range DefaultMaxTopics {
		require.NoError(t, s.Subscribe(pattern(t, fmt.Sprint("a:", i))))
	}
	require.ErrorContains(t, s.Subscribe(pattern(t, "a:more"), pattern(t, "a:more"), pattern(t, "a:7")),
		"at most 1024, these would make it 1025")
	require.NoError(t, s.Subscribe(pattern(t, "a:7"), pattern(t, "a:7")), "one that it has")
	require.Error(t, s.Subscribe(codec.Everything))
	s.Unsubscribe(pattern(t, "a:7"))
	require.NoError(t, s.Subscribe(codec.Everything))
	require.Equal(t, 1, dispatch(t, h, event("a", "7", 2)))
}

func TestDetachedSpokesAreInNoSet(t *testing.T) {
	h := newHub(t, Config{Shards: 1})
	s, _ := connect(t, h, "a:1", "b:*")
	s.Detach(Cause{})
	require.NoError(t, s.Subscribe(pattern(t, "c:1")))
	s.Unsubscribe(pattern(t, "a:1"))
	require.Empty(t, h.shards[0].index.sets)
	patterns, everything := s.Topics()
	require.Empty(t, patterns)
	require.False(t, everything)
}

func TestMatchedDoesNotCountTheExcepted(t *testing.T) {
	h := newHub(t, Config{Shards: 2})
	a, _ := connect(t, h, "a:*")
	b, _ := connect(t, h)
	_, _ = connect(t, h, "b:1")
	for _, test := range []struct {
		typ    string
		except *Spoke
		want   int
	}{{"a", a, 1}, {"a", b, 1}, {"a", nil, 2}, {"b", a, 2}, {"b", b, 1}, {"c", b, 0}, {"c", a, 1}} {
		r, err := h.DispatchExcept(test.except, event(test.typ, "1", 2))
		require.NoError(t, err)
		require.Equal(t, test.want, r.Matched, "%+v", test)
	}
	a.Detach(Cause{})
	r, err := h.DispatchExcept(a, event("a", "1", 2))
	require.NoError(t, err)
	require.Equal(t, 1, r.Matched)
}
