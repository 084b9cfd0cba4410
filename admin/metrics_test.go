package admin

import (
	"bufio"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestMetricsSayWhatHappened(t *testing.T) {
	f := start(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 1 << 10}, SpokeRatePerSec: 1, SpokeBurst: 2}, Config{
		Version: "v1.2.3",
		Loop: Loop{
			Ready: func() bool { return false },
			Stats: func() LoopStats {
				return LoopStats{Connections: 5, Suspensions: 3, Refused: map[string]uint64{"origin": 2, "max_spokes": 0}}
			},
		},
		Log:    func() LogStats { return LogStats{3, 4} },
		Memory: func() MemoryStats { return MemoryStats{LimitBytes: 1000, UsedBytes: 900, Tight: true, Times: 2} },
		Limits: Limits{
			Bytes: map[string]int64{"max_message": 65536, "spoke_buffer": 7}, Times: map[string]time.Duration{"ping": 1500 * time.Millisecond},
			Counts: map[string]int{"max_spokes": 20000},
		},
	})
	spoke := f.connect(t, &scriptSink{})
	f.connect(t, &scriptSink{keep: true})
	spoke.Receive([]byte(`{"type":"ask"}`))
	spoke.Receive([]byte(`nonsense`))
	spoke.Receive([]byte(`{"type":"beyond"}`))
	f.hub.Flush() // so that __error does not share a pass with the event
	_, err := f.hub.Dispatch(codec.Envelope{Type: "tick", ID: "1"})
	require.NoError(t, err)
	f.connect(t, &scriptSink{}, "none:*").Detach(fanout.CauseOf(fanout.PeerSide, 4999, ""))
	spoke.Detach(fanout.CauseOf(fanout.PeerSide, codec.CloseNormal, ""))
	f.hub.Flush()
	f.hub.Flush() // a shard publishes its numbers before it looks for work

	got := f.scrape(t)
	for series, want := range map[string]string{
		"hub_spokes":       "1",
		"hub_opened_total": "3",
		`hub_closed_total{code="1000",reason="normal"}`:             "1",
		`hub_closed_total{code="other",reason="other"}`:             "1",
		"hub_dispatched_total":                                      "1",
		"hub_received_total":                                        "1",
		"hub_refused_envelopes_total":                               "1",
		"hub_rate_limited_total":                                    "1",
		`hub_refused_subscriptions_total{reason="too_many_topics"}`: "0",
		`hub_refused_subscriptions_total{reason="topic_memory"}`:    "0",
		"hub_topic_bytes":                                           "0",
		"hub_panics_total":                                          "0",
		"hub_deliveries_total":                                      "1",
		`hub_dropped_frames_total{reason="spoke_lag"}`:              "0",
		`hub_conflated_frames_total{reason="spoke_buffer"}`:         "0",
		`hub_slow_disconnects_total{reason="total_buffer"}`:         "0",
		"hub_pending_bytes":                                         "0",
		"hub_queued_spokes":                                         "1",
		"hub_connections":                                           "5",
		"hub_suspensions_total":                                     "3",
		`hub_refused_connections_total{reason="origin"}`:            "2",
		`hub_refused_connections_total{reason="max_spokes"}`:        "0",
		"hub_ready":                                    "0",
		"hub_event_streams":                            "0",
		"hub_slow_event_streams_total":                 "0",
		`hub_limit_bytes{limit="spoke_buffer"}`:        "1024",
		`hub_limit_bytes{limit="total_buffer"}`:        "2.68435456e+08",
		`hub_limit_bytes{limit="max_message"}`:         "65536",
		`hub_limit_bytes{limit="admin_max_body"}`:      "8.388608e+06",
		`hub_limit_seconds{limit="spoke_lag"}`:         "0",
		`hub_limit_seconds{limit="ping"}`:              "1.5",
		`hub_limit{limit="max_topics"}`:                "1024",
		`hub_limit_bytes{limit="max_topic_memory"}`:    "2.68435456e+08",
		`hub_limit{limit="max_spokes"}`:                "20000",
		`hub_limit{limit="spoke_rate_per_second"}`:     "1",
		`hub_limit{limit="spoke_burst"}`:               "2",
		`hub_log_lines_dropped_total{reason="buffer"}`: "3",
		`hub_log_lines_dropped_total{reason="error"}`:  "4",
		"hub_memory_limit_bytes":                       "1000",
		"hub_memory_used_bytes":                        "900",
		"hub_memory_short":                             "1",
		"hub_memory_short_total":                       "2",
		"hub_total_buffer_bytes":                       "2.68435456e+08",
		`hub_build_info{arch="` + runtime.GOARCH + `",go="` + runtime.Version() + `",os="` + runtime.GOOS + `",version="v1.2.3"}`: "1",
		`hub_dispatch_to_written_seconds_bucket{le="+Inf"}`:                                                                       "1",
		"hub_dispatch_to_written_seconds_count":                                                                                   "1",
	} {
		require.Equal(t, want, got[series], series)
	}
	for _, series := range []string{
		"hub_delivered_bytes_total", "hub_writes_total", "hub_queued_bytes", "hub_held_bytes", "hub_in_flight_bytes",
		"hub_sonic_fast_path", "hub_dispatch_to_written_seconds_sum", "go_goroutines", "process_start_time_seconds",
	} {
		require.Contains(t, got, series)
	}
	require.NotEqual(t, "0", got["hub_queued_bytes"])
	require.NotEqual(t, "0", got["hub_in_flight_bytes"])
}

// scrape returns what /metrics serves, by series.
func (f *fixture) scrape(t testing.TB) map[string]string {
	t.Helper()
	r := f.get(t, "/metrics")
	require.Equal(t, http.StatusOK, r.status)
	require.Contains(t, r.header.Get("Content-Type"), "text/plain")
	series := make(map[string]string)
	for lines := bufio.NewScanner(strings.NewReader(r.body)); lines.Scan(); {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			i := strings.LastIndexByte(line, ' ')
			series[line[:i]] = line[i+1:]
		}
	}
	return series
}

func TestMetricsAreWellNamed(t *testing.T) {
	f := start(t, fanout.Config{}, Config{Loop: Loop{Stats: func() LoopStats { return LoopStats{Refused: map[string]uint64{"origin": 1}} }}})
	f.connect(t, &scriptSink{}).Detach(fanout.CauseOf(fanout.PeerSide, codec.CloseNormal, ""))
	problems, err := testutil.GatherAndLint(f.server.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestMetricsOfABrokenLabelAreAnError(t *testing.T) {
	f := start(t, fanout.Config{}, Config{Version: "\xff"})
	require.Equal(t, http.StatusInternalServerError, f.get(t, "/metrics").status)
	require.Equal(t, http.StatusOK, f.get(t, "/livez").status)
}

func TestSonicFastPathFollowsItsBuildTags(t *testing.T) {
	for _, test := range []struct {
		arch, version string
		want          bool
	}{
		{"amd64", "go1.26.8", true},
		{"arm64", "go1.27", true},
		{"amd64", "go1.27.3 X:nogreenteagc", true},
		{"amd64", "devel go1.27-a1b2c3 Mon Jan 5 00:00:00 2026 +0000", true},
		{"amd64", "go1.28rc1", false},
		{"amd64", "devel go1.28-a1b2c3 Mon Jan 5 00:00:00 2026 +0000", false},
		{"arm64", "go1.30.1", false},
		{"riscv64", "go1.26.8", false},
		{"amd64", "unknown", false},
	} {
		require.Equal(t, test.want, sonicFastPath(test.arch, test.version), "%s %s", test.arch, test.version)
	}
}
