package peers

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/alkdev/hub/internal/fleet"
)

const (
	payloadBytes = 256
	// checked: one client in so many has its frames compared.
	checked = 64
	// quickAcks is how many reads it takes until the kernel trusts a new connection enough to delay
	// its acknowledgements. Before that a write costs a fifth more.
	quickAcks = 24
)

var windows = []int{1, 4, 64}

// round is what one server showed with one number of clients.
type round struct {
	err       error // why it did not run to the end
	idleBytes float64
	lost      answer
	turns     []fleet.Turn // by window, as many as there were before err
}

// load is how much is published in one turn: for so long, and so many events at least.
type load struct {
	window, events int
	atLeast        time.Duration
}

// trial is a server with its clients and its publisher.
type trial struct {
	message   message
	server    *process
	fleet     *fleet.Fleet
	publisher *publisher
	idleBytes float64 // of one client
}

// begin starts the peer and connects so many clients to it, of which every so manieth is checked. The
// caller ends the trial with end.
func (p *peer) begin(b testing.TB, clients, checked int) (_ *trial, err error) {
	t := &trial{message: p.wire(newEnvelope(payloadBytes))}
	defer func() {
		if err != nil {
			t.end()
		}
	}()
	if t.server, err = p.start(b); err != nil {
		return nil, err
	}
	empty, err := t.server.idleBytes()
	if err != nil {
		return nil, err
	}
	t.fleet = fleet.Launch(b)
	c := p.clients
	c.Address, c.Reading, c.Checked = t.server.address, clients, checked
	if _, err := t.fleet.Connect(c); err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	full, err := t.server.idleBytes()
	if err != nil {
		return nil, err
	}
	t.idleBytes = float64(full-empty) / float64(clients)
	if t.publisher, err = p.dial(t.server.address); err != nil {
		return nil, err
	}
	return t, nil
}

// end stops the processes.
func (t *trial) end() {
	if t.publisher != nil {
		t.publisher.close()
	}
	if t.fleet != nil {
		t.fleet.Stop()
	}
	if t.server != nil {
		t.server.Stop()
	}
}

// measure publishes the load and waits until all of it has arrived.
func (t *trial) measure(l load) (turn fleet.Turn, err error) {
	before, err := t.fleet.Begin(t.message.got)
	if err != nil {
		return turn, err
	}
	w := t.fleet.Window(l.window)
	began, cpu := time.Now(), t.server.CPU()
	for w.Published() < uint64(l.events) || time.Since(began) < l.atLeast {
		if err := t.publisher.publish(w, t.message); err != nil {
			return turn, t.explain(err)
		}
	}
	if err := w.Drain(); err != nil {
		return turn, t.explain(err)
	}
	turn.Wall, turn.CPU, turn.Events = time.Since(began), t.server.CPU()-cpu, w.Published()
	after, err := t.fleet.Report()
	turn.Clients = after.CPU - before.CPU
	turn.Deliveries, turn.P50, turn.P99, turn.Max = after.Deliveries, after.P50, after.P99, after.Max
	return turn, err
}

// measureWarm measures a window that has been filled once before.
func (t *trial) measureWarm(window int, atLeast time.Duration) (turn fleet.Turn, err error) {
	if _, err = t.measure(load{window: window, events: window}); err == nil {
		turn, err = t.measure(load{window: window, events: 2 * window, atLeast: atLeast})
	}
	if err != nil {
		err = fmt.Errorf("window %d: %w", window, err)
	}
	return turn, err
}

// explain adds what the clients have seen.
func (t *trial) explain(err error) error {
	_, seen := t.fleet.Report()
	return errors.Join(err, seen)
}

// try measures a peer once, at every window.
func (p *peer) try(b testing.TB, clients int, atLeast time.Duration) (r round) {
	t, err := p.begin(b, clients, checked)
	if err != nil {
		return round{err: err}
	}
	defer t.end()
	r.idleBytes = t.idleBytes
	_, r.err = t.measure(load{window: 1, events: quickAcks})
	for _, window := range windows {
		if r.err != nil {
			break
		}
		var turn fleet.Turn
		if turn, r.err = t.measureWarm(window, atLeast); r.err == nil {
			r.turns = append(r.turns, turn)
		}
	}
	var err2 error
	if r.lost, err2 = t.server.ask(question{}); err2 != nil {
		r.err = errors.Join(r.err, err2)
	}
	return r
}
