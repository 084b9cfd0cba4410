package interop

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRedisEventTarget: hubs and event targets of @graphql-yoga/redis-event-target hear each other, each event once.
func TestRedisEventTarget(t *testing.T) {
	for name, c := range map[string]struct{ prefix, before string }{
		"as it is":      {"", ""},
		"with a prefix": {"gate", "gate:"},
	} {
		t.Run(name, func(t *testing.T) {
			redis := startRedis(t).url()
			flags := []string{"--engine", redis, "--engine-format", "yoga", "--engine-prefix", c.prefix}
			near, far := startHub(t, flags...), startHub(t, flags...)
			all := run(t, "node", "spoke.mjs", near.spokes)
			some := run(t, "node", "spoke.mjs", far.spokes+"?topic=answer:a:1&topic=plain:&topic=nothing:*&topic=empty:1&topic=last:1&topic=probe:1")
			expect(t, all, "__welcome")
			expect(t, some, "__welcome")
			gateway := run(t, "node", "yoga.mjs", redis, c.before)
			untilHeard(t, gateway, "note", func() { near.publish(t, `{"type":"note","payload":"probe"}`) })
			untilHeard(t, some, "probe", func() { near.publish(t, `{"type":"probe","id":"1","payload":0}`) })

			near.publish(t, `{"type":"odd","id":"*?[a]\\ b","payload":{"n":1.50}}`)
			require.Equal(t, map[string]any{"n": 1.5}, expect(t, gateway, `odd:*?[a]\ b`))
			near.publish(t, `{"type":"tick","id":"42","payload":{"price":7}}`)
			require.Equal(t, map[string]any{"price": 7.0}, expect(t, gateway, "tick:42"))
			require.Equal(t, map[string]any{"price": 7.0}, expect(t, all, "tick"))

			// What the gateway says then reaches both hubs, once and in its order.
			answer := map[string]any{"got": map[string]any{"price": 7.0}, "text": "é€😀", "list": []any{1.0, nil}}
			for _, out := range []<-chan said{all, some} {
				require.Equal(t, said{"answer", answer}, next(t, out, "note", "probe", "odd"))
				require.Equal(t, said{"plain", 7.0}, next(t, out))
				require.Equal(t, said{"nothing", nil}, next(t, out))
				require.Equal(t, said{"empty", nil}, next(t, out))
				require.Equal(t, said{"last", "end"}, next(t, out))
			}
		})
	}
}

// untilHeard does something until it is heard of.
func untilHeard(t *testing.T, out <-chan said, what string, do func()) {
	t.Helper()
	deadline := time.After(patience)
	for {
		do()
		select {
		case s, ok := <-out:
			require.True(t, ok)
			if s.What == what {
				return
			}
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			require.Fail(t, "nothing is heard", what)
		}
	}
}

// next returns the next thing that is said, but for some.
func next(t *testing.T, out <-chan said, but ...string) said {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case s, ok := <-out:
			require.True(t, ok, "it has ended")
			skip := s.What == "protocol" || s.What == "pong" || s.What == "ping"
			for _, what := range but {
				skip = skip || s.What == what
			}
			if !skip {
				return s
			}
		case <-timeout:
			require.Fail(t, "nothing is said")
		}
	}
}
