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
}

func (w *wants) match(typ, id string) bool {
	for p := range w.patterns {
		if p.Matches(typ, id) {
			return true
		}
	}
	return w.everything
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
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		x := index{sets: make(map[string]*takers)}
		model := make(indexModel)
		var joined []*Spoke
		var loans []loan
		any := func() *Spoke { return joined[rng.IntN(len(joined))] }
		for step := range 200 {
			p := pattern(t, texts[rng.IntN(len(texts))])
			switch n := rng.IntN(20); {
			case n < 3 || len(joined) == 0:
				s := &Spoke{inAll: notIndexed}
				if model[s] = (&wants{everything: n > 0, patterns: make(map[codec.Pattern]bool)}); n > 0 {
					s.inAll = x.all.add(s)
				} else {
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
				x.subscribe(s, p)
				model[s].everything, model[s].patterns[p] = false, true
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
	for i := range MaxTopics {
		require.NoError(t, s.Subscribe(pattern(t, fmt.Sprint("a:", i))))
	}
	require.ErrorContains(t, s.Subscribe(pattern(t, "a:more"), pattern(t, "a:more"), pattern(t, "a:7")),
		"at most 1024 topics, these would make it 1025")
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
