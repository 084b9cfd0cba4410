package fanout

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestOfAFloodOfPingsSomeAndTheLastAreAnswered(t *testing.T) {
	h := newHub(t, Config{Shards: 1})
	s, k := connect(t, h)
	entered, resume := make(chan struct{}), make(chan struct{})
	s.shard.post(post{op: opDo, do: func() { close(entered); <-resume }})
	<-entered // the shard is busy
	for i := range 10_000 {
		s.Control(codec.NewControlFrame(codec.Pong, fmt.Append(nil, i)))
	}
	s.shard.mu.Lock()
	waiting := len(s.shard.inbox)
	s.shard.mu.Unlock()
	require.Equal(t, maxPongs, waiting)
	close(resume)
	h.Flush()
	k.mu.Lock()
	defer k.mu.Unlock()
	require.Equal(t, "\x8a\x0263\x8a\x049999", string(k.taken[len(k.taken)-10:]))
}

func TestPongsThatComeWhileAFloodIsAnsweredAreTheLast(t *testing.T) {
	h := newHub(t, Config{Shards: 1})
	s, k := connect(t, h)
	first, second := holdShards(t, h), func() {}
	halfway := make(chan struct{})
	for i := range maxPongs + 1 {
		if i == maxPongs/2 {
			resume := make(chan struct{})
			s.shard.post(post{op: opDo, do: func() { close(halfway); <-resume }})
			second = func() { close(resume) }
		}
		s.Control(codec.NewControlFrame(codec.Pong, fmt.Append(nil, i)))
	}
	first()
	<-halfway
	s.Control(codec.NewControlFrame(codec.Pong, []byte("newest")))
	second()
	h.Flush()
	frames := wire(t, k)
	require.Equal(t, []string{"pong 63", "pong newest"}, frames[len(frames)-2:])
}
