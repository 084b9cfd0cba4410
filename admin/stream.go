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

// source is where the records of a stream come from.
type source interface {
	// Next waits for the next record and returns it as a JSON object in one line, which is the caller's. A
	// record that is there is returned even if ctx is done.
	Next(ctx context.Context) ([]byte, error)
	Close()
}

// stream is one reader of records. It belongs to the goroutine of its request: the source sees to what
// becomes of a slow reader.
type stream struct {
	format  *format
	from    source
	out     http.ResponseWriter
	control *http.ResponseController
	buf     []byte // not written yet

	heartbeat, timeout time.Duration
}

// events tells the reader what spokes do, or with from=hub what they get, from now on until it goes.
func (s *Server) events(w http.ResponseWriter, r *http.Request) *problem {
	values, p := query(r)
	if p != nil {
		return p
	}
	patterns, p := topics(values["topic"])
	if p != nil {
		return p
	}
	switch from := values.Get("from"); from {
	case "", "spokes":
		return s.stream(w, r, func() (source, error) { return s.config.Hub.Tap(patterns...), nil })
	case "hub":
		return s.stream(w, r, func() (source, error) { return newTail(s.config.Hub, r.RemoteAddr, patterns) })
	default:
		return badQuery("from=%.100s, it is one of spokes, hub", from)
	}
}

// stats tells the reader how the hub is doing, from now on until it goes.
func (s *Server) stats(w http.ResponseWriter, r *http.Request) *problem {
	return s.stream(w, r, func() (source, error) { return s.watch.join() })
}

// stream writes what comes from a source.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, open func() (source, error)) *problem {
	form := acceptable(r.Header.Values("Accept"))
	if form == nil {
		return newProblem(http.StatusNotAcceptable, "not_acceptable", "records come as text/event-stream or %s", mediaNDJSON)
	}
	defer s.streams.Add(-1)
	if s.streams.Add(1) > int64(s.config.MaxStreams) {
		return newProblem(http.StatusServiceUnavailable, "too_many_streams", "%d readers are here already", s.config.MaxStreams)
	}
	st := &stream{
		format: form, out: w, control: http.NewResponseController(w),
		heartbeat: s.config.Heartbeat, timeout: s.config.WriteTimeout,
	}
	if r.Method != http.MethodHead {
		var err error
		if st.from, err = open(); errors.Is(err, fanout.ErrClosed) {
			return dispatchProblem(err)
		} else if err != nil {
			return badQuery("%v", err)
		}
		defer st.from.Close()
	}
	h := w.Header()
	h.Set("Content-Type", form.contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // for nginx
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodHead {
		s.finish(st, st.run(r.Context()))
	}
	return nil
}

// topics reads the patterns that a request selects.
func topics(texts []string) ([]codec.Pattern, *problem) {
	var patterns []codec.Pattern
	for _, text := range texts {
		pattern, err := codec.ParsePattern(text)
		if err != nil {
			return nil, newProblem(http.StatusBadRequest, codec.CodeBadTopic, "%v", err)
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}

// run copies records from the source to the reader. It returns why it had to stop.
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

// alreadyDone is a context with which source.Next does not wait.
var alreadyDone = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// gather waits for records, and takes those that are there. If none come in time it is a heartbeat.
func (st *stream) gather(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, st.heartbeat)
	defer cancel()
	record, err := st.from.Next(wait)
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
		record, err = st.from.Next(alreadyDone) // an error that stays comes back the next time
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
	case errors.Is(err, errTailClosed):
		reason = "closed"
	case errors.Is(err, fanout.ErrClosed), s.ending.Err() != nil:
		reason = "shutdown"
	default: // the reader has gone
		return
	}
	st.buf = st.format.frame(st.buf[:0], fmt.Appendf(nil, `{"kind":"end","reason":"%s"}`, reason))
	_ = st.send() // an error cannot be told to anyone
}
