// Package logqueue keeps a log that cannot be written, into a full disk or a pipe that nobody reads, from
// stopping who logs.
package logqueue

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Writer hands lines to another writer, in order and in a goroutine of its own. What waits for it is
// bounded: lines beyond that are dropped, and in their place the log says how many. Write never blocks
// and never fails. It may be called from any goroutine, with a whole line each time.
type Writer struct {
	// Set by New, read-only afterwards.
	out    io.Writer
	limit  int64
	missed func(lines uint64) []byte
	donec  chan struct{} // closed by run

	// Any goroutine, atomically.
	dropped, failed atomic.Uint64

	mu sync.Mutex // a leaf
	// +checklocks:mu
	queue []line
	// +checklocks:mu
	bytes int64 // of queue
	// +checklocks:mu
	missing uint64 // lines dropped behind the last of queue
	// +checklocks:mu
	closed bool
	more   sync.Cond // queue or closed has changed

	// The goroutine of run only.
	unsaid uint64 // lines lost since something was written
	torn   bool   // what was written last ends within a line
}

// line is one that waits, and how many were dropped before it.
type line struct {
	text    []byte
	missing uint64
}

// lineBytes is what a line takes beside its text.
const lineBytes = 64

// New returns a writer that lets so many bytes wait for out. missed returns the line that says how many
// have been lost. Close ends its goroutine.
func New(out io.Writer, limitBytes int64, missed func(lines uint64) []byte) *Writer {
	w := &Writer{out: out, limit: limitBytes, missed: missed, donec: make(chan struct{})}
	w.more.L = &w.mu
	go w.run() // ends once Close was called and everything is written
	return w
}

// Write queues a copy of b, or drops it. It implements io.Writer.
func (w *Writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := int64(len(b)) + lineBytes
	if w.closed || w.bytes+size > w.limit {
		w.missing++
		w.dropped.Add(1)
		return len(b), nil
	}
	w.queue = append(w.queue, line{append([]byte(nil), b...), w.missing})
	w.bytes += size
	w.missing = 0
	w.more.Signal()
	return len(b), nil
}

// Dropped returns how many lines were lost because too much was waiting, and Failed how many because
// they could not be written.
func (w *Writer) Dropped() uint64 { return w.dropped.Load() }

// Failed is described at Dropped.
func (w *Writer) Failed() uint64 { return w.failed.Load() }

// Close waits until everything is written, but not longer than patience, and reports whether it is. Lines
// that come later are dropped. A writer that hangs keeps its goroutine.
func (w *Writer) Close(patience time.Duration) bool {
	w.mu.Lock()
	w.closed = true
	w.more.Signal()
	w.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.donec:
		return true
	case <-timer.C:
		return false
	}
}

// run is the goroutine that writes.
func (w *Writer) run() {
	defer close(w.donec)
	for {
		lines, missing, ok := w.take()
		for _, l := range lines {
			w.say(l.missing)
			w.put(l.text)
			w.mu.Lock()
			w.bytes -= int64(len(l.text)) + lineBytes
			w.mu.Unlock()
		}
		if missing > 0 {
			w.say(missing)
		}
		if !ok {
			return
		}
	}
}

// take waits for lines, and reports false when there will be no more. missing is how many were dropped
// behind them, if nothing is going to wait any more.
func (w *Writer) take() (lines []line, missing uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 && w.missing == 0 && !w.closed {
		w.more.Wait()
	}
	lines, w.queue = w.queue, nil
	if len(lines) == 0 { // all that waited has been written
		missing, w.missing = w.missing, 0
	}
	return lines, missing, !w.closed || len(lines) > 0
}

// say writes that lines are missing here.
func (w *Writer) say(missing uint64) {
	w.unsaid += missing
	if w.unsaid > 0 && w.write(w.missed(w.unsaid)) {
		w.unsaid = 0
	}
}

// put writes a line.
func (w *Writer) put(text []byte) {
	if w.unsaid > 0 || !w.write(text) { // what is missing has to be said first
		w.unsaid++
		w.failed.Add(1)
	}
}

// write reports whether all of b could be written, which begins a line.
func (w *Writer) write(b []byte) bool {
	if w.torn {
		if n, err := w.out.Write([]byte("\n")); n == 0 || err != nil {
			return false
		}
		w.torn = false
	}
	n, err := w.out.Write(b)
	w.torn = n > 0 && n < len(b)
	return err == nil && n == len(b)
}
