package cluster

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/alkdev/hub/fanout"
)

// peers are the other hubs, as far as this one has heard of them.
type peers struct {
	mu sync.Mutex // a leaf
	// +checklocks:mu
	byID map[string]*peer // the goroutine of deliver alone writes
	// +checklocks:mu
	self beat // the last of this hub
}

// peer is another hub.
type peer struct {
	id       string
	beat     beat // the last
	seen     time.Time
	lost     bool
	lostFrom time.Time
}

const (
	// maxPeers bounds the hubs of a cluster, with those that were lost.
	maxPeers = 1024
	// forgetAfter is for how long a lost hub is remembered: it may be there still, and have its spokes.
	forgetAfter = 24 * time.Hour
)

// whereabouts of a hub.
type whereabouts uint8

const (
	hubLive whereabouts = iota
	hubLost
	hubUnknown // there is none
)

// whereabouts returns what is known of a hub.
func (m *Member) whereabouts(id string) whereabouts {
	m.peers.mu.Lock()
	p := m.peers.byID[id]
	lost := p != nil && p.lost
	m.peers.mu.Unlock()
	since := time.Since(*m.since.Load())
	switch {
	case !validID(id):
		return hubUnknown
	case !m.up.Load(), lost:
		return hubLost
	case p != nil:
		return hubLive
	case since > (missedBeats+1)*m.config.Beat:
		return hubUnknown // it would have been heard of
	}
	return hubLost
}

// knows reports whether there is such a hub.
func (m *Member) knows(id string) bool {
	m.peers.mu.Lock()
	defer m.peers.mu.Unlock()
	return m.peers.byID[id] != nil
}

// takeNote does what a note from another hub asks for.
func (m *Member) takeNote(in *inMessage) {
	n, err := parseNote(in.data)
	if err != nil || n.Beat == nil && n.Order == nil && n.Answer == nil {
		m.counts.foreign.Add(1)
		return
	}
	switch {
	case n.From == m.config.ID:
		m.seeMyself(n.Beat, in.at)
	case n.Order != nil:
		m.carry(n)
	case n.Answer != nil:
		m.orders.answered(n.Answer.No, n.Answer.err())
	default:
		m.takeBeat(n.From, *n.Beat, in.at)
	}
}

// twinEvery is how often the log says that another hub has the same id.
const twinEvery = time.Minute

// seeMyself takes a beat of a hub with the id of this one. One that this hub has sent may come back behind a connection that
// has broken; one that it has not is that of another hub, and both take all that the other one sends for their own.
func (m *Member) seeMyself(b *beat, at time.Time) {
	if b == nil || b.No <= m.beatNo.Load() || at.Sub(m.twin) < twinEvery {
		return
	}
	m.twin = at
	m.config.Logger.Error("another hub has the id of this one: neither hears what the other dispatches, start one of them again",
		slog.String("id", m.config.ID), slog.String("hubNode", b.Node))
}

// takeBeat compares a beat with the one before: what is missing between them is told to the spokes.
func (m *Member) takeBeat(id string, b beat, at time.Time) {
	m.peers.mu.Lock()
	p := m.peers.byID[id]
	forgotten, room := "", true
	switch {
	case b.Bye:
		delete(m.peers.byID, id)
	case p == nil:
		if forgotten, room = m.peers.makeRoomLocked(); room {
			m.peers.byID[id] = &peer{id: id, beat: b, seen: at}
		}
	}
	var last beat
	wasLost := false
	if p != nil {
		last, wasLost = p.beat, p.lost
		p.beat, p.seen, p.lost = b, at, false
	}
	m.peers.mu.Unlock()
	delete(m.origin, forgotten)
	if !room {
		return // there are as many as that, and all of them live: its spokes are not reached from here
	}
	logger := m.config.Logger.With(slog.String("hub", id), slog.String("hubNode", b.Node))
	o := m.origin[id]
	tail := o != nil && o.whole && b.Seq > o.seq
	if tail {
		o.seq = b.Seq
	}
	switch {
	case p == nil && !b.Bye:
		logger.Info("another hub is there")
		m.sendBeat(false) // so that it need not wait
	case p == nil:
	case wasLost, b.No != last.No+1, b.NotForwarded != last.NotForwarded, b.Outages != last.Outages, tail:
		logger.Warn("events of another hub are missing", slog.Bool("wasLost", wasLost), slog.Uint64("beats", b.No-last.No-1),
			slog.Uint64("notForwarded", b.NotForwarded-last.NotForwarded), slog.Uint64("outages", b.Outages-last.Outages))
		m.gap(at, 0)
	}
	if b.Bye {
		delete(m.origin, id)
		m.orders.left(id)
		if p != nil {
			logger.Info("another hub has taken its leave")
		}
	}
}

// makeRoomLocked makes that one more hub can be known, if need be by forgetting the one that has been lost for longest. It
// returns that one's id, and reports whether there is room.
func (p *peers) makeRoomLocked() (forgotten string, ok bool) {
	if len(p.byID) < maxPeers {
		return "", true
	}
	var oldest *peer
	for _, other := range p.byID {
		if other.lost && (oldest == nil || other.seen.Before(oldest.seen)) {
			oldest = other
		}
	}
	if oldest == nil {
		return "", false
	}
	delete(p.byID, oldest.id)
	return oldest.id, true
}

// lookAtPeers looks for hubs that have gone silent. While the engine is away all are, and it says nothing.
func (m *Member) lookAtPeers(now time.Time) {
	if !m.up.Load() {
		return
	}
	if now.Sub(m.looked) > 2*m.config.Beat {
		m.awake = now // this hub has stood still: what others have said meanwhile is still to be read
	}
	m.looked = now
	since := *m.since.Load()
	if m.awake.After(since) {
		since = m.awake
	}
	var lost []string
	m.peers.mu.Lock()
	for id, p := range m.peers.byID {
		silent := missedBeats * max(m.config.Beat, time.Duration(p.beat.EveryMillis)*time.Millisecond)
		switch {
		case p.lost && now.Sub(p.lostFrom) > forgetAfter:
			delete(m.peers.byID, id)
			delete(m.origin, id)
		case !p.lost && now.Sub(p.seen) > silent && now.Sub(since) > silent:
			p.lost, p.lostFrom = true, now
			lost = append(lost, id)
		}
	}
	m.peers.mu.Unlock()
	for _, id := range lost {
		m.orders.left(id)
		m.config.Logger.Warn("another hub is lost: it has gone silent without taking its leave", slog.String("hub", id))
	}
	if len(lost) > 0 {
		m.gap(now, 0)
	}
}

// tick looks at the peers and sends a beat, in each interval, until Close.
func (m *Member) tick() {
	ticker := time.NewTicker(m.config.Beat)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			m.in.put(inMessage{kind: inTick, at: now}, 0)
			m.measure(now)
			m.sendBeat(false)
		case <-m.stopc:
			return
		}
	}
}

// rates is what has been counted at the last beat. The goroutine of tick only.
type rates struct {
	at                     time.Time
	dispatched, deliveries uint64
}

// measure makes the next beats say what the hub does now.
func (m *Member) measure(now time.Time) {
	stats := m.hub.Stats()
	r := rates{now, stats.Dispatched, stats.Deliveries}
	seconds := now.Sub(m.rates.at).Seconds()
	m.peers.mu.Lock()
	defer m.peers.mu.Unlock()
	m.peers.self.Node, m.peers.self.Spokes = m.config.Node, stats.Spokes
	if seconds > 0 {
		m.peers.self.DispatchedPerSec = float64(r.dispatched-m.rates.dispatched) / seconds
		m.peers.self.DeliveriesPerSec = float64(r.deliveries-m.rates.deliveries) / seconds
	}
	m.rates = r
}

// sendBeat leaves a beat for the other hubs, which is filled in when it is handed over.
func (m *Member) sendBeat(bye bool) {
	m.out.put(outMessage{note: func() (string, []byte) { // on the goroutine of publish
		if m.left {
			return "", nil // a hub that is heard of again would be missed
		}
		m.left = bye
		m.peers.mu.Lock()
		b := m.peers.self
		m.peers.mu.Unlock()
		b.No, b.Seq, b.Bye = m.beatNo.Add(1), m.seq, bye
		b.NotForwarded, b.Outages = m.counts.notForwarded.Load(), m.counts.outages.Load()
		n := note{From: m.config.ID, Beat: &b}
		return m.allHubs, n.encode()
	}}, 0)
}

// farewellWait bounds for how long the other hubs may take to see a farewell.
const farewellWait = 2 * time.Second

// takeLeave says so to the other hubs, and waits until they have all answered something behind it. What connects this hub
// with others goes with it: when it closes a socket from which it has not read everything, and others go on sending, the
// kernel throws away what they have not read yet.
func (m *Member) takeLeave() {
	m.sendBeat(true)
	ctx, cancel := context.WithTimeout(context.Background(), min(m.config.Timeout, farewellWait))
	defer cancel()
	var answers sync.WaitGroup
	for _, hub := range m.live() {
		answers.Go(func() { _ = m.hub.Carry(ctx, "bye-"+hub, fanout.Order{}) }) // there is no such spoke, which is what it says
	}
	answers.Wait()
}

// live returns the other hubs that are not lost.
func (m *Member) live() (ids []string) {
	m.peers.mu.Lock()
	defer m.peers.mu.Unlock()
	for id, p := range m.peers.byID {
		if !p.lost {
			ids = append(ids, id)
		}
	}
	return ids
}

// Info implements fanout.Cluster.
func (m *Member) Info() fanout.ClusterInfo {
	c := &m.counts
	info := fanout.ClusterInfo{Engine: fanout.EngineInfo{
		Kind: m.config.Engine.Kind(), State: stateAway, Since: *m.since.Load(),
		Server: m.config.Engine.Server(), Topics: int(m.topics.Load()),
		Forwarded: c.forwarded.Load(), NotForwarded: c.notForwarded.Load(), Refused: c.refused.Load(),
		Arrived: c.arrived.Load(), Repeated: c.repeated.Load(), Shed: c.shed.Load(), Foreign: c.foreign.Load(),
		Gaps: c.gaps.Load(), Outages: c.outages.Load(), OutgoingBytes: m.out.size(), IncomingBytes: m.in.size(),
	}}
	if m.up.Load() {
		info.Engine.State = stateUp
	}
	if e, ok := m.config.Engine.(refuser); ok {
		info.Engine.Refusals = e.Refusals()
	}
	m.peers.mu.Lock()
	defer m.peers.mu.Unlock()
	self := m.peers.self
	info.Hubs = append(info.Hubs, fanout.HubInfo{
		ID: m.config.ID, Node: m.config.Node, State: "live", LastSeen: time.Now(), Spokes: m.hub.Stats().Spokes,
		DispatchedPerSec: self.DispatchedPerSec, DeliveriesPerSec: self.DeliveriesPerSec,
	})
	var others []fanout.HubInfo
	for _, p := range m.peers.byID {
		h := fanout.HubInfo{
			ID: p.id, Node: p.beat.Node, State: "live", LastSeen: p.seen, Spokes: p.beat.Spokes,
			DispatchedPerSec: p.beat.DispatchedPerSec, DeliveriesPerSec: p.beat.DeliveriesPerSec,
		}
		if p.lost {
			h.State, h.DispatchedPerSec, h.DeliveriesPerSec = "lost", 0, 0
		}
		others = append(others, h)
	}
	slices.SortFunc(others, func(a, b fanout.HubInfo) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID)) })
	info.Hubs = append(info.Hubs, others...)
	return info
}
