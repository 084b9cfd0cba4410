package loadgen

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// run is one run, from the check of the limits to the report.
//
// It belongs to the goroutine of Run; what readers and dialers share is locked or atomic in itself.
type run struct {
	// Set by newRun, read-only afterwards.
	config  Config
	began   time.Time
	id      string
	probeID string // run id of the event that is not counted
	spokes  []*spoke
	readers []*reader
	resumec chan struct{} // closed by resume, for stalled spokes over TLS

	// Any goroutine, under locks of their own or atomically.
	ledger     *ledger
	dials      dials
	hubAddress atomic.Pointer[string] // that the first connection was made to
	probed     atomic.Int64           // deliveries of the event that is not counted
	endings    atomic.Int64           // connections that have ended
	drained    atomic.Int64           // when a stalled spoke that is read again last got something
	stage      atomic.Pointer[string]

	// The goroutine of Run only.
	publisher    publisher
	connectNanos int64
	publishNanos int64 // spent in flush
	refusals     uint64
	resumed      bool

	// The goroutine of watch, and of Run once that has ended.
	totals counts
	last   lastTick
}

// Run connects, publishes and reports. onProgress, which may be nil, is called every second, one call at
// a time. When ctx is done the run ends early, and is reported all the same.
//
// The error says why there is nothing to report: the limits of this process (a *LimitError), no
// connection at all, or published events that do not arrive.
func Run(ctx context.Context, config Config, onProgress func(Progress)) (*Report, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	if err := config.checkLimits(); err != nil {
		return nil, err
	}
	r := newRun(config)
	for range config.Readers {
		rd, err := newReader(r)
		if err != nil {
			r.stopReaders()
			return nil, err
		}
		r.readers = append(r.readers, rd)
	}
	defer r.stopReaders()
	defer r.disconnect()
	stopc := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(stopc, onProgress) })
	report, err := r.perform(ctx)
	close(stopc)
	watching.Wait()
	if err != nil {
		return nil, err
	}
	r.collect()
	r.fill(report)
	return report, nil
}

func newRun(config Config) *run {
	r := &run{
		config: config, began: time.Now(), id: newRunID(), probeID: newRunID(), resumec: make(chan struct{}),
		ledger: newLedger(config.topicCount()), totals: counts{latency: newLatency()},
		dials: dials{changec: make(chan struct{}, 1), failures: make(map[string]int)},
	}
	r.enter(stageConnecting)
	slab := make([]spoke, config.Spokes)
	reading, stalling := 0, 0
	for i := range slab {
		sp := &slab[i]
		sp.index, sp.fd = i, -1
		// Spread evenly over all, and each kind over the topics.
		sp.stalls = (i+1)*config.stalled()/config.Spokes > i*config.stalled()/config.Spokes
		if sp.stalls {
			sp.topic = stalling % config.topicCount()
			stalling++
		} else {
			sp.topic = reading % config.topicCount()
			reading++
		}
		r.spokes = append(r.spokes, sp)
	}
	return r
}

func (r *run) readerOf(sp *spoke) *reader { return r.readers[sp.index%len(r.readers)] }

func (r *run) stopReaders() {
	for _, rd := range r.readers {
		rd.stop()
	}
}

// perform goes through the phases. The report has what only it knows; fill adds the rest.
func (r *run) perform(ctx context.Context) (*Report, error) {
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	if _, live := r.ledger.underWay(); live == 0 && ctx.Err() == nil {
		return nil, fmt.Errorf("loadgen: no spoke that reads is connected: %s", countedList(r.dials.failedBy()))
	}
	if err := r.openPublisher(ctx); err != nil {
		return nil, fmt.Errorf("loadgen: %w", err)
	}
	defer r.publisher.close()
	r.enter(stageProbing)
	report := &Report{}
	if ctx.Err() == nil {
		if err := r.probe(ctx); err != nil {
			return nil, fmt.Errorf("loadgen: %w", err)
		}
	}
	r.enter(stagePublishing)
	began := now()
	before := r.usage(began)
	r.ledger.lastArrival.Store(began)
	failure := r.publish(ctx)
	published := now()
	r.enter(stageSettling)
	r.settle()
	report.measure(r, before, began, published)
	if failure != nil {
		report.Failure = failure.Error()
	}
	report.EndedEarly = ctx.Err() != nil
	r.enter(stageExamining)
	r.examineStalled()
	return report, nil
}

func (r *run) openPublisher(ctx context.Context) error {
	if r.config.Admin != "" {
		r.publisher = newAdminPublisher(r.config.Admin, r.config.AdminToken, r.config.TLS)
		return nil
	}
	p, err := newSpokePublisher(context.WithoutCancel(ctx), r)
	if err != nil {
		return fmt.Errorf("the publishing spoke cannot connect: %w", err)
	}
	r.publisher = p
	return nil
}
