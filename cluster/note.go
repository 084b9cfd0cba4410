package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// beatsName is the control subject that all hubs listen to. Each has another one, by its id.
const beatsName = "hubs"

// note is what hubs tell each other beside events: a line of JSON, and behind it the envelopes of an
// order, byte for byte.
type note struct {
	From   string  `json:"from"`
	Beat   *beat   `json:"beat,omitempty"`
	Order  *order  `json:"order,omitempty"`
	Answer *answer `json:"answer,omitempty"`

	envelopes []byte
}

// beat says that a hub is there.
type beat struct {
	Node string `json:"node"`
	// No counts the hub's beats: one that is missing was lost on the way, with what was beside it.
	No uint64 `json:"no"`
	// Seq is that of the last event before this beat.
	Seq uint64 `json:"seq"`
	// Lost counts what the hub's publishers may take for sent and others do not get: events that were not
	// forwarded, and connections that broke with something in them.
	NotForwarded uint64 `json:"notForwarded"`
	Outages      uint64 `json:"outages"`
	Spokes       int    `json:"spokes"`
	// EveryMillis is how often the hub does so.
	EveryMillis int64 `json:"everyMillis,omitempty"`

	DispatchedPerSec float64 `json:"dispatchedPerSec"`
	DeliveriesPerSec float64 `json:"deliveriesPerSec"`

	Bye bool `json:"bye,omitempty"` // the last
}

// order has a hub do something to a spoke of it.
type order struct {
	No    uint64 `json:"no"`
	Spoke string `json:"spoke"`
	// Sizes are the lengths of the envelopes behind the line.
	Sizes  []int           `json:"sizes,omitempty"`
	Code   codec.CloseCode `json:"code,omitempty"` // of a close; 0 for none
	Reason string          `json:"reason,omitempty"`
}

// answer says what became of an order.
type answer struct {
	No      uint64 `json:"no"`
	Error   string `json:"error,omitempty"` // one of answerErrors
	Index   *int   `json:"index,omitempty"` // of the envelope that it is about
	Message string `json:"message,omitempty"`
}

// answerErrors are the errors that an answer can carry.
var answerErrors = map[string]error{
	"no_spoke": fanout.ErrNoSpoke, "overloaded": fanout.ErrOverloaded, "closed": fanout.ErrClosed,
	"too_large": fanout.ErrTooLarge, "batch_too_large": fanout.ErrBatchTooLarge, "reserved": fanout.ErrReserved,
}

func newAnswer(no uint64, err error) *answer {
	a := &answer{No: no}
	if err == nil {
		return a
	}
	a.Error, a.Message = "other", codec.Problem(err)
	for code, known := range answerErrors {
		if errors.Is(err, known) {
			a.Error = code
		}
	}
	var one *fanout.BatchError
	if errors.As(err, &one) {
		a.Index, a.Message = &one.Index, codec.Problem(one.Err)
	}
	return a
}

// err is what the other hub has said, as fanout.Hub.DispatchBatch would have.
func (a *answer) err() error {
	if a.Error == "" {
		return nil
	}
	err, ok := answerErrors[a.Error]
	if !ok {
		err = errors.New(a.Message)
	}
	if a.Index != nil {
		return &fanout.BatchError{Index: *a.Index, Err: err}
	}
	return err
}

// encode returns the note as a message.
func (n *note) encode() []byte {
	line, err := json.Marshal(n)
	if err != nil {
		panic("cluster: note: " + err.Error()) // all of it is made of our own types
	}
	return append(append(line, '\n'), n.envelopes...)
}

func parseNote(data []byte) (*note, error) {
	line, rest, ok := bytes.Cut(data, []byte{'\n'})
	n := &note{envelopes: rest}
	if err := json.Unmarshal(line, n); err != nil {
		return nil, fmt.Errorf("cluster: note: %w", err)
	}
	if !ok || !validID(n.From) {
		return nil, errForeign
	}
	return n, nil
}

// events returns the envelopes of an order.
func (n *note) events() ([]codec.Envelope, error) {
	events := make([]codec.Envelope, 0, len(n.Order.Sizes))
	rest := n.envelopes
	for _, size := range n.Order.Sizes {
		if size < 0 || size > len(rest) {
			return nil, errForeign
		}
		e, err := codec.ParseEnvelope(rest[:size])
		if err != nil {
			return nil, err
		}
		events, rest = append(events, e), rest[size:]
	}
	return events, nil
}

// setEvents puts envelopes behind the line.
func (n *note) setEvents(events []codec.Envelope) error {
	for _, e := range events {
		before := len(n.envelopes)
		var err error
		if n.envelopes, err = codec.AppendEnvelope(n.envelopes, e); err != nil {
			return err
		}
		n.Order.Sizes = append(n.Order.Sizes, len(n.envelopes)-before)
	}
	return nil
}
