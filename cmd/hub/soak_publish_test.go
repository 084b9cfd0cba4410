package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// The publishers. Each is one goroutine, whose order every spoke has to see.
const (
	byDispatch = iota
	byBatch
	byExcept
	byTo
	bySpoke
	byAdmin
	byAdminSpoke
	byFence
	soakPublishers
	firstSlot = 100
)

// soakPublisher is one goroutine that dispatches, in its own way.
type soakPublisher struct {
	round *soakRound
	by    int
	rng   *rand.Rand
	n     uint64
	k     map[soakTopic]uint64
}

// publish starts the publishers.
func (r *soakRound) publish(stopc <-chan struct{}, wg *sync.WaitGroup) {
	for by, act := range map[int]func(*soakPublisher) error{
		byDispatch: (*soakPublisher).dispatch, byBatch: (*soakPublisher).batch, byExcept: (*soakPublisher).except,
		byTo: (*soakPublisher).to, bySpoke: (*soakPublisher).spoke,
		byAdmin: (*soakPublisher).admin, byAdminSpoke: (*soakPublisher).adminSpoke,
	} {
		p := &soakPublisher{round: r, by: by, rng: r.rng(uint64(by) + 1), k: make(map[soakTopic]uint64)}
		wg.Go(func() { p.run(act, stopc) })
	}
	wg.Go(func() { r.operate(stopc) })
}

// run dispatches in bursts with pauses between them, by which the rate is kept.
func (p *soakPublisher) run(act func(*soakPublisher) error, stopc <-chan struct{}) {
	const meanBurst = 8
	share := p.round.rate / (byFence - byDispatch) // events a second
	for {
		burst := int(p.rng.ExpFloat64()*meanBurst) + 1
		for range burst {
			if err := act(p); err != nil {
				p.round.find("publisher %d: %v", p.by, err)
				return
			}
		}
		pause := time.Duration(p.rng.ExpFloat64() * meanBurst / share * float64(time.Second))
		select {
		case <-time.After(min(pause, 2*time.Second)):
		case <-stopc:
			return
		case <-p.round.ctx.Done():
			return
		}
	}
}

// size draws the length of a padding: mostly small, sometimes more than a chunk if so much may be
// queued.
func (p *soakPublisher) size() int {
	switch n := p.rng.IntN(200); {
	case n == 0:
		return p.rng.IntN(int(min(p.round.config.spokeBuffer/2, 180<<10)))
	case n < 20:
		return p.rng.IntN(6 << 10)
	}
	return p.rng.IntN(400)
}

// next returns an event that is about to be dispatched; taken counts it.
func (p *soakPublisher) next(typ, id, not string) codec.Envelope {
	topic := soakTopic{typ, id}
	m := soakMark{By: p.by, N: p.n, K: p.k[topic], Not: not}
	m.pad(p.rng, p.size())
	p.n++
	p.k[topic]++
	return m.event(typ, id)
}

// taken counts an event that the hub has taken, or takes its number back if it was refused.
func (p *soakPublisher) taken(e codec.Envelope, ok bool) {
	if ok {
		p.round.published.add(e.Type, e.ID)
		return
	}
	p.n--
	p.k[soakTopic{e.Type, e.ID}]--
}

func (p *soakPublisher) broadcast() codec.Envelope {
	return p.next(string(soakTypes[p.rng.IntN(len(soakTypes))]), strconv.Itoa(p.rng.IntN(soakIDs)), "")
}

// refused reports whether err is ErrOverloaded, which is allowed where so little may be held.
func (p *soakPublisher) refused(err error) (bool, error) {
	if err == fanout.ErrOverloaded && p.round.config.totalBuffer < fanout.DefaultTotalBytes {
		return true, nil
	}
	return err != nil, err
}

func (p *soakPublisher) dispatch() error {
	e := p.broadcast()
	_, err := p.round.hub.Dispatch(e)
	refused, err := p.refused(err)
	p.taken(e, !refused)
	return err
}

func (p *soakPublisher) batch() error {
	events := make([]codec.Envelope, 1+p.rng.IntN(6))
	for i := range events {
		events[i] = p.broadcast()
	}
	_, err := p.round.hub.DispatchBatch(events)
	refused, err := p.refused(err)
	for _, e := range events {
		p.taken(e, !refused)
	}
	return err
}

func (p *soakPublisher) except() error {
	s := p.round.anySpoke(p.rng, true)
	if s == nil {
		return nil
	}
	h := p.round.hub
	e := p.next("x", strconv.Itoa(p.rng.IntN(2)), s.id)
	_, err := h.DispatchExcept(h.Spoke(s.id), e) // nil if it has gone: then it is for all
	refused, err := p.refused(err)
	p.taken(e, !refused)
	return err
}

// target returns a spoke, and the next event for it alone. Those of a publisher to one spoke are
// numbered by the spoke's own counter: it ends with it.
func (p *soakPublisher) target() (*soakSpoke, codec.Envelope) {
	s := p.round.anySpoke(p.rng, false)
	if s == nil {
		return nil, codec.Envelope{}
	}
	m := soakMark{By: p.by, N: p.n, K: s.aimed[p.by].Load()}
	m.pad(p.rng, p.size())
	return s, m.event("t", s.id)
}

// aimed counts an event that the hub has taken for s.
func (p *soakPublisher) aimed(s *soakSpoke, ok bool) {
	if ok {
		p.n++
		s.aimed[p.by].Add(1)
	}
}

func (p *soakPublisher) to() error {
	s, e := p.target()
	if s == nil {
		return nil
	}
	found, err := p.round.hub.DispatchTo(s.id, e)
	refused, err := p.refused(err)
	p.aimed(s, found && !refused)
	return err
}

func (p *soakPublisher) spoke() error {
	s, e := p.target()
	if s == nil {
		return nil
	}
	spoke := p.round.hub.Spoke(s.id)
	if spoke == nil {
		return nil
	}
	receipt, err := spoke.Dispatch(e)
	refused, err := p.refused(err)
	p.aimed(s, receipt.Matched == 1 && !refused)
	return err
}

func (p *soakPublisher) admin() error {
	events := make([]codec.Envelope, 1+p.rng.IntN(3))
	for i := range events {
		events[i] = p.broadcast()
	}
	status, err := p.post("/v1/events", events...)
	ok := status == http.StatusOK
	for _, e := range events {
		p.taken(e, ok)
	}
	return p.answered(status, err, http.StatusOK)
}

func (p *soakPublisher) adminSpoke() error {
	s, e := p.target()
	if s == nil {
		return nil
	}
	status, err := p.post("/v1/spokes/"+s.id+"/events", e)
	p.aimed(s, status == http.StatusOK)
	return p.answered(status, err, http.StatusOK, http.StatusNotFound)
}

func (p *soakPublisher) answered(status int, err error, allowed ...int) error {
	if p.round.config.totalBuffer < fanout.DefaultTotalBytes {
		allowed = append(allowed, http.StatusServiceUnavailable)
	}
	for _, ok := range allowed {
		if err == nil && status == ok {
			return nil
		}
	}
	return fmt.Errorf("the admin side says %d: %v", status, err)
}

// post sends events to the admin side, as an array or an envelope a line.
func (p *soakPublisher) post(path string, events ...codec.Envelope) (status int, err error) {
	var body bytes.Buffer
	kind, open, between, end := "application/json", "[", ",", "]"
	if p.rng.IntN(2) == 0 {
		kind, open, between, end = "application/x-ndjson", "", "\n", "\n"
	}
	body.WriteString(open)
	for i, e := range events {
		if i > 0 {
			body.WriteString(between)
		}
		line, err := codec.AppendEnvelope(nil, e)
		if err != nil {
			return 0, err
		}
		body.Write(line)
	}
	body.WriteString(end)
	resp, err := http.Post(p.round.adminURL+path, kind, &body)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// fence sends the last event to a spoke.
func (r *soakRound) fence(s *soakSpoke) {
	spoke := r.hub.Spoke(s.id)
	if spoke == nil {
		return
	}
	m := soakMark{By: byFence}
	receipt, err := spoke.Dispatch(m.event("t", s.id))
	if err != nil {
		r.find("the last event to a spoke: %v", err)
	}
	s.aimed[byFence].Add(uint64(receipt.Matched))
}

// operate does what operators do: close spokes, look at them, read the metrics.
func (r *soakRound) operate(stopc <-chan struct{}) {
	rng := r.rng(50)
	for {
		select {
		case <-time.After(time.Duration(rng.IntN(400)) * time.Millisecond):
		case <-stopc:
			return
		case <-r.ctx.Done():
			return
		}
		s := r.anySpoke(rng, true)
		if s == nil {
			continue
		}
		method, path := http.MethodGet, "/metrics"
		switch rng.IntN(6) {
		case 0:
			method, path = http.MethodDelete, "/v1/spokes/"+s.id+"?code=4100&reason=operator"
		case 1:
			path = "/v1/spokes?limit=1000&sort=queued"
		case 2:
			path = "/v1/spokes/" + s.id
		case 3:
			path = "/livez"
		case 4:
			if spoke := r.hub.Spoke(s.id); spoke != nil {
				spoke.Close(codec.CloseNormal, "enough")
			}
			continue
		}
		req, err := http.NewRequestWithContext(r.ctx, method, r.adminURL+path, nil)
		r.must(err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // the round has ended
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		late := resp.StatusCode == http.StatusServiceUnavailable && bytes.Contains(body, []byte(`"stuck"`)) // see slowestLook
		if resp.StatusCode >= 400 && resp.StatusCode != http.StatusNotFound && !late {
			r.find("%s %s: %s %s", method, path, resp.Status, body)
		}
	}
}
