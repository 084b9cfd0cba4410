package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOneCopyIsTaken: whatever is subscribed to, of the copies of a message exactly one is taken, if there are any.
func TestOneCopyIsTaken(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var h held
	h.init()
	channels, patterns := map[string]bool{}, map[string]bool{}
	words := []string{"", "a", "a:", "a:1", "a:12", "b:", "b:1", "a*", `a\`}
	for range 5000 {
		word := words[random.IntN(len(words))]
		glob := startingWith(word).Name
		switch random.IntN(4) {
		case 0:
			channels[word] = true
			h.channels[word] = struct{}{}
		case 1:
			delete(channels, word)
			delete(h.channels, word)
		case 2:
			patterns[glob] = true
			h.addPattern(glob)
		case 3:
			delete(patterns, glob)
			h.removePattern(glob)
		}
		for _, channel := range words {
			copies := []string{}
			if channels[channel] {
				copies = append(copies, channel)
			}
			for p := range patterns {
				if redisGlob(p, channel) {
					copies = append(copies, p)
				}
			}
			source, ok := h.source(channel)
			require.Equal(t, len(copies) > 0, ok)
			if ok {
				require.Contains(t, copies, source)
			}
		}
	}
}

func TestWhatComesBackIsTakenOutOnceAndInOrder(t *testing.T) {
	var e echoes
	publish := func(data ...string) uint64 {
		batch := e.begin()
		for _, d := range data {
			e.add(publication{"c", d})
		}
		return batch
	}
	publish("1", "2", "1")
	require.False(t, e.take("c", "2"), "somebody else's: ours comes behind 1")
	require.True(t, e.take("c", "1"))
	require.False(t, e.take("d", "2"))
	require.True(t, e.take("c", "2"))
	require.True(t, e.take("c", "1"))
	require.False(t, e.take("c", "1"))

	publish("never")
	second := publish("4")
	e.forgetBefore(second) // its answer has come, and "never" has not
	require.True(t, e.take("c", "4"))
	require.Zero(t, e.head)
	require.Empty(t, e.waiting)
}

func TestRedisAddresses(t *testing.T) {
	for _, bad := range [][]string{
		nil, {""}, {"host:6379"}, {"http://host"}, {"redis://"}, {"redis+sentinel://host:26379"}, {"redis://s3cret@a", "rediss://b"},
		{"redis://a", "redis+sentinel://b/name"}, {"redis://:s3cret@%zz"},
	} {
		_, err := Redis(RedisConfig{Servers: bad})
		require.Error(t, err, "%q", bad)
		require.NotContains(t, fmt.Sprint(err), "s3cret")
	}
	s, err := parseRedisServers([]string{"redis://user:p%40ss@[::1]", "redis://other:7000"}, "unused")
	require.NoError(t, err)
	require.Equal(t, []string{"[::1]:6379", "other:7000"}, s.addresses)
	require.Equal(t, [2]string{"user", "p@ss"}, [2]string{s.user, s.password})
	require.True(t, s.several())
	s, err = parseRedisServers([]string{"rediss+sentinel://a/main?sentinel-password=x", "rediss+sentinel://b:1/main"}, "given")
	require.NoError(t, err)
	require.Equal(t, []string{"a:26379", "b:1"}, s.addresses)
	require.Equal(t, [3]string{"main", "given", "x"}, [3]string{s.primary, s.password, s.sentinelPassword})
	require.True(t, s.secure)
	require.False(t, s.several())
}
