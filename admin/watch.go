package admin

import (
	"context"
	"sync"
	"time"

	"github.com/bytedance/sonic"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// watch tells the pages how the hub is doing, through a hub of their own: a sample is an event that is
// encoded once for all of them, each page is a spoke without a socket, and for one that is slow only the
// newest sample stays. It exists, and samples are taken, only while there is a page.
type watch struct {
	server *Server

	mu sync.Mutex // held while a watching begins or ends
	// +checklocks:mu
	pages int
	// +checklocks:mu
	now *watching // nil without pages
}

// watching is a watch from its first page to its last.
type watching struct {
	hub    *fanout.Hub
	ctx    context.Context // done when it ends
	cancel context.CancelFunc
	endedc chan struct{} // closed by run
}

// watched is one page's part of a watching, as a source of records.
type watched struct {
	watch    *watch
	watching *watching
	local    *fanout.Local
	recordc  chan []byte   // from take to Next, never closed
	gonec    chan struct{} // closed by Close
}

// join returns the samples from now on, the first at once if nobody has been looking.
func (w *watch) join() (*watched, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.pages == 0
	if first {
		hub, err := fanout.New(fanout.Config{
			Shards: 1, Policy: fanout.Conflate, Logger: w.server.config.Logger,
			Limits: fanout.Limits{SpokeBytes: 1 << 20, SpokeLag: 2 * w.server.config.SampleEvery, TotalBytes: 16 << 20},
		})
		if err != nil {
			return nil, err
		}
		w.now = &watching{hub: hub, endedc: make(chan struct{})}
		w.now.ctx, w.now.cancel = context.WithCancel(w.server.ending)
	}
	page := &watched{watch: w, watching: w.now, recordc: make(chan []byte), gonec: make(chan struct{})}
	var err error
	page.local, err = w.now.hub.Connect(page.take)
	if err != nil {
		return nil, err // never the first
	}
	w.pages++
	if first {
		go w.now.run(w.server) // ends with the last page, or with the server
	}
	return page, nil
}

// run takes samples until the watching ends.
func (wg *watching) run(s *Server) {
	defer close(wg.endedc)
	defer wg.hub.Close()
	sampler := newSampler(s)
	tick := time.NewTicker(s.config.SampleEvery)
	defer tick.Stop()
	for at := time.Now(); !s.config.Hub.Closed(); {
		wg.dispatch(sampler.take(at, s.slowest(wg.ctx)))
		select {
		case at = <-tick.C:
		case <-wg.ctx.Done():
			return
		}
	}
}

// dispatch sends a sample to the pages.
func (wg *watching) dispatch(sm *sample) {
	payload, err := sonic.ConfigDefault.Marshal(sm)
	if err != nil {
		panic("admin: sample: " + err.Error()) // all of it is made of our own types
	}
	_, _ = wg.hub.Dispatch(codec.Envelope{Type: "stats", Payload: payload}) // what is too large, or too late, is the next one's to say
}

// slowest returns the slowest spokes, nil if the shards do not answer in time.
func (s *Server) slowest(ctx context.Context) []fanout.SpokeInfo {
	infoc := make(chan []fanout.SpokeInfo, 1)
	if !s.inspection.run(ctx, s.config.Patience, func() { infoc <- s.config.Hub.Slowest(sampledSpokes) }) {
		return nil
	}
	return <-infoc
}

// take is called by the page's local, for which the next events queue meanwhile.
func (p *watched) take(e codec.Envelope) {
	if e.Reserved() {
		return
	}
	select {
	case p.recordc <- e.Payload:
	case <-p.gonec:
	}
}

// Next implements source.
func (p *watched) Next(ctx context.Context) ([]byte, error) {
	select {
	case record := <-p.recordc:
		return record, nil
	default:
	}
	select {
	case record := <-p.recordc:
		return record, nil
	case <-p.watching.endedc:
		return nil, fanout.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close implements source.
func (p *watched) Close() {
	close(p.gonec)
	p.local.Close()
	w := p.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages--; w.pages == 0 {
		w.now.cancel()
		w.now = nil
	}
}
