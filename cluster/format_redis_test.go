package cluster

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestRedisChannelsAreTopics(t *testing.T) {
	hub, err := RedisHub("live")
	require.NoError(t, err)
	yoga, err := RedisYoga("")
	require.NoError(t, err)
	gate, err := RedisYoga("gate")
	require.NoError(t, err)
	for _, c := range []struct {
		f             Format
		typ, id, want string
	}{
		{hub, "tick", "42", "live:e:tick:42"},
		{hub, "tick", "", "live:e:tick:"},
		{hub, "a*", "b:c\x00", "live:e:a*:b:c\x00"},
		{yoga, "tick", "42", "tick:42"},
		{yoga, "tick", "", "tick"},
		{gate, "tick", "42", "gate:tick:42"},
		{gate, "tick", "", "gate:tick"},
	} {
		channel, ok := c.f.Subject(c.typ, c.id)
		require.True(t, ok)
		require.Equal(t, c.want, channel)
		typ, id, ok := c.f.Topic(channel)
		require.True(t, ok)
		require.Equal(t, [2]string{c.typ, c.id}, [2]string{typ, id})
	}
	for f, channels := range map[Format][]string{
		hub: {"", "tick:42", "live:c:hubs", "live:e:", "live:e:tick", "live:e::1"}, yoga: {"", ":1", "__hub:hubs"}, gate: {"tick:1", "gate:", "gate", "gate::1", "gate:__hub:hubs"},
	} {
		for _, channel := range channels {
			_, _, ok := f.Topic(channel)
			require.False(t, ok, channel)
		}
	}
	_, err = RedisHub("")
	require.Error(t, err)
}

func TestAnEmptyMessageOfAGatewayIsNull(t *testing.T) {
	yoga, err := RedisYoga("")
	require.NoError(t, err)
	e, stamp, err := yoga.Event("tick:42", nil)
	require.NoError(t, err)
	require.Zero(t, stamp)
	frame, err := codec.NewFrame(e, codec.Text)
	require.NoError(t, err)
	require.Equal(t, `{"type":"tick","id":"42","payload":null}`, string(frame.Message()))
	require.Equal(t, "null", string(yoga.Append(nil, frame.Message(), Stamp{"x", 1})))
}

// redisGlob is how Redis compares a channel with a pattern (stringmatchlen in its util.c), without sets, of
// which a pattern of ours has none.
func redisGlob(pattern, s string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			for i := 0; i <= len(s); i++ {
				if redisGlob(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case '[':
			panic("a set")
		case '?':
			if s == "" {
				return false
			}
		case '\\':
			if len(pattern) > 1 {
				pattern = pattern[1:]
			}
			fallthrough
		default:
			if s == "" || s[0] != pattern[0] {
				return false
			}
		}
		pattern, s = pattern[1:], s[1:]
	}
	return s == ""
}

// FuzzRedisPatternsSelectWhatBeginsSo: a pattern selects the channels of its topics and no others, and the link finds
// out which.
func FuzzRedisPatternsSelectWhatBeginsSo(f *testing.F) {
	f.Add("hub", "tick", "42", "other")
	f.Add(`h\b`, "*", "?", "[a-z]")
	f.Add("h[u]b", `\`, `\*`, "**")
	f.Fuzz(func(t *testing.T, prefix, typ, id, other string) {
		if prefix == "" || typ == "" || strings.Contains(typ, ":") || strings.HasPrefix(typ, "__") || len(prefix+typ+id+other) > 100 {
			return
		}
		p, err := codec.ParsePattern(typ + ":*")
		if err != nil {
			return
		}
		hub, err := RedisHub(prefix)
		require.NoError(t, err)
		yoga, err := RedisYoga(prefix)
		require.NoError(t, err)
		for _, format := range []Format{hub, yoga} {
			var h held
			h.init()
			subs := format.Subscriptions(p)
			for _, s := range subs {
				if s.Glob {
					h.addPattern(s.Name)
				} else {
					h.channels[s.Name] = struct{}{}
				}
			}
			selects := func(channel string) (n int) {
				for _, s := range subs {
					if s.Glob && redisGlob(s.Name, channel) || !s.Glob && s.Name == channel {
						n++
					}
				}
				return n
			}
			for _, topic := range [][2]string{{typ, id}, {typ, ""}, {other, id}, {typ + other, id}, {typ, other}} {
				if topic[0] == "" || strings.Contains(topic[0], ":") {
					continue
				}
				channel, ok := format.Subject(topic[0], topic[1])
				require.True(t, ok)
				n := selects(channel)
				require.Equal(t, topic[0] == typ, n == 1, "%q selects %q %d times", subs, channel, n)
				_, found := h.source(channel)
				require.Equal(t, n == 1, found)
				if !strings.HasPrefix(topic[0], "__") {
					backType, backID, ok := format.Topic(channel)
					require.True(t, ok)
					require.Equal(t, topic, [2]string{backType, backID})
				}
			}
		}
	})
}
