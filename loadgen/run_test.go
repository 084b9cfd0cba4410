package loadgen

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

func TestAHealthyRunLosesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		relay bool
		set   func(*Config)
		takes uint64 // spokes that get each event
	}{
		{"rate", false, func(c *Config) { c.EventsPerSec = 100 }, 200},
		{"window", false, func(c *Config) { c.WindowEvents = 2 }, 200},
		{"topics", false, func(c *Config) { c.WindowEvents = 40; c.Topics = 20 }, 10},
		{"as a spoke", true, func(c *Config) { c.WindowEvents = 4; c.Admin = "" }, 200},
		{"large events", false, func(c *Config) { c.WindowEvents = 1; c.PayloadBytes = 50_000 }, 200},
		{"sources", false, func(c *Config) {
			c.WindowEvents = 1
			c.ConnectPerSec = 10_000
			c.Sources = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
			c.Readers = 3
		}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The patience of the hub is not what is tested here.
			limits := fanout.Limits{SpokeBytes: 32 << 20, SpokeLag: time.Hour, TotalBytes: 1 << 30}
			_, config := startHub(t, fanout.Config{Limits: limits}, loop.Config{}, c.relay)
			config.Spokes = 200
			c.set(&config)
			report := perform(t, config)
			require.Empty(t, report.Problems)
			require.Equal(t, 200, report.Spokes.Connected)
			require.Positive(t, report.Published.Events)
			require.EqualValues(t, report.Published.Events*c.takes, report.Deliveries)
			require.Equal(t, Lost{}, report.Lost)
			require.Empty(t, report.Spokes.Ended)
			require.Positive(t, report.LatencyMs.P50)
			require.LessOrEqual(t, report.LatencyMs.P50, report.LatencyMs.P999)
			require.False(t, report.EndedEarly)
		})
	}
}

func TestWhatBecameOfStalledSpokesIsReported(t *testing.T) {
	hub, config := startHub(t, fanout.Config{
		Limits: fanout.Limits{SpokeBytes: 64 << 10, SpokeLag: time.Hour}, CloseTimeout: 100 * time.Millisecond,
	}, loop.Config{SendBufferBytes: 4 << 10, CloseTimeout: 100 * time.Millisecond}, false)
	config.Spokes, config.StalledShare = 50, 0.2
	config.WindowEvents, config.PayloadBytes = 1, 8<<10
	config.Duration = time.Minute // cut short below
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { // until the hub has had enough of the stalled ones
		defer cancel()
		for full := false; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			spokes := hub.Stats().Spokes
			full = full || spokes == 50
			if full && spokes == 40 {
				return
			}
		}
	})
	report, err := Run(ctx, config, nil)
	cancel()
	watching.Wait()
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Equal(t, 10, report.Stalled.Spokes)
	require.Zero(t, report.Stalled.Open)
	ended := 0
	for _, n := range report.Stalled.Ended {
		ended += n
	}
	require.Equal(t, 10, ended)
	require.EqualValues(t, 40*report.Published.Events, report.Deliveries)
}

func TestStalledSpokesThatTheHubKeepsAreStillOpen(t *testing.T) {
	_, config := startHub(t, fanout.Config{}, loop.Config{}, false)
	config.Spokes, config.StalledShare, config.WindowEvents = 20, 0.5, 1
	config.Duration = 10 * time.Millisecond
	report := perform(t, config)
	require.Equal(t, StalledReport{Spokes: 10, Open: 10, Ended: map[string]int{}}, report.Stalled)
}

func TestSpokesThatCannotConnectAreCounted(t *testing.T) {
	_, config := startHub(t, fanout.Config{}, loop.Config{MaxSpokes: 30}, false)
	config.Spokes, config.WindowEvents = 50, 1
	report := perform(t, config)
	require.Equal(t, 30, report.Spokes.Connected)
	require.Equal(t, 20, report.Spokes.Failed)
	for why, n := range report.Spokes.Failures {
		require.Contains(t, why, "the hub says 503")
		require.Equal(t, 20, n)
	}
	require.Equal(t, []string{"20 spokes could not connect"}, report.Problems)
}

func TestAHubThatDoesNotRelayIsToldFromLoss(t *testing.T) {
	_, config := startHub(t, fanout.Config{}, loop.Config{}, false)
	config.Spokes, config.WindowEvents, config.Admin = 2, 1, ""
	config.Patience = 50 * time.Millisecond
	_, err := Run(t.Context(), config, nil)
	require.ErrorContains(t, err, "--relay others")
}

func TestAPublisherThatTheHubLimitsSaysSo(t *testing.T) {
	hub, config := startHub(t, fanout.Config{SpokeRatePerSec: 10}, loop.Config{}, true)
	config.Spokes, config.EventsPerSec, config.Admin = 2, 1000, ""
	config.Patience = 50 * time.Millisecond
	report, err := Run(t.Context(), config, nil)
	require.NoError(t, err)
	require.Contains(t, strings.Join(report.Problems, "; "), "the hub takes no more from one spoke; start it with --spoke-rate 0, or publish slower")
	require.NotZero(t, hub.Stats().RateLimited)
}

func TestTheFirstConnectionThatFailsIsTheError(t *testing.T) {
	_, config := startHub(t, fanout.Config{}, loop.Config{Path: "/elsewhere"}, false)
	config.Spokes, config.WindowEvents = 100, 1
	_, err := Run(t.Context(), config, nil)
	require.ErrorContains(t, err, "the hub says 404 Not Found")
	config.URL = "ws://127.0.0.1:1/ws"
	_, err = Run(t.Context(), config, nil)
	require.ErrorContains(t, err, "connecting to ws://127.0.0.1:1/ws")
}

func TestAnInterruptedRunIsReported(t *testing.T) {
	_, config := startHub(t, fanout.Config{}, loop.Config{}, false)
	config.Spokes, config.EventsPerSec, config.Duration = 10, 100, time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ticks := 0
	report, err := Run(ctx, config, func(p Progress) {
		if ticks++; p.Stage == stagePublishing {
			cancel()
		}
	})
	require.NoError(t, err)
	require.True(t, report.EndedEarly)
	require.Empty(t, report.Problems)
	require.Positive(t, ticks)
	require.EqualValues(t, 10*report.Published.Events, report.Deliveries)
}

func TestConfigRefusesWhatMakesNoSense(t *testing.T) {
	good := Config{URL: "ws://127.0.0.1/ws", Spokes: 10, EventsPerSec: 1, PayloadBytes: 96, Duration: time.Second}
	require.NoError(t, good.Check())
	for want, set := range map[string]func(*Config){
		"is not an address":        func(c *Config) { c.URL = "http://127.0.0.1/ws" },
		"at least one is needed":   func(c *Config) { c.Spokes = 0 },
		"at least one has to read": func(c *Config) { c.StalledShare = 0.99 },
		"each topic needs one":     func(c *Config) { c.Topics = 11 },
		"at least 96 are needed":   func(c *Config) { c.PayloadBytes = 95 },
		"neither a rate nor":       func(c *Config) { c.EventsPerSec = 0 },
		"nothing to do":            func(c *Config) { c.Duration = 0 },
	} {
		c := good
		set(&c)
		require.ErrorContains(t, c.Check(), want)
		_, err := Run(t.Context(), c, nil)
		require.Error(t, err)
	}
}
