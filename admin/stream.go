package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// streamBytes is how much of what waits is written at once, and a record more.
const streamBytes = 32 << 10

// stream is one reader of GET /v1/events. It belongs to the goroutine of its request: the tap between
// it and the spokes treats a slow reader as a slow spoke is treated.
type stream struct {
	format  *format
	tap     *fanout.Tap
	out     http.ResponseWriter
	control *http.ResponseController
	buf     []byte // not written yet

	heartbeat, timeout time.Duration
}

// stream tells the reader what spokes do, from now on until it goes.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) *problem {
	form := acceptable(r.Header.Values("Accept"))
	if form == nil {
		return newProblem(http.StatusNotAcceptable, "not_acceptable", "events come as text/event-stream or %s", mediaNDJSON)
	}
	patterns, p := topics(r)
	if p != nil {
		return p
	}
	defer s.streams.Add(-1)
	if s.streams.Add(1) > int64(s.config.MaxStreams) {
		return newProblem(http.StatusServiceUnavailable, "too_many_streams", "%d readers are here already", s.config.MaxStreams)
	}
	h := w.Header()
	h.Set("Content-Type", form.contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // for nginx
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return nil
	}
	st := &stream{
		format: form, tap: s.config.Hub.Tap(patterns...), out: w, control: http.NewResponseController(w),
		heartbeat: s.config.Heartbeat, timeout: s.config.WriteTimeout,
	}
	defer st.tap.Close()
	s.finish(st, st.run(r.Context()))
	return nil
}

// topics reads the patterns that a request selects.
func topics(r *http.Request) ([]codec.Pattern, *problem) {
	values, p := query(r)
	if p != nil {
		return nil, p
	}
	var patterns []codec.Pattern
	for _, topic := range values["topic"] {
		pattern, err := codec.ParsePattern(topic)
		if err != nil {
			return nil, newProblem(http.StatusBadRequest, codec.CodeBadTopic, "%v", err)
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}

// run copies records from the tap to the reader. It returns why it had to stop.
func (st *stream) run(ctx context.Context) error {
	for {
		if err := st.send(); err != nil { // at first the head alone
			return err
		}
		if err := st.gather(ctx); err != nil {
			return err
		}
	}
}

// alreadyDone is a context with which Tap.Next does not wait.
var alreadyDone = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// gather waits for records, and takes those that are there. If none come in time it is a heartbeat.
func (st *stream) gather(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, st.heartbeat)
	defer cancel()
	record, err := st.tap.Next(wait)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		st.buf = append(st.buf, st.format.heartbeat...)
		return nil
	}
	if err != nil {
		return err
	}
	for err == nil {
		st.buf = st.format.frame(st.buf, record)
		if len(st.buf) >= streamBytes {
			break
		}
		record, err = st.tap.Next(alreadyDone) // an error that stays comes back the next time
	}
	return nil
}

// send writes and flushes the buffer. A reader that takes nothing holds this goroutine for the
// timeout and no longer.
func (st *stream) send() error {
	if err := st.control.SetWriteDeadline(time.Now().Add(st.timeout)); err != nil {
		return err
	}
	if len(st.buf) > 0 {
		_, err := st.out.Write(st.buf)
		st.buf = st.buf[:0]
		if err != nil {
			return err
		}
	}
	return st.control.Flush()
}

// finish says in a last record why the stream ends, if its reader can still be told.
func (s *Server) finish(st *stream, err error) {
	var reason string
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // of a write, whose rest cannot be written any more
		s.slowStreams.Add(1)
		return
	case errors.Is(err, fanout.ErrTapSlow):
		s.slowStreams.Add(1)
		reason = "slow"
	case errors.Is(err, fanout.ErrClosed), s.ending.Err() != nil:
		reason = "shutdown"
	default: // the reader has gone
		return
	}
	st.buf = st.format.frame(st.buf[:0], fmt.Appendf(nil, `{"kind":"end","reason":"%s"}`, reason))
	_ = st.send() // an error cannot be told to anyone
}
