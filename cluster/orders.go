package cluster

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/alkdev/hub/fanout"
)

// orders are those that this hub has given to others and that are not answered yet.
type orders struct {
	mu sync.Mutex // a leaf
	// +checklocks:mu
	last uint64
	// +checklocks:mu
	waiting map[uint64]waiting
	// +checklocks:mu
	ended bool
}

// waiting is who waits for the answer of a hub.
type waiting struct {
	hub    string
	answer func(error)
}

// add notes who waits for a hub's answer, nil for nobody. It returns the order's number, and reports whether there can be
// an answer still.
func (o *orders) add(hub string, answer func(error)) (no uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	if answer != nil && !o.ended {
		o.waiting[o.last] = waiting{hub, answer}
	}
	return o.last, !o.ended
}

// forget makes that nobody waits.
func (o *orders) forget(no uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.waiting, no)
}

// answered gives the answer to who waits for it, if anybody does still.
func (o *orders) answered(no uint64, err error) {
	o.mu.Lock()
	w, ok := o.waiting[no]
	delete(o.waiting, no)
	o.mu.Unlock()
	if ok {
		w.answer(err)
	}
}

// left answers what a hub has not, which has taken its leave.
func (o *orders) left(hub string) {
	o.mu.Lock()
	var answers []func(error)
	for no, w := range o.waiting {
		if w.hub == hub {
			answers = append(answers, w.answer)
			delete(o.waiting, no)
		}
	}
	o.mu.Unlock()
	for _, answer := range answers {
		answer(fanout.ErrUnanswered)
	}
}

// end answers all.
func (o *orders) end() {
	o.mu.Lock()
	all := o.waiting
	o.waiting, o.ended = nil, true
	o.mu.Unlock()
	for _, w := range all {
		w.answer(fanout.ErrUnanswered)
	}
}

// Send implements fanout.Cluster.
func (m *Member) Send(id string, o fanout.Order, answer func(error)) error {
	hub := id[strings.LastIndexByte(id, '-')+1:]
	switch m.whereabouts(hub) {
	case hubUnknown:
		return fanout.ErrNoSpoke
	case hubLost:
		return fanout.ErrUnanswered
	}
	n := &note{From: m.config.ID, Order: &order{Spoke: id}}
	for i, e := range o.Events {
		if e.Reserved() {
			return &fanout.BatchError{Index: i, Err: fanout.ErrReserved}
		}
		if err := e.Check(); err != nil {
			return &fanout.BatchError{Index: i, Err: err}
		}
	}
	if err := n.setEvents(o.Events); err != nil {
		return err
	}
	if o.Close != nil {
		n.Order.Code, n.Order.Reason = o.Close.Code, o.Close.Reason
	}
	no, ok := m.orders.add(hub, answer)
	if !ok {
		return fanout.ErrUnanswered
	}
	n.Order.No = no
	data, subject := n.encode(), m.config.Format.Control(hub)
	if err := fits(int64(len(data)), m.config.Engine.MaxBytes()); err != nil {
		m.orders.forget(no)
		return err
	}
	fail := func() { m.orders.answered(no, fanout.ErrUnanswered) }
	order := outMessage{note: func() (string, []byte) { return subject, data }, failed: fail}
	if !m.out.put(order, int64(len(data))+messageBytes) {
		m.orders.forget(no)
		return fanout.ErrNotForwarded
	}
	if answer != nil {
		time.AfterFunc(m.config.Timeout, fail)
	}
	return nil
}

// carry does what another hub has ordered, and answers.
func (m *Member) carry(n *note) {
	o := fanout.Order{}
	events, err := n.events()
	if err == nil {
		o.Events = events
		if n.Order.Code != 0 {
			o.Close = &fanout.CloseOrder{Code: n.Order.Code, Reason: n.Order.Reason}
			if !n.Order.Code.Sendable() {
				err = errors.New("cluster: order to close with a code that may not be sent")
			}
		}
	}
	if err == nil {
		err = m.hub.CarryHere(n.Order.Spoke, o)
	}
	reply := note{From: m.config.ID, Answer: newAnswer(n.Order.No, err)}
	subject, data := m.config.Format.Control(n.From), reply.encode()
	m.out.put(outMessage{note: func() (string, []byte) { return subject, data }}, 0)
}

var _ fanout.Cluster = (*Member)(nil)
