package loadgen

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/alkdev/hub/codec"
)

// Report is what came of a run. Losses, doubles and order are those of the spokes that read.
type Report struct {
	URL        string    `json:"url"`
	Run        string    `json:"run"` // the id in the payloads
	Began      time.Time `json:"began"`
	EndedEarly bool      `json:"endedEarly"`
	Failure    string    `json:"failure,omitempty"` // why publishing ended before its time

	Spokes    SpokesReport  `json:"spokes"`
	Stalled   StalledReport `json:"stalled"`
	Published Published     `json:"published"`

	Deliveries       int64   `json:"deliveries"`
	DeliveriesPerSec float64 `json:"deliveriesPerSec"`
	LatencyMs        Latency `json:"latencyMs"`

	Lost       Lost   `json:"lost"`
	Doubled    uint64 `json:"doubled"`
	OutOfOrder uint64 `json:"outOfOrder"`

	Client Client `json:"client"`

	// Problems is empty if all is well.
	Problems []string `json:"problems"`
}

// SpokesReport is about connections.
type SpokesReport struct {
	Asked     int            `json:"asked"`
	Connected int            `json:"connected"`
	Seconds   float64        `json:"seconds"` // that connecting took
	Failed    int            `json:"failed"`
	Failures  map[string]int `json:"failures"` // by reason
	Ended     map[string]int `json:"ended"`    // connections of spokes that read, before the end of the run
}

// StalledReport is what became of the spokes that stopped reading.
type StalledReport struct {
	Spokes int            `json:"spokes"`
	Open   int            `json:"open"`
	Ended  map[string]int `json:"ended"`
}

// Published is about the publisher.
type Published struct {
	Events       uint64  `json:"events"`
	Seconds      float64 `json:"seconds"`
	PerSec       float64 `json:"perSec"`
	AskedPerSec  int     `json:"askedPerSec"`  // 0: as many as the window allows
	WindowEvents int     `json:"windowEvents"` // 0: none
	PayloadBytes int     `json:"payloadBytes"`
	Topics       int     `json:"topics"`
	Refused      uint64  `json:"refused"`   // by an overloaded hub; tried again if it said so at once
	WaitShare    float64 `json:"waitShare"` // of the time, for the hub to take events
}

// Latency is from publishing to receipt, in milliseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Lost is how many deliveries did not happen, by what the hub said about it.
type Lost struct {
	Gap         int64  `json:"gap"`   // announced by __gap
	Close       int64  `json:"close"` // behind a close frame
	Unannounced int64  `json:"unannounced"`
	GapEvents   uint64 `json:"gapEvents"`
}

// Client is how busy this process was.
type Client struct {
	CPUSeconds      float64 `json:"cpuSeconds"`
	Cores           int     `json:"cores"`           // that it may use
	CPUShare        float64 `json:"cpuShare"`        // of those
	ReaderBusyShare float64 `json:"readerBusyShare"` // of the time, the busiest reader
	ReaderCPUShare  float64 `json:"readerCpuShare"`  // of the time, that reader had a core
	Busy            bool    `json:"busy"`            // the client, not the hub, was the limit
	Why             string  `json:"why,omitempty"`
}

// measure fills in what is measured between two points in time.
func (rep *Report) measure(r *run, before usage, began, published int64) {
	ended := max(published, r.ledger.lastArrival.Load())
	wall := time.Duration(ended - began)
	rep.Deliveries = r.ledger.deliveries.Load()
	rep.DeliveriesPerSec = float64(rep.Deliveries) / wall.Seconds()
	rep.Published.Seconds = time.Duration(published - began).Seconds()
	rep.Published.WaitShare = float64(r.publishNanos) / float64(max(1, published-began))
	rep.Client = r.usage(ended).since(before, wall)
}

// fill adds everything else. No more may arrive for the spokes that read.
func (r *run) fill(rep *Report) {
	_, ready, failed := r.dials.state()
	rep.URL, rep.Run, rep.Began = r.config.URL, r.id, r.began
	rep.Spokes = SpokesReport{
		Asked: r.config.Spokes, Connected: ready, Seconds: time.Duration(r.connectNanos).Seconds(),
		Failed: failed, Failures: r.dials.failedBy(), Ended: map[string]int{},
	}
	rep.Stalled = StalledReport{Ended: map[string]int{}}
	for _, sp := range r.spokes {
		rd := r.readerOf(sp)
		rd.mu.Lock()
		switch {
		case !sp.welcomed:
		case sp.stalls:
			rep.addStalled(sp)
		default:
			rep.addReading(sp, r.ledger)
		}
		rd.mu.Unlock()
	}
	events, refused := r.ledger.published()
	p := &rep.Published
	p.Events, p.Refused = events, refused+r.refusals
	p.PerSec = float64(events) / max(p.Seconds, 1e-9)
	p.AskedPerSec, p.WindowEvents, p.PayloadBytes, p.Topics = r.config.EventsPerSec, r.config.WindowEvents, r.config.PayloadBytes, r.config.Topics
	ms := func(q float64) float64 { return float64(r.totals.latency.ValueAtQuantile(q)) / 1e6 }
	if rep.Deliveries > 0 {
		rep.LatencyMs = Latency{ms(50), ms(99), ms(99.9), float64(r.totals.latency.Max()) / 1e6}
	}
	rep.Lost.GapEvents = r.totals.gapEvents
	rep.Doubled, rep.OutOfOrder = r.totals.doubled, r.totals.outOfOrder
	rep.Problems = rep.problems()
}

func (rep *Report) addStalled(sp *spoke) {
	rep.Stalled.Spokes++
	if sp.end.over {
		rep.Stalled.Ended[sp.end.String()]++
	} else {
		rep.Stalled.Open++
	}
}

func (rep *Report) addReading(sp *spoke, l *ledger) {
	missing := l.missing(sp.topic, int64(sp.check.received))
	byGap := min(missing, sp.gaps)
	rep.Lost.Gap += byGap
	if sp.end.explained() {
		rep.Lost.Close += missing - byGap
	} else {
		rep.Lost.Unannounced += missing - byGap
	}
	if sp.end.over {
		rep.Spokes.Ended[sp.end.String()]++
	}
}

// problems says what must not happen. A hub may lose events for a slow spoke, if it says so.
func (rep *Report) problems() []string {
	list := []string{}
	add := func(n int64, format string) {
		if n > 0 {
			list = append(list, fmt.Sprintf(format, n))
		}
	}
	add(int64(rep.Spokes.Failed), "%d spokes could not connect")
	add(rep.Lost.Unannounced, "%d deliveries were lost without a word")
	add(int64(rep.Doubled), "%d deliveries came twice")
	add(int64(rep.OutOfOrder), "%d deliveries were out of order")
	if rep.Failure != "" {
		list = append(list, "publishing ended before its time: "+rep.Failure)
	}
	return list
}

// countedList is "reason: 3, other: 1".
func countedList(counted map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		parts = append(parts, fmt.Sprintf("%s: %d", name, counted[name]))
	}
	return strings.Join(parts, ", ")
}

// closeText names a close code as in "closed with 4008".
func closeText(code codec.CloseCode) string { return fmt.Sprintf("closed with %d", uint16(code)) }
