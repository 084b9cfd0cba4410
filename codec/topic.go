package codec

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// SplitTopic splits a topic at its first ':' into type and id. It reports whether there was one.
func SplitTopic(topic string) (typ, id string, ok bool) {
	return strings.Cut(topic, ":")
}

// Pattern selects topics. The zero Pattern selects nothing. Patterns are comparable: two that
// select the same topics are equal.
type Pattern struct {
	// text is canonical: "type:id", "type:*" or "*".
	text string
}

// Everything is the pattern "*".
var Everything = Pattern{"*"}

// ParsePattern reads "type:id" (one topic), "type:" or "type:*" (every id of the type) or "*"
// (everything). Types of the hub's own events cannot be subscribed to.
func ParsePattern(s string) (Pattern, error) {
	if s == "*" {
		return Everything, nil
	}
	typ, id, ok := SplitTopic(s)
	switch {
	case !ok:
		return Pattern{}, fmt.Errorf("codec: topic %.300q has no ':', it is type:id, type:* or *", s)
	case typ == "" || len(typ) > MaxTypeBytes:
		return Pattern{}, fmt.Errorf("codec: topic %.300q has a type of %d bytes, 1 to %d are allowed", s, len(typ), MaxTypeBytes)
	case len(id) > MaxIDBytes:
		return Pattern{}, fmt.Errorf("codec: topic %.300q has an id of %d bytes, at most %d are allowed", s, len(id), MaxIDBytes)
	case !utf8.ValidString(s):
		return Pattern{}, fmt.Errorf("codec: topic %.300q is not valid UTF-8", s)
	case strings.HasPrefix(typ, ReservedPrefix):
		return Pattern{}, fmt.Errorf("codec: topic %.300q names a type of the hub (%s...)", s, ReservedPrefix)
	case id == "":
		return Pattern{typ + ":*"}, nil
	}
	return Pattern{strings.Clone(s)}, nil
}

// MustParsePattern is ParsePattern for patterns that stand in the program; it panics on a mistake.
func MustParsePattern(s string) Pattern {
	p, err := ParsePattern(s)
	if err != nil {
		panic(err)
	}
	return p
}

// String returns the canonical text: "type:id", "type:*" or "*".
func (p Pattern) String() string { return p.text }

// Matches reports whether the pattern selects the topic of an event.
func (p Pattern) Matches(typ, id string) bool {
	if p == Everything {
		return true
	}
	ptyp, pid, ok := SplitTopic(p.text)
	return ok && ptyp == typ && (pid == "*" || pid == id)
}

// Covers reports whether everything that q selects is selected by p.
func (p Pattern) Covers(q Pattern) bool {
	if p == Everything || p == q || q == (Pattern{}) {
		return true
	}
	typ, ok := p.WholeType()
	qtyp, _, qok := SplitTopic(q.text)
	return ok && qok && typ == qtyp
}

// OfType returns the pattern that selects every id of p's type; for Everything that is Everything.
func (p Pattern) OfType() Pattern {
	typ, _, ok := SplitTopic(p.text)
	if !ok {
		return p
	}
	return Pattern{typ + ":*"}
}

// WholeType returns the type of a pattern "type:*", and reports whether it is one.
func (p Pattern) WholeType() (typ string, ok bool) {
	typ, id, _ := SplitTopic(p.text) // not the suffix ":*", which an id may have as well
	if id != "*" {
		return "", false
	}
	return typ, true
}

// TopicPattern returns the pattern that selects the topic of e alone, or, if the topic cannot be
// told from one (its id is empty or "*"), the pattern of the whole type.
func TopicPattern(e Envelope) Pattern {
	if e.ID == "" {
		return Pattern{e.Type + ":*"}
	}
	return Pattern{e.Topic()}
}
