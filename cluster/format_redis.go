package cluster

import (
	"errors"
	"strings"

	"github.com/alkdev/hub/codec"
)

// Redis channels are any bytes, so topics stand in them as they are. What would be a wildcard in a pattern
// of channels is escaped there.

// RedisHub is the hub's own format over Redis: the event tick:42 is published to prefix:e:tick:42.
func RedisHub(prefix string) (Format, error) {
	if prefix == "" {
		return nil, errors.New("cluster: the prefix of Redis channels is empty")
	}
	return redisHub{hubMessages{events: prefix + ":e:", control: prefix + ":c:"}}, nil
}

type redisHub struct{ hubMessages }

func (f redisHub) Subject(typ, id string) (string, bool) { return f.events + typ + ":" + id, true }

func (f redisHub) Topic(subject string) (typ, id string, ok bool) {
	topic, ours := strings.CutPrefix(subject, f.events)
	typ, id, ok = codec.SplitTopic(topic)
	return typ, id, ok && ours && typ != ""
}

func (f redisHub) Subscriptions(p codec.Pattern) []Subject {
	if p == codec.Everything {
		return []Subject{startingWith(f.events)}
	}
	if typ, ok := p.WholeType(); ok {
		return []Subject{startingWith(f.events + typ + ":")}
	}
	return []Subject{{Name: f.events + p.String()}}
}

// RedisYoga is the format of GraphQL gateways over Redis, of the npm package @graphql-yoga/redis-event-target with an
// empty prefix: the event tick:42 is published to the channel tick:42, one of type tick without an id to tick, and the
// message is its payload alone. With a prefix the channel is prefix:tick:42.
func RedisYoga(prefix string) (Format, error) {
	if prefix != "" {
		prefix += ":"
	}
	return redisYoga{yogaMessages{prefix}}, nil
}

type redisYoga struct{ yogaMessages }

func (f redisYoga) Subject(typ, id string) (string, bool) {
	return f.prefix + yogaTopic(typ, id), true
}

func (f redisYoga) Widen(p codec.Pattern) codec.Pattern { return p }

func (f redisYoga) Subscriptions(p codec.Pattern) []Subject {
	if p == codec.Everything {
		return []Subject{startingWith(f.prefix)}
	}
	if typ, ok := p.WholeType(); ok {
		return []Subject{{Name: f.prefix + typ}, startingWith(f.prefix + typ + ":")}
	}
	return []Subject{{Name: f.prefix + p.String()}}
}

// startingWith selects the channels that begin so.
func startingWith(prefix string) Subject {
	return Subject{Name: escapeGlob.Replace(prefix) + "*", Glob: true}
}

// prefixOf is the inverse of startingWith.
func prefixOf(glob string) string {
	glob = strings.TrimSuffix(glob, "*")
	if !strings.Contains(glob, `\`) {
		return glob
	}
	b := make([]byte, 0, len(glob))
	for i := 0; i < len(glob); i++ {
		if glob[i] == '\\' {
			i++
		}
		b = append(b, glob[i])
	}
	return string(b)
}

var escapeGlob = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
