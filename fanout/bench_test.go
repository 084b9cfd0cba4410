package fanout

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// perDelivery reports what one delivery cost. It is called when the clock has stopped.
func perDelivery(b *testing.B, deliveries int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(deliveries), "ns/delivery")
}

// BenchmarkDispatch broadcasts, and waits for the hub after every window of events: what a window
// holds is written together. The sinks cost nothing, so this is the hub's own share.
func BenchmarkDispatch(b *testing.B) {
	for _, spokes := range []int{1000, 10000} {
		for _, window := range []int{1, 4, 64} {
			b.Run(fmt.Sprintf("spokes=%d/window=%d", spokes, window), func(b *testing.B) {
				h := newHub(b, Config{})
				connectNull(b, h, spokes, nil)
				flush, e := flusher(h), event("tick", "42", 220)
				b.ReportAllocs()
				deliveries := 0
				for b.Loop() {
					for range window {
						r, err := h.Dispatch(e)
						require.NoError(b, err)
						deliveries += r.Matched
					}
					flush()
				}
				perDelivery(b, deliveries)
			})
		}
	}
}

// BenchmarkDispatchStalled broadcasts to spokes that take nothing, under each policy.
func BenchmarkDispatchStalled(b *testing.B) {
	for policy := range numPolicies {
		if policy == Disconnect {
			continue // none would be left
		}
		for _, topics := range []int{10, 700, 985} {
			b.Run(fmt.Sprintf("spokes=10000/policy=%s/topics=%d", policy, topics), func(b *testing.B) {
				h := newHub(b, Config{Policy: policy})
				for range 10000 {
					s := h.NewSpoke(keepingSink{})
					require.NoError(b, s.Attach())
				}
				flush, n, deliveries := flusher(h), 0, 0
				dispatch := func() {
					n++
					r, err := h.Dispatch(event("tick", fmt.Sprint(n%topics), 220))
					require.NoError(b, err)
					deliveries += r.Matched
					flush()
				}
				for range 1100 { // until the queues are full
					dispatch()
				}
				deliveries = 0
				b.ReportAllocs()
				for b.Loop() {
					dispatch()
				}
				perDelivery(b, deliveries)
			})
		}
	}
}

// keepingSink is a connection that has stalled.
type keepingSink struct{ nullSink }

func (keepingSink) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkTargeted sends events to single spokes.
func BenchmarkTargeted(b *testing.B) {
	for _, window := range []int{1, 64} {
		b.Run(fmt.Sprintf("spokes=10000/window=%d", window), func(b *testing.B) {
			h := newHub(b, Config{})
			spokes := connectNull(b, h, 10000, nil)
			flush, e, n := flusher(h), event("tick", "42", 220), 0
			b.ReportAllocs()
			for b.Loop() {
				for range window {
					n++
					_, err := spokes[n*7919%len(spokes)].Dispatch(e)
					require.NoError(b, err)
				}
				flush()
			}
			perDelivery(b, n)
		})
	}
}

// BenchmarkTopics dispatches events of 1000 topics, each of which 10 of 10,000 spokes want.
func BenchmarkTopics(b *testing.B) {
	for _, window := range []int{1, 64} {
		b.Run(fmt.Sprintf("topics=1000/takers=10/window=%d", window), func(b *testing.B) {
			h := newHub(b, Config{})
			var events []codec.Envelope
			var patterns []codec.Pattern
			for i := range 1000 {
				events = append(events, event("tick", fmt.Sprint(i), 220))
				patterns = append(patterns, codec.TopicPattern(events[i]))
			}
			connectNull(b, h, 10000, func(i int) []codec.Pattern { return patterns[i/10 : i/10+1] })
			flush, n, deliveries := flusher(h), 0, 0
			b.ReportAllocs()
			for b.Loop() {
				for range window {
					n++
					r, err := h.Dispatch(events[n*7%len(events)])
					require.NoError(b, err)
					deliveries += r.Matched
				}
				flush()
			}
			perDelivery(b, deliveries)
		})
	}
}

// BenchmarkRelay takes a message from one spoke, as it was read, and dispatches it to all: parsing,
// encoding and framing, and the shard's pass over spokes that cost nothing.
func BenchmarkRelay(b *testing.B) {
	const window = 64
	b.Run("payload=256", func(b *testing.B) {
		h := newHub(b, Config{SpokeRatePerSec: MaxSpokeRatePerSec, SpokeBurst: 1 << 30})
		from := connectNull(b, h, 1, nil)[0]
		_, err := h.AddListener("*", func(s *Spoke, e codec.Envelope) { _, _ = h.Dispatch(e) })
		require.NoError(b, err)
		message, err := codec.AppendEnvelope(nil, event("tick", "42", 256))
		require.NoError(b, err)
		flush, n := flusher(h), 0
		b.ReportAllocs()
		for b.Loop() {
			for range window {
				from.Receive(message)
			}
			n += window
			flush()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
	})
}

// BenchmarkReceive takes a message from a spoke, as it was read, up to a listener that does nothing.
func BenchmarkReceive(b *testing.B) {
	for _, perSec := range []int{MaxSpokeRatePerSec, -1} { // never reached, and none
		b.Run(fmt.Sprintf("payload=256/limit=%t", perSec > 0), func(b *testing.B) {
			h := newHub(b, Config{SpokeRatePerSec: perSec, SpokeBurst: 1 << 30})
			from := connectNull(b, h, 1, nil)[0]
			_, err := h.AddListener("*", func(*Spoke, codec.Envelope) {})
			require.NoError(b, err)
			message, err := codec.AppendEnvelope(nil, event("tick", "42", 256))
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				from.Receive(message)
			}
			require.Zero(b, h.Stats().RateLimited)
		})
	}
}
