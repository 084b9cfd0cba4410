package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// often is a sampling that a test does not have to wait for.
const often = 5 * time.Millisecond

// sample returns the next record of GET /v1/stats.
func (r *reader) sample(t testing.TB) (s sample) {
	t.Helper()
	line, err := r.ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, &s), "%s", line)
	return s
}

// sampleWith returns the next one of which ok is true.
func (r *reader) sampleWith(t testing.TB, ok func(sample) bool) sample {
	t.Helper()
	for {
		if s := r.sample(t); ok(s) {
			return s
		}
	}
}

func (w *watch) watching() (pages int, now *watching) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pages, w.now
}

func TestSamplesSayHowTheHubIs(t *testing.T) {
	f := start(t, fanout.Config{Node: "lima", Shards: 2}, Config{SampleEvery: often, Version: "v1.2.3"})
	topics := make([]string, 30)
	for i := range topics {
		topics[i] = fmt.Sprintf("none:%02d", i)
	}
	slow := f.connect(t, &scriptSink{keep: true}, append(topics, "tick:*")...)
	f.connect(t, &scriptSink{}, "tick:*")
	r := f.openPath(t, "/v1/stats")
	require.Equal(t, "application/x-ndjson", r.resp.Header.Get("Content-Type"))

	s := r.sample(t)
	require.Equal(t, "stats", s.Kind)
	require.Equal(t, "lima", s.Node)
	require.Equal(t, "v1.2.3", s.Version)
	require.True(t, s.Ready)
	require.False(t, s.Stuck)
	require.Equal(t, 2, s.Spokes)
	require.InDelta(t, time.Now().UnixMilli(), s.AtMs, float64(patience.Milliseconds()))
	require.Nil(t, s.Latency)

	_, err := f.hub.Dispatch(codec.Envelope{Type: "tick", Payload: []byte(`1`)})
	require.NoError(t, err)
	s = r.sampleWith(t, func(s sample) bool { return s.Latency != nil })
	require.EqualValues(t, 1, s.Dispatched)
	require.EqualValues(t, 1, s.Deliveries)
	require.EqualValues(t, 1, s.Latency.Count, "the one that was written")
	require.Positive(t, s.Latency.P50)
	require.GreaterOrEqual(t, s.Latency.P99, s.Latency.P50)

	// The other shard may have had its pass after that sample.
	s = r.sampleWith(t, func(s sample) bool { return s.QueuedBytes > 0 || s.Latency != nil })
	require.Nil(t, s.Latency, "only what is new")
	require.Equal(t, 1, s.QueuedSpokes)
	require.Len(t, s.Slowest, 2)
	first := s.Slowest[0]
	require.Equal(t, slow.ID(), first.ID)
	require.Positive(t, first.Queued)
	require.Equal(t, 31, first.TopicCount)
	require.Len(t, first.Topics, sampledTopics)
}

func TestSamplesAreServerSentEventsForThoseWhoWantThem(t *testing.T) {
	f := start(t, fanout.Config{}, Config{SampleEvery: often})
	r := f.openPath(t, "/v1/stats", "text/event-stream")
	require.Equal(t, "text/event-stream", r.resp.Header.Get("Content-Type"))
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "event: stats\n", line)
	line, err = r.ReadString('\n')
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(line, `data: {"kind":"stats",`))
}

func TestOneSamplerIsForAllPagesAndEndsWithTheLast(t *testing.T) {
	f := start(t, fanout.Config{}, Config{SampleEvery: often})
	w := &f.server.watch
	_, now := w.watching()
	require.Nil(t, now, "nobody looks, nothing runs")

	var pages []*reader
	for range 10 {
		pages = append(pages, f.openPath(t, "/v1/stats"))
	}
	n, first := w.watching()
	require.Equal(t, 10, n)
	for _, page := range pages {
		page.sample(t)
	}
	require.Eventually(t, func() bool { return first.hub.Stats().Spokes == 10 }, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		s := first.hub.Stats()
		return s.Deliveries > 5*s.Dispatched // each sample is taken once, for all of them
	}, patience, time.Millisecond)
	require.Zero(t, f.hub.Stats().Spokes, "pages are spokes of a hub of their own")

	for _, page := range pages {
		require.NoError(t, page.resp.Body.Close())
	}
	select {
	case <-first.endedc:
	case <-time.After(patience):
		require.Fail(t, "the sampler goes on")
	}
	n, now = w.watching()
	require.Zero(t, n)
	require.Nil(t, now)

	again := f.openPath(t, "/v1/stats")
	again.sample(t)
	_, second := w.watching()
	require.NotSame(t, first, second)
}

func TestSamplesGoOnWhileAShardIsStuck(t *testing.T) {
	f := start(t, fanout.Config{Shards: 1}, Config{SampleEvery: often, Patience: often})
	gate := make(chan struct{})
	f.connect(t, &scriptSink{gate: gate})
	defer close(gate)
	s := f.openPath(t, "/v1/stats").sample(t)
	require.True(t, s.Stuck)
	require.Equal(t, 1, s.Spokes)
	require.Empty(t, s.Slowest)
}

func TestASlowPageGetsTheNewest(t *testing.T) {
	f := start(t, fanout.Config{}, Config{SampleEvery: often})
	page, err := f.server.watch.join()
	require.NoError(t, err)
	defer page.Close()
	_, now := f.server.watch.watching()
	require.Eventually(t, func() bool { // it reads nothing
		conflated := uint64(0)
		for _, n := range now.hub.Stats().Conflated {
			conflated += n
		}
		return conflated > 3
	}, patience, often)
	require.LessOrEqual(t, now.hub.Stats().QueuedBytes, int64(1<<20))
	for range 10 {
		record, err := page.Next(t.Context())
		require.NoError(t, err)
		require.Contains(t, string(record), `"kind":"stats"`)
	}
}

func TestPagesEndWithTheServerAndWithTheHub(t *testing.T) {
	for rule, end := range map[string]func(*fixture){
		"the server": func(f *fixture) { go func() { _ = f.server.Shutdown(t.Context()) }() },
		"the hub":    func(f *fixture) { f.hub.Close() },
	} {
		t.Run(rule, func(t *testing.T) {
			f := start(t, fanout.Config{}, Config{SampleEvery: often})
			r := f.openPath(t, "/v1/stats")
			r.sample(t)
			end(f)
			for {
				rec := r.next(t)
				if rec.Kind == "end" {
					require.Equal(t, "shutdown", rec.Reason)
					break
				}
			}
		})
	}
}
