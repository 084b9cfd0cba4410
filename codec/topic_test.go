package codec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplitTopicSplitsAtTheFirstColon(t *testing.T) {
	for _, c := range []struct {
		topic, typ, id string
		ok             bool
	}{
		{"tick:42", "tick", "42", true},
		{"tick:", "tick", "", true},
		{"tick:a:b", "tick", "a:b", true},
		{"tick::", "tick", ":", true},
		{":42", "", "42", true},
		{"tick", "tick", "", false},
		{"", "", "", false},
	} {
		typ, id, ok := SplitTopic(c.topic)
		require.Equal(t, c, struct {
			topic, typ, id string
			ok             bool
		}{c.topic, typ, id, ok})
	}
}

func TestParsePatternGivesOneTextPerSelection(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ in, text, wholeType string }{
		{"tick:42", "tick:42", ""},
		{"tick:", "tick:*", "tick"},
		{"tick:*", "tick:*", "tick"},
		{"*", "*", ""},
		{"*:*", "*:*", "*"}, // a type may be called *
		{"*:1", "*:1", ""},
		{"tick:a:b", "tick:a:b", ""},
		{"tick::", "tick::", ""},
		{"tick:a:*", "tick:a:*", ""}, // the one topic whose id is a:*
		{"tick:**", "tick:**", ""},
		{"tick:4*", "tick:4*", ""}, // no globs
		{"_t:1", "_t:1", ""},
		{"a__:1", "a__:1", ""},
		{" tick: 1", " tick: 1", ""}, // nothing is trimmed
		{"é:€", "é:€", ""},
		{long + ":" + long, long + ":" + long, ""},
		{long + ":", long + ":*", long},
	} {
		p, err := ParsePattern(c.in)
		require.NoError(t, err, "%.40s", c.in)
		require.Equal(t, c.text, p.String())
		typ, ok := p.WholeType()
		require.Equal(t, c.wholeType != "", ok, "%.40s", c.in)
		if ok {
			require.Equal(t, c.wholeType, typ)
		}
		again, err := ParsePattern(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	}
}

func TestParsePatternRefuses(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, c := range []struct{ in, message string }{
		{"", `codec: topic "" has no ':', it is type:id, type:* or *`},
		{"tick", `codec: topic "tick" has no ':', it is type:id, type:* or *`},
		{"**", `has no ':'`},
		{":42", `codec: topic ":42" has a type of 0 bytes, 1 to 256 are allowed`},
		{":", `has a type of 0 bytes`},
		{long + ":1", `has a type of 257 bytes, 1 to 256 are allowed`},
		{"tick:" + long, `has an id of 257 bytes, at most 256 are allowed`},
		{"tick:\xff", `codec: topic "tick:\xff" is not valid UTF-8`},
		{"\xed\xa0\x80:1", `is not valid UTF-8`},
		{"__gap:1", `codec: topic "__gap:1" names a type of the hub (__...)`},
		{"__:", `names a type of the hub`},
		{"__anything:*", `names a type of the hub`},
	} {
		p, err := ParsePattern(c.in)
		require.ErrorContains(t, err, c.message)
		require.Less(t, len(err.Error()), 1000)
		require.Zero(t, p)
	}
}

// selects is what the text of a pattern promises about the event typ, id.
func selects(text, typ, id string) bool {
	return text == "*" || text == typ+":" || text == typ+":*" || text == typ+":"+id
}

// The universe has an id and a type that no pattern names, so that patterns which differ at all
// differ on one of its topics.
var (
	universeTypes = []string{"a", "b", "*", "ab", "unnamed"}
	universeIDs   = []string{"", "1", "*", "b", "b:*", "b:1", ":", ":*", "unnamed"}
	universeTexts = []string{
		"*", "a:", "a:*", "a:1", "a:b", "a:b:*", "a:b:1", "a::", "a::*", "b:", "b:1", "b:*", "b:b:*",
		"*:", "*:1", "*:*", "*:b:*", "ab:", "ab:1",
	}
)

func universePatterns(t *testing.T) (patterns []Pattern) {
	for _, text := range universeTexts {
		p, err := ParsePattern(text)
		require.NoError(t, err)
		patterns = append(patterns, p)
	}
	return append(patterns, Pattern{})
}

// selection lists the topics of the universe that p matches.
func selection(p Pattern) map[string]bool {
	topics := map[string]bool{}
	for _, typ := range universeTypes {
		for _, id := range universeIDs {
			if p.Matches(typ, id) {
				topics[Envelope{Type: typ, ID: id}.Topic()] = true
			}
		}
	}
	return topics
}

func TestPatternMatchesWhatItsTextPromises(t *testing.T) {
	for _, text := range universeTexts {
		p, err := ParsePattern(text)
		require.NoError(t, err)
		for _, typ := range universeTypes {
			for _, id := range universeIDs {
				require.Equal(t, selects(text, typ, id), p.Matches(typ, id), "%s matches %s:%s", text, typ, id)
			}
		}
	}
}

func TestPatternCoversWhatSelectsNoMore(t *testing.T) {
	patterns := universePatterns(t)
	for _, p := range patterns {
		for _, q := range patterns {
			want := true
			all := selection(p)
			for topic := range selection(q) {
				want = want && all[topic]
			}
			require.Equal(t, want, p.Covers(q), "%q covers %q", p, q)
		}
	}
}

func TestPatternsAreEqualIfTheySelectTheSame(t *testing.T) {
	patterns := universePatterns(t)
	for _, p := range patterns {
		for _, q := range patterns {
			same := len(selection(p)) == len(selection(q)) && p.Covers(q)
			require.Equal(t, same, p == q, "%q and %q", p, q)
		}
	}
}

func TestZeroPatternSelectsNothing(t *testing.T) {
	require.Empty(t, selection(Pattern{}))
	require.False(t, Pattern{}.Matches("", "")) // no event has this topic, but the rule holds
	_, ok := Pattern{}.WholeType()
	require.False(t, ok)
}

func TestOfTypeIsTheLeastThatCoversTheType(t *testing.T) {
	for _, p := range universePatterns(t) {
		whole := p.OfType()
		require.True(t, whole.Covers(p), "%q", p)
		require.Equal(t, whole, whole.OfType(), "%q", p)
		typ, ok := whole.WholeType()
		require.Equal(t, p != Everything && p != Pattern{}, ok, "%q", p)
		for _, q := range universePatterns(t) {
			if qtyp, ok := q.WholeType(); ok {
				require.Equal(t, qtyp == typ || p == Everything, whole.Covers(q), "%q of %q", q, p)
			}
		}
	}
}

func TestTopicPatternSelectsItsEvent(t *testing.T) {
	for _, typ := range universeTypes {
		for _, id := range universeIDs {
			e := Envelope{Type: typ, ID: id}
			p := TopicPattern(e)
			require.True(t, p.Matches(typ, id), "%s", e.Topic())
			parsed, err := ParsePattern(e.Topic())
			require.NoError(t, err)
			require.Equal(t, parsed, p)
			if id != "" && id != "*" { // these have no pattern of their own
				require.Equal(t, map[string]bool{e.Topic(): true}, selection(p))
			}
		}
	}
}

func TestMatchesDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		return // the detector allocates; the tests run without it as well
	}
	p, err := ParsePattern("tick:42")
	require.NoError(t, err)
	q, err := ParsePattern("tick:*")
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !p.Matches("tick", "42") || !q.Matches("tick", "42") || !q.Covers(p) {
			t.Fatal("no match")
		}
	}))
}

func TestMustParsePatternPanicsOnAMistake(t *testing.T) {
	require.Equal(t, "tick:*", MustParsePattern("tick:").String())
	require.PanicsWithError(t, `codec: topic "tick" has no ':', it is type:id, type:* or *`, func() { MustParsePattern("tick") })
}
