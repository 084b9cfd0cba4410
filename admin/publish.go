package admin

import (
	"errors"
	"io"
	"net/http"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// published answers POST: how many events were taken, and how many deliveries they make.
type published struct {
	Accepted int `json:"accepted"`
	Matched  int `json:"matched"` // by spokes of this hub
	// NotForwarded: other hubs do not get them, for they cannot be reached.
	NotForwarded bool `json:"notForwarded,omitempty"`
}

// publish dispatches the events of the body to every spoke that wants them.
func (s *Server) publish(w http.ResponseWriter, r *http.Request) *problem {
	events, p := s.readEvents(w, r)
	if p != nil {
		return p
	}
	receipt, err := s.config.Hub.DispatchBatch(events)
	if err != nil {
		return dispatchProblem(err)
	}
	answer(w, http.StatusOK, published{len(events), receipt.Matched, receipt.NotForwarded})
	return nil
}

// publishToSpoke dispatches the events of the body to one spoke, on whichever hub it is.
func (s *Server) publishToSpoke(w http.ResponseWriter, r *http.Request) *problem {
	if p := s.mayExist(r); p != nil {
		return p
	}
	events, p := s.readEvents(w, r)
	if p != nil {
		return p
	}
	if p := s.carry(r, fanout.Order{Events: events}); p != nil {
		return p
	}
	answer(w, http.StatusOK, published{Accepted: len(events), Matched: len(events)})
	return nil
}

// readEvents reads the body.
func (s *Server) readEvents(w http.ResponseWriter, r *http.Request) ([]codec.Envelope, *problem) {
	lines, p := byLine(r)
	if p != nil {
		return nil, p
	}
	tooBig := newProblem(http.StatusRequestEntityTooLarge, "body_too_large", "the body has more than %d bytes", s.config.MaxBodyBytes)
	if r.ContentLength > s.config.MaxBodyBytes {
		return nil, tooBig // unread
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.config.MaxBodyBytes))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, tooBig
	case err != nil:
		return nil, newProblem(http.StatusBadRequest, "bad_body", "the body could not be read: %v", err)
	}
	return parseBody(body, lines)
}

// dispatchProblem says what the hub had against a batch.
func dispatchProblem(err error) *problem {
	p := newProblem(http.StatusUnprocessableEntity, codec.CodeBadEnvelope, "%v", err)
	switch {
	case errors.Is(err, fanout.ErrReserved):
		p.Code = "reserved"
	case errors.Is(err, fanout.ErrTooLarge), errors.Is(err, fanout.ErrBatchTooLarge):
		p.status, p.Code = http.StatusRequestEntityTooLarge, codec.CodeTooLarge
	case errors.Is(err, fanout.ErrOverloaded):
		p.status, p.Code = http.StatusServiceUnavailable, codec.CodeOverloaded
	case errors.Is(err, fanout.ErrNotForwarded):
		p.status, p.Code = http.StatusServiceUnavailable, "not_forwarded"
	case errors.Is(err, fanout.ErrClosed):
		p.status, p.Code = http.StatusServiceUnavailable, "closed"
	}
	var one *fanout.BatchError
	if errors.As(err, &one) {
		p.Message = codec.Problem(one.Err)
		p.at(one.Index)
	}
	return p
}
