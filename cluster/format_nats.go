package cluster

import (
	"fmt"
	"strings"

	"github.com/alkdev/hub/codec"
)

// NATSHub is the hub's own format over NATS: the event tick:42 is published under prefix.e.tick.42, so
// NATS itself selects prefix.e.tick.* and prefix.e.>. What cannot stand in a token of a subject is
// escaped, see token.
func NATSHub(prefix string) (Format, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	return natsHub{hubMessages{events: prefix + ".e.", control: prefix + ".c."}}, nil
}

// checkPrefix holds that a prefix is one or more tokens of a subject.
func checkPrefix(prefix string) error {
	for part := range strings.SplitSeq(prefix, ".") {
		if part == "" || token(part) != part {
			return fmt.Errorf("cluster: %.100q cannot begin a NATS subject: words of letters, digits, '-' and '_', joined by '.'", prefix)
		}
	}
	return nil
}

type natsHub struct{ hubMessages }

func (f natsHub) Subject(typ, id string) (string, bool) {
	return f.events + token(typ) + "." + token(id), true
}

func (f natsHub) Topic(subject string) (typ, id string, ok bool) {
	tokens, ours := strings.CutPrefix(subject, f.events)
	first, second, two := strings.Cut(tokens, ".")
	typ, typOK := untoken(first)
	id, idOK := untoken(second)
	return typ, id, ours && two && typOK && idOK && typ != ""
}

func (f natsHub) Subscriptions(p codec.Pattern) []Subject {
	if p == codec.Everything {
		return []Subject{{f.events + ">", true}}
	}
	if typ, ok := p.WholeType(); ok {
		return []Subject{{f.events + token(typ) + ".*", true}}
	}
	typ, id, _ := codec.SplitTopic(p.String())
	return []Subject{{f.events + token(typ) + "." + token(id), false}}
}

// token spells any string as one token of a NATS subject: letters, digits, '-' and '_' stand for
// themselves, every other byte is '=' and two hexadecimal digits, and nothing at all is '='.
func token(s string) string {
	if s == "" {
		return "="
	}
	special := 0
	for i := range len(s) {
		if !plainByte(s[i]) {
			special++
		}
	}
	if special == 0 {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+2*special)
	for i := range len(s) {
		if c := s[i]; plainByte(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

func plainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// untoken is the inverse of token. It reports whether t is what token returns for some string.
func untoken(t string) (s string, ok bool) {
	if t == "=" {
		return "", true
	}
	b := make([]byte, 0, len(t))
	for i := 0; i < len(t); i++ {
		c := t[i]
		switch {
		case plainByte(c):
		case c == '=' && i+2 < len(t):
			high, low := unhex(t[i+1]), unhex(t[i+2])
			if c = byte(high<<4 | low); high < 0 || low < 0 || plainByte(c) {
				return "", false
			}
			i += 2
		default:
			return "", false
		}
		b = append(b, c)
	}
	return string(b), len(b) > 0
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
