package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot/plotter"
)

func open(t *testing.T, name string) *os.File {
	f, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestReadGrowth(t *testing.T) {
	all, err := readGrowth(open(t, "growth.txt"))
	require.NoError(t, err)
	require.Len(t, all, 16) // and BenchmarkBroadcast is none of them
	require.Equal(t, "spokes", all[0].by)
	require.Equal(t, "hub", all[0].side)
	require.Equal(t, map[string]float64{"spokes": 100, "payload": 256, "window": 1}, all[0].param)
	require.InDelta(t, 5e-6, all[0].values["cpu-sec/delivery"], 1e-12)
	require.InDelta(t, 300e-6, all[0].values["p50-sec"], 1e-12)
}

func TestSeries(t *testing.T) {
	all, err := readGrowth(open(t, "growth.txt"))
	require.NoError(t, err)
	lineOf := func(by, name string) map[float64]plotter.XYs {
		for _, pic := range growthPictures {
			if pic.by != by {
				continue
			}
			for _, l := range pic.panels[0].lines {
				if l.name == name {
					return pic.series(all, l)
				}
			}
		}
		t.Fatal("there is no such line")
		return nil
	}
	require.InDeltaMapValues(t, map[float64]float64{100: 5, 1000: 6}, firstOf(lineOf("spokes", "hub, window 1")), 1e-9)
	require.Len(t, lineOf("spokes", "hub, window 1")[1000], 3) // three counts
	require.InDeltaMapValues(t, map[float64]float64{100: 1.25}, firstOf(lineOf("spokes", "floor, window 4")), 1e-9)
	// At 300 a second the floor reached 130.
	require.InDeltaMapValues(t, map[float64]float64{100: 7}, firstOf(lineOf("rate", "floor, a write(2) per event and spoke")), 1e-9)
	require.Len(t, lineOf("rate", "floor, events joined, flat out"), 1)
	require.Len(t, lineOf("rate", "hub"), 3)
}

// firstOf returns the y of the first count of each point.
func firstOf(s map[float64]plotter.XYs) map[float64]float64 {
	ys := make(map[float64]float64)
	for at, xys := range s {
		ys[at] = xys[0].Y
	}
	return ys
}

func TestReadPeersTakesTheLargestNumberOfClients(t *testing.T) {
	payload, servers, err := readPeers(open(t, "peers.json"))
	require.NoError(t, err)
	require.Equal(t, 256, payload)
	require.Len(t, servers, 3)
	require.Equal(t, "floor", servers[0].Server)
	require.Equal(t, 10000, servers[0].Clients)
	require.Equal(t, 8400.0, servers[2].Windows[1].CPUNanos)
}

func TestPicturesAreWellFormed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, run("testdata/growth.txt", "testdata/peers.json", dir))
	for name, says := range map[string][]string{
		"spokes.svg":  {"Cost and latency of a broadcast by number of spokes", "CPU per delivery, µs", "hub, window 4", "1k"},
		"payload.svg": {"payload, bytes", "floor, p99", "64Ki"},
		"rate.svg":    {"events/s", "Cores in use"},
		"peers.svg":   {"WebSocket servers: a broadcast to 10,000 clients", "gws", "window 64"},
	} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		d := xml.NewDecoder(strings.NewReader(string(b)))
		for err == nil {
			_, err = d.Token()
		}
		require.True(t, errors.Is(err, io.EOF), "%s: %v", name, err)
		for _, text := range says {
			require.Contains(t, string(b), ">"+text, name)
		}
	}
}

func TestWhatIsNotThereIsAnError(t *testing.T) {
	_, err := readGrowth(strings.NewReader("BenchmarkOther-2 \t 1 \t 5 ns/op\n"))
	require.Error(t, err)
	_, _, err = readPeers(strings.NewReader(`{"Servers":[]}`))
	require.Error(t, err)
}

func TestLogTicks(t *testing.T) {
	labels := func(lowest, highest float64) (s []string) {
		for _, tick := range (logTicks{}).Ticks(lowest, highest) {
			if tick.Label != "" {
				s = append(s, tick.Label)
			}
		}
		return s
	}
	require.Equal(t, []string{"1", "2", "5", "10", "20"}, labels(0.9, 30))
	require.Equal(t, []string{"10", "100", "1k", "10k"}, labels(9, 15000))
}
