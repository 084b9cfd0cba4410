package loadgen

import (
	"time"
)

// The stages of a run, for Progress.
const (
	stageConnecting = "connecting"
	stageProbing    = "trying one event"
	stagePublishing = "publishing"
	stageSettling   = "waiting for the rest"
	stageExamining  = "looking at stalled spokes"
)

// tickEvery is how often there is a Progress.
const tickEvery = time.Second

// Progress is how a run stands.
type Progress struct {
	Stage             string
	Elapsed           time.Duration // since the run began
	Spokes, Connected int           // asked for, and with a welcome
	Failed, Gone      int           // could not connect; had been connected

	EventsPerSec, DeliveriesPerSec float64 // since the last Progress
	P50, P99                       time.Duration
	UnderWay                       int64 // deliveries to come
	GapEvents, Missed              uint64
	Doubled, OutOfOrder            uint64
}

// lastTick is what the next Progress is relative to.
type lastTick struct {
	at         int64
	events     uint64
	deliveries int64
}

func (r *run) enter(stage string) { r.stage.Store(&stage) }

// watch calls onProgress until stopc is closed.
func (r *run) watch(stopc <-chan struct{}, onProgress func(Progress)) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	r.last.at = now()
	for {
		select {
		case <-stopc:
			return
		case <-tick.C:
			p := r.progress()
			if onProgress != nil {
				onProgress(p)
			}
		}
	}
}

// collect adds what the readers have counted to the totals, and returns it.
func (r *run) collect() counts {
	fresh := counts{latency: newLatency()}
	for _, rd := range r.readers {
		fresh.add(rd.take())
	}
	r.totals.add(fresh)
	return fresh
}

func (r *run) progress() Progress {
	latest := r.collect()
	_, ready, failed := r.dials.state()
	events, _ := r.ledger.published()
	under, _ := r.ledger.underWay()
	before := r.last
	r.last = lastTick{now(), events, r.ledger.deliveries.Load()}
	secs := time.Duration(r.last.at - before.at).Seconds()
	return Progress{
		Stage: *r.stage.Load(), Elapsed: time.Since(r.began),
		Spokes: r.config.Spokes, Connected: ready, Failed: failed, Gone: max(0, int(r.endings.Load())-failed),
		EventsPerSec:     float64(r.last.events-min(before.events, r.last.events)) / secs,
		DeliveriesPerSec: float64(r.last.deliveries-before.deliveries) / secs,
		P50:              time.Duration(latest.latency.ValueAtQuantile(50)),
		P99:              time.Duration(latest.latency.ValueAtQuantile(99)),
		UnderWay:         under, GapEvents: r.totals.gapEvents, Missed: r.totals.gapSum,
		Doubled: r.totals.doubled, OutOfOrder: r.totals.outOfOrder,
	}
}
