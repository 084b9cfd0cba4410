package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bytedance/sonic"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// The bounds on what a tail keeps: nobody can read more, and the hub has better things to do.
const (
	tailPerSec = 500
	tailBytes  = 256 << 10
)

// errTailClosed is the end of a tail that an operator has closed like any spoke.
var errTailClosed = errors.New("admin: the tail was closed")

// tail is what a spoke with some topics gets, as a source of records: the hub takes it for one. Of what is
// more than it keeps it counts the rest, and says so in a gap. So it is never slow, and no policy applies.
type tail struct {
	spoke  *fanout.Spoke // set by newTail
	reader string        // who it is for
	readyc chan struct{} // 1 deep, never closed

	// The spoke's shard only.
	rest []byte // the beginning of a frame that is larger than a write

	mu sync.Mutex // a leaf
	// +checklocks:mu
	queue [][]byte // envelopes of events and gaps
	// +checklocks:mu
	bytes int // of the queue
	// +checklocks:mu
	missed codec.Gap // behind the queue
	// +checklocks:mu
	second time.Time // when the second began in which they are counted
	// +checklocks:mu
	inSecond int
	// +checklocks:mu
	err error // why nothing more comes
}

// newTail attaches a tail, of everything if there are no patterns.
func newTail(hub *fanout.Hub, reader string, patterns []codec.Pattern) (*tail, error) {
	if len(patterns) == 0 {
		everything, err := codec.ParsePattern("*")
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, everything)
	}
	t := &tail{reader: reader, readyc: make(chan struct{}, 1)}
	t.spoke = hub.NewSpoke((*tailSink)(t))
	return t, t.spoke.Attach(patterns...)
}

// Next implements source.
func (t *tail) Next(ctx context.Context) ([]byte, error) {
	for {
		record, wait, err := t.pop(time.Now())
		if record != nil || err != nil {
			return record, err
		}
		var timeout <-chan time.Time
		if wait > 0 {
			timeout = time.After(wait)
		}
		select {
		case <-t.readyc:
		case <-timeout:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pop returns the next record, or how long to wait for one that says what is missing: that is known only
// once the second is over.
func (t *tail) pop(now time.Time) (record []byte, wait time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) > 0 {
		envelope := t.queue[0]
		t.queue[0], t.queue = nil, t.queue[1:]
		t.bytes -= len(envelope)
		if isType(envelope, codec.TypeGap) {
			record, err := gapRecord(readGap(envelope))
			return record, 0, err
		}
		return fmt.Appendf(nil, `{"kind":"event","event":%s}`, envelope), 0, nil
	}
	if t.missed != (codec.Gap{}) {
		if wait := t.second.Add(time.Second).Sub(now); wait > 0 && t.err == nil {
			return nil, wait, nil
		}
		record, err := gapRecord(t.missed)
		t.missed = codec.Gap{}
		return record, 0, err
	}
	return nil, 0, t.err
}

// Close implements source.
func (t *tail) Close() { t.spoke.Detach(fanout.CauseOf(fanout.PeerSide, codec.CloseNormal, "")) }

// keepLocked keeps an envelope if there is room: an event, or what the hub says is missing in between.
func (t *tail) keepLocked(envelope []byte) {
	if isType(envelope, codec.ReservedPrefix) && !isType(envelope, codec.TypeGap) {
		return
	}
	full := t.inSecond >= tailPerSec || len(t.queue) > 0 && t.bytes+len(envelope) > tailBytes
	if full || t.missed != (codec.Gap{}) { // no event is to stand before what is missing before it
		t.missLocked(envelope)
		return
	}
	t.inSecond++
	t.bytes += len(envelope)
	t.queue = append(t.queue, oneLine(envelope))
}

// missLocked counts an envelope that is not kept.
func (t *tail) missLocked(envelope []byte) {
	t.missed.Reason = "tail"
	if !isType(envelope, codec.TypeGap) {
		t.missed.Dropped++
		return
	}
	gap := readGap(envelope)
	t.missed.Dropped += gap.Dropped
	t.missed.Conflated += gap.Conflated
}

// readGap returns the payload of a gap that the hub has written.
func readGap(envelope []byte) (gap codec.Gap) {
	if e, err := codec.ParseEnvelope(envelope); err == nil {
		_ = sonic.Unmarshal(e.Payload, &gap)
	}
	return gap
}

func gapRecord(gap codec.Gap) ([]byte, error) {
	return sonic.ConfigDefault.Marshal(fanout.Record{
		Kind: fanout.RecordGap, Dropped: gap.Dropped, Conflated: gap.Conflated, Reason: gap.Reason,
	})
}

// isType reports whether the type of an envelope begins with prefix. The hub writes it first.
func isType(envelope []byte, prefix string) bool {
	typ, ok := bytes.CutPrefix(envelope, []byte(`{"type":"`))
	return ok && bytes.HasPrefix(typ, []byte(prefix))
}

// oneLine returns a copy of some JSON without line breaks, which it has only between tokens.
func oneLine(json []byte) []byte {
	line := bytes.Clone(json)
	for i, c := range line {
		if c == '\n' || c == '\r' {
			line[i] = ' '
		}
	}
	return line
}

// tailSink is the Sink of a tail, which takes everything at once.
type tailSink tail

// Write implements fanout.Sink.
func (k *tailSink) Write(b []byte) (kept int, err error) {
	t := (*tail)(k)
	if len(t.rest) > 0 {
		b = append(t.rest, b...)
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return 0, t.err
	}
	if now.Sub(t.second) >= time.Second {
		t.second, t.inSecond = now, 0
	}
	t.rest = bytes.Clone(codec.EachMessage(b, t.keepLocked))
	t.signal()
	return 0, nil
}

// Close implements fanout.Sink.
func (k *tailSink) Close(cause fanout.Cause) {
	t := (*tail)(k)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.err != nil:
	case cause.Code == codec.CloseGoingAway:
		t.err = fanout.ErrClosed
	default:
		t.err = errTailClosed
	}
	t.signal()
}

// Remote implements fanout.Sink.
func (k *tailSink) Remote() string { return "tail for " + k.reader }

func (t *tail) signal() {
	select {
	case t.readyc <- struct{}{}:
	default:
	}
}
