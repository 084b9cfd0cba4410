package cluster

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Member is one hub's part in a cluster. It implements fanout.Cluster: give it to the hub as
// fanout.Config.Cluster, then Start it with the hub.
type Member struct {
	// Set by New and Start, read-only afterwards.
	config     Config
	hub        *fanout.Hub
	interest   *interest
	out        *outgoing
	in         *incoming
	allHubs    string        // the subject of beats
	thisHub    string        // the subject of orders and answers
	everything string        // the name of the subscription to all events
	stopc      chan struct{} // closed by Close
	upc        chan struct{} // closed when the engine has been there for the first time
	running    sync.WaitGroup
	closing    sync.Once
	firstUp    sync.Once

	// Any goroutine, atomically.
	counts counts
	topics atomic.Int64
	up     atomic.Bool
	since  atomic.Pointer[time.Time] // of up
	beatNo atomic.Uint64             // of the last beat; publish counts
	// leaving: Close has been called, and nothing more is forwarded.
	leaving atomic.Bool
	// maxBytes is the largest event that the engine takes, as the length of its frame; 0 for any.
	maxBytes atomic.Int64

	// The goroutine of publish only.
	seq     uint64 // of the last event given to the engine
	left    bool   // the farewell has been handed over: there are no more beats
	message []byte // the one being handed over

	orders orders
	peers  peers

	// The goroutine of deliver only.
	batch  batch
	origin map[string]*origin
	whole  bool      // everything is asked for, and will be
	looked time.Time // when it was last looked for hubs that have gone silent
	awake  time.Time // since when that has been done each time
	twin   time.Time // when it was last logged that there is another hub with the same id

	rates rates // the goroutine of tick only
}

// counts are what fanout.EngineInfo shows.
type counts struct {
	forwarded, notForwarded, refused       atomic.Uint64
	arrived, repeated, shed, foreign, gaps atomic.Uint64
	outages                                atomic.Uint64
}

// New returns a member that does nothing yet.
func New(c Config) (*Member, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	m := &Member{
		config: c, interest: newInterest(c.Format, c.Linger),
		out: &outgoing{newQueue[outMessage](c.QueueBytes)}, in: &incoming{newQueue[inMessage](c.QueueBytes)},
		allHubs: c.Format.Control(beatsName), thisHub: c.Format.Control(c.ID),
		everything: c.Format.Subscriptions(codec.Everything)[0].Name,
		stopc:      make(chan struct{}), upc: make(chan struct{}), origin: make(map[string]*origin),
	}
	m.orders.waiting = make(map[uint64]waiting)
	m.peers.byID, m.peers.self.Node = make(map[string]*peer), c.Node
	m.peers.self.EveryMillis = c.Beat.Milliseconds()
	now := time.Now()
	m.since.Store(&now)
	return m, nil
}

// Start joins the hub, whose Config.Cluster the member is, to the others. It does not wait for the
// engine. The error is about the engine's configuration; then the member is closed.
func (m *Member) Start(hub *fanout.Hub) error {
	m.hub = hub
	m.rates.at = time.Now()
	if err := m.config.Engine.Start((*handler)(m)); err != nil {
		close(m.stopc)
		m.closing.Do(func() {})
		return fmt.Errorf("cluster: %w", err)
	}
	m.config.Engine.Subscribe(Subject{Name: m.allHubs}, Subject{Name: m.thisHub})
	m.running.Go(func() {
		asking := func(whole bool) { m.in.put(inMessage{kind: inAsking, whole: whole}, 0) }
		m.interest.run(m.config.Engine, m.stopc, asking, func(n int) { m.topics.Store(int64(n)) })
	})
	m.running.Go(m.deliver)
	m.running.Go(m.tick)
	m.running.Go(m.publish)
	return nil
}

// Await waits until the engine is there for the first time, or ctx is done. It reports whether it is.
func (m *Member) Await(ctx context.Context) bool {
	select {
	case <-m.upc:
		return true
	case <-ctx.Done():
		return false
	}
}

// Up reports whether the engine is there.
func (m *Member) Up() bool { return m.up.Load() }

// Close hands over what waits, takes leave of the other hubs, and ends the connection to the engine. Later
// calls do nothing. What is dispatched at the hub from then on stays there.
func (m *Member) Close() {
	m.closing.Do(func() {
		m.leaving.Store(true)
		if _, direct := m.config.Engine.(refuser); direct && m.up.Load() {
			m.takeLeave()
		}
		close(m.stopc)
		m.running.Wait()
		m.config.Engine.Close()
		m.up.Store(false)
		m.orders.end()
	})
}

// ID implements fanout.Cluster.
func (m *Member) ID() string { return m.config.ID }

// Want implements fanout.Cluster.
func (m *Member) Want(p codec.Pattern, n int) { m.interest.want(p, n) }

// Forward implements fanout.Cluster.
func (m *Member) Forward(frames ...*codec.Frame) (forwarded bool, err error) {
	tooLarge := m.tooLarge(frames)
	if tooLarge == nil && m.up.Load() && !m.leaving.Load() && m.out.events(frames) {
		return true, nil
	}
	n := uint64(len(frames))
	if m.config.Refuse {
		m.counts.refused.Add(n)
		return false, cmp.Or(tooLarge, fanout.ErrNotForwarded)
	}
	m.counts.notForwarded.Add(n)
	return false, nil
}

// tooLarge returns an error if one of the events is larger than the engine takes.
func (m *Member) tooLarge(frames []*codec.Frame) error {
	most := m.maxBytes.Load()
	for _, f := range frames {
		if err := fits(int64(f.Len()), most); err != nil {
			return err
		}
	}
	return nil
}

// fits returns an error if a message of n bytes is larger than the most that the engine takes, 0 for any.
func fits(n, most int64) error {
	if most > 0 && n > most {
		return fmt.Errorf("%w: other hubs are reached with %d bytes at most", fanout.ErrTooLarge, most)
	}
	return nil
}

// publish gives the engine what waits for it, until Close; then the rest, and a farewell.
func (m *Member) publish() {
	var messages []outMessage
	ending := false
	for {
		messages = m.out.take(messages)
		for i := range messages {
			m.handOver(&messages[i])
		}
		if len(messages) > 0 {
			m.config.Engine.Flush()
			continue
		}
		if ending {
			return
		}
		select {
		case <-m.out.wakec:
		case <-m.stopc:
			ending = true
			m.sendBeat(true)
		}
	}
}

// handOver gives the engine one message.
func (m *Member) handOver(o *outMessage) {
	if o.note != nil {
		subject, data := o.note()
		if subject == "" {
			return // there is nothing to say any more
		}
		if err := m.config.Engine.Publish(subject, data); err != nil && o.failed != nil {
			o.failed()
		}
		return
	}
	m.seq++ // also if it fails: that one is missing is then seen where it should have arrived
	subject, ok := m.config.Format.Subject(o.frame.Type(), o.frame.ID())
	if ok {
		m.message = m.config.Format.Append(m.message[:0], o.frame.Message(), Stamp{m.config.ID, m.seq})
		ok = m.config.Engine.Publish(subject, m.message) == nil
	}
	if !ok {
		m.counts.notForwarded.Add(1)
		return
	}
	m.counts.forwarded.Add(1)
}

// handler is a Member as its Engine sees it.
type handler Member

// Receive implements Handler.
func (h *handler) Receive(source, subject string, data []byte) {
	m := (*Member)(h)
	if subject == m.allHubs || subject == m.thisHub {
		switch n := (inMessage{kind: inNote, data: data, at: time.Now()}); {
		case source != subject: // by a subscription to everything as well
		case subject == m.allHubs:
			m.in.put(n, 0)
		default:
			m.in.bounded(n)
		}
		return
	}
	m.in.bounded(inMessage{kind: inEvent, source: source, subject: subject, data: data})
}

// Up implements Handler.
func (h *handler) Up() {
	m := (*Member)(h)
	now := time.Now() // before anybody sees it: a spoke that comes then is not told of a gap
	m.since.Store(&now)
	if most := m.config.Engine.MaxBytes(); most > 0 {
		m.maxBytes.Store(max(1, most-int64(maxStampBytes)))
	}
	m.up.Store(true)
	m.in.put(inMessage{kind: inUp, at: now}, 0)
	m.firstUp.Do(func() { close(m.upc) })
	m.config.Logger.Info("engine is there", slog.String("engine", m.config.Engine.Kind()), slog.String("server", m.config.Engine.Server()))
}

// Down implements Handler.
func (h *handler) Down(cause error) {
	m := (*Member)(h)
	now := time.Now()
	m.since.Store(&now)
	m.up.Store(false)
	m.counts.outages.Add(1)
	m.in.put(inMessage{kind: inDown, at: now}, 0)
	m.config.Logger.Error("engine is away, events stay on this hub", slog.String("engine", m.config.Engine.Kind()), slog.Any("error", cause))
}

// Met implements Handler: the two need not wait for the next beat to know each other.
func (h *handler) Met() { (*Member)(h).sendBeat(false) }

// Lost implements Handler.
func (h *handler) Lost(n uint64, hub string) {
	(*Member)(h).in.put(inMessage{kind: inShed, shed: &shed{count: n, hub: hub}}, 0)
}
