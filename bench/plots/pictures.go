package main

import "math"

// sustained is the share of an offered rate from which on it counts as reached.
const sustained = 0.95

const (
	micro = 1e6
	milli = 1e3
)

// growthPictures are one for each series of BenchmarkGrowth.
var growthPictures = []picture{
	{
		by: "spokes", title: "Cost and latency of a broadcast by number of spokes (payload 256 B)",
		x: axis{label: "spokes", log: true, at: []float64{100, 300, 1000, 3000, 10000, 19000}, write: short}, xOf: paramOf("spokes"),
		panels: []panel{
			{y: axis{label: "CPU per delivery, µs"}, lines: []line{
				cpu("hub, window 1", hubStyle, of("hub", 1)),
				cpu("floor, window 1", floorStyle, of("floor", 1)),
				cpu("hub, window 4", hubStyle.second(), of("hub", 4)),
				cpu("floor, window 4", floorStyle.second(), of("floor", 4)),
			}},
			latencies(1),
		},
	},
	{
		by: "payload", title: "Cost and latency of a broadcast by payload (1,000 spokes, window 1)",
		x: axis{label: "payload, bytes", log: true, at: []float64{16, 64, 256, 1024, 4096, 16384, 65536}, write: shortBytes}, xOf: paramOf("payload"),
		panels: []panel{
			{y: axis{label: "CPU per delivery, µs"}, lines: []line{
				cpu("hub", hubStyle, of("hub", 1)),
				cpu("floor", floorStyle, of("floor", 1)),
			}},
			latencies(1),
		},
	},
	{
		by: "rate", title: "Cost and latency of broadcasts by rate (1,000 spokes, payload 256 B)",
		x: axis{label: "events/s", log: true}, xOf: reachedRate,
		panels: []panel{
			{y: axis{label: "CPU per delivery, µs", log: true}, lines: []line{
				cpu("hub", hubStyle, side("hub")),
				cpu("floor, a write(2) per event and spoke", floorStyle, atRate("floor")),
				cpu("floor, events joined, flat out", floorStyle.second(), flatOut("floor")),
			}},
			{y: axis{label: "Cores in use"}, lines: []line{
				{"hub", hubStyle, "hub-cores", 1, side("hub")},
				{"floor, a write(2) per event and spoke", floorStyle, "hub-cores", 1, atRate("floor")},
			}},
			{y: axis{label: "Latency, ms", log: true}, lines: []line{
				{"hub, p99", hubStyle, "p99-sec", milli, side("hub")},
				{"floor, p99", floorStyle, "p99-sec", milli, atRate("floor")},
				{"hub, p50", hubStyle.second(), "p50-sec", milli, side("hub")},
				{"floor, p50", floorStyle.second(), "p50-sec", milli, atRate("floor")},
			}},
		},
	},
}

func cpu(name string, s style, takes func(reading) bool) line {
	return line{name, s, "cpu-sec/delivery", micro, takes}
}

// latencies is a panel of both sides with this window.
func latencies(window float64) panel {
	return panel{y: axis{label: "Latency at window 1, ms", log: true}, lines: []line{
		{"hub, p99", hubStyle, "p99-sec", milli, of("hub", window)},
		{"floor, p99", floorStyle, "p99-sec", milli, of("floor", window)},
		{"hub, p50", hubStyle.second(), "p50-sec", milli, of("hub", window)},
		{"floor, p50", floorStyle.second(), "p50-sec", milli, of("floor", window)},
	}}
}

func side(name string) func(reading) bool {
	return func(r reading) bool { return r.side == name }
}

func of(name string, window float64) func(reading) bool {
	return func(r reading) bool { return r.side == name && r.param["window"] == window }
}

func atRate(name string) func(reading) bool {
	return func(r reading) bool { return r.side == name && !math.IsInf(r.param["rate"], 1) }
}

func flatOut(name string) func(reading) bool {
	return func(r reading) bool { return r.side == name && math.IsInf(r.param["rate"], 1) }
}

func paramOf(name string) func(reading) (float64, bool) {
	return func(r reading) (float64, bool) { return r.param[name], true }
}

// reachedRate leaves out who could not keep up.
func reachedRate(r reading) (float64, bool) {
	reached := r.values["events/s"]
	return reached, flatOut(r.side)(r) || reached >= sustained*r.param["rate"]
}
