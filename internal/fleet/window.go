package fleet

import (
	"errors"
	"time"
)

// Window is the publisher's view: how many events are out, and how many may be.
type Window struct {
	board                *board
	news                 func() (completed uint64, err error)
	size                 uint64
	published, completed uint64
}

// Stamp gives the next event its number and its time.
func (w *Window) Stamp() uint64 {
	n := w.published
	w.board.slot(n).Store(now())
	w.published++
	w.board.published.Store(w.published)
	return n
}

// Published returns how many events were stamped.
func (w *Window) Published() uint64 { return w.published }

// Full reports whether as many events are out as may be, as far as is known.
func (w *Window) Full() bool { return w.published-w.completed >= w.size }

// Room waits until another event may be published.
func (w *Window) Room() error {
	for w.Full() {
		if err := w.wait(); err != nil {
			return err
		}
	}
	return nil
}

// Drain waits for everything that was published.
func (w *Window) Drain() error {
	for w.completed < w.published {
		if err := w.wait(); err != nil {
			return err
		}
	}
	return nil
}

// wait returns when more events are complete than before.
func (w *Window) wait() (err error) {
	w.completed, err = w.news()
	return err
}

// Load is what is published in a turn.
type Load struct {
	Event  Event
	Window int // MaxWindow if it is 0

	// The turn is over when so many events are out and so much time has passed.
	Events int
	For    time.Duration
	// Every, if not 0, is the time between two events.
	Every time.Duration
	// Burst, if not 0: so many events are published at a time, each burst when the one before has
	// been written, while the clients' process stands still. What is measured is the writing alone,
	// with the clients' core to spare; all of it must fit into the sockets' buffers. The clients read
	// and compare it afterwards.
	Burst int
}

// run publishes the load and waits until all has arrived, or with bursts until it has been written.
// publish sends an event and may keep it back until flush, which is called when the window is full, and
// which with bursts returns when everything has been written.
func (l *Load) run(w *Window, publish func(n uint64) error, flush func() error) error {
	began := now()
	for i := 0; i < l.Events || now()-began < int64(l.For); i++ {
		if l.Every > 0 {
			time.Sleep(time.Duration(began + int64(i)*int64(l.Every) - now()))
		}
		if err := w.Room(); err != nil {
			return err
		}
		if err := publish(w.Stamp()); err != nil {
			return err
		}
		if w.Full() || l.Burst > 0 && (i+1)%l.Burst == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil || l.Burst > 0 {
		return err
	}
	return w.Drain()
}

// Turn is what a load has cost and how it went.
type Turn struct {
	Events, Deliveries uint64
	Bytes              uint64        // of the deliveries
	Writes             uint64        // 0 if the side does not count them
	Wall               time.Duration // from the first event until all has arrived, or been written
	CPU, Clients       time.Duration // user and system time of the side and of the fleet
	P50, P99, Max      time.Duration // from Stamp to read(2)
}

// Side is what is measured: something that sends events to the clients of a fleet.
type Side interface {
	// Measure publishes the load. It returns an error if it does not arrive, or not correctly.
	Measure(Load) (Turn, error)
}

// Source is a side that this process publishes to.
type Source struct {
	Fleet *Fleet
	// Publish sends event n, or keeps it back until Flush, which may be nil if it does not. With bursts
	// Flush returns when everything has been written.
	Publish func(n uint64) error
	Flush   func() error
	// CPU returns the time that what is measured has used, Writes how many write(2) to clients it
	// has made; Writes may be nil.
	CPU    func() time.Duration
	Writes func() uint64
}

// Measure implements Side.
func (s *Source) Measure(l Load) (Turn, error) { return s.Fleet.Measure(l, s.Run) }

// Run publishes the load and waits until all has arrived, which the clients count already: the part of
// Measure for a process that has inherited the fleet. What they say is not in the turn.
func (s *Source) Run(l Load) (t Turn, err error) {
	writes, flush := s.Writes, s.Flush
	if writes == nil {
		writes = func() uint64 { return 0 }
	}
	if flush == nil {
		flush = func() error { return nil }
	}
	w := s.Fleet.Window(l.Window)
	before, began, cpu := writes(), now(), s.CPU()
	err = l.run(w, s.Publish, flush)
	t = Turn{CPU: s.CPU() - cpu, Wall: time.Duration(now() - began), Events: w.published}
	t.Writes = writes() - before
	return t, err
}

// Measure lets the fleet count what run publishes, and puts what it says into run's turn.
func (f *Fleet) Measure(l Load, run func(Load) (Turn, error)) (Turn, error) {
	if l.Window == 0 {
		l.Window = MaxWindow
	}
	before, err := f.Begin(l.Event)
	if err != nil {
		return Turn{}, err
	}
	if l.Burst > 0 {
		f.pause()
	}
	t, err := run(l)
	if l.Burst > 0 {
		f.resume()
		rest := f.Window(l.Window)
		rest.published = f.board.published.Load()
		err = errors.Join(err, rest.Drain())
	}
	after, late := f.Report()
	if err = errors.Join(err, late); err != nil {
		return t, err
	}
	t.Clients, t.Bytes = after.CPU-before.CPU, after.Bytes
	t.Deliveries, t.P50, t.P99, t.Max = after.Deliveries, after.P50, after.P99, after.Max
	return t, nil
}
