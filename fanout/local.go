package fanout

import (
	"sync"

	"github.com/alkdev/hub/codec"
)

// Local is a spoke without a socket: a part of the same program that takes part in the hub as any
// other spoke does, under the same order, limits and policies. Its methods may be called from any
// goroutine.
type Local struct {
	spoke *Spoke
	fn    func(codec.Envelope)
	workc chan struct{} // 1 deep, never closed

	mu sync.Mutex // a leaf
	// +checklocks:mu
	written []byte // frames that fn has not seen
	// +checklocks:mu
	closed *Cause // set by Close, and by the hub through the sink
}

// Connect attaches a spoke whose events go to fn, one at a time and in order, on a goroutine of its
// own. It begins with what topics select, or like any spoke without them. The hub's own events, such
// as __gap, go to fn as well. fn may call anything on the hub; while it runs, events queue.
func (h *Hub) Connect(fn func(codec.Envelope), topics ...codec.Pattern) (*Local, error) {
	l := &Local{fn: fn, workc: make(chan struct{}, 1)}
	l.spoke = h.NewSpoke((*localSink)(l))
	if err := l.spoke.Attach(topics...); err != nil {
		return nil, err
	}
	go l.run() // ends once closed is set, which Hub.Close does as well
	return l, nil
}

// Spoke returns the spoke, to subscribe, or to be addressed.
func (l *Local) Spoke() *Spoke { return l.spoke }

// Dispatch sends an event to the hub's listeners, as a spoke elsewhere would. They run before it
// returns. The error is a *codec.EnvelopeError, ErrReserved or ErrClosed.
func (l *Local) Dispatch(e codec.Envelope) error {
	if e.Reserved() {
		return ErrReserved
	}
	if err := e.Check(); err != nil {
		return err
	}
	if l.spoke.detached.Load() {
		return ErrClosed
	}
	h := l.spoke.shard.hub
	h.received.Add(1)
	h.emit(l.spoke, e)
	return nil
}

// Close takes the spoke from the hub. fn is not called for events dispatched later; it may be under
// way. Later calls do nothing.
func (l *Local) Close() {
	l.end(CauseOf(PeerSide, codec.CloseNormal, ""))
}

func (l *Local) end(c Cause) {
	l.mu.Lock()
	if l.closed == nil {
		l.closed = &c
	}
	l.mu.Unlock()
	l.wake()
}

func (l *Local) wake() {
	select {
	case l.workc <- struct{}{}:
	default:
	}
}

// run gives events to fn.
func (l *Local) run() {
	h := l.spoke.shard.hub
	var rest []byte // the beginning of a frame that is larger than a write
	for range l.workc {
		l.mu.Lock()
		frames, closed := l.written, l.closed
		l.written = nil
		l.mu.Unlock()
		written := len(frames) > 0
		if len(rest) > 0 {
			frames = append(rest, frames...)
		}
		rest = codec.EachMessage(frames, func(payload []byte) {
			if e, err := codec.ParseEnvelope(payload); err == nil {
				h.contain("Local", func() { l.fn(e) })
			}
		})
		if written {
			l.spoke.Written()
		}
		if closed != nil {
			l.spoke.Detach(*closed)
			return
		}
	}
}

// localSink is the Sink of a Local.
type localSink Local

// Write implements Sink.
func (k *localSink) Write(b []byte) (kept int, err error) {
	l := (*Local)(k)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return 0, ErrClosed
	}
	l.written = append(l.written, b...)
	l.wake()
	return len(l.written), nil
}

// Close implements Sink.
func (k *localSink) Close(cause Cause) { (*Local)(k).end(cause) }

// Remote implements Sink.
func (*localSink) Remote() string { return "local" }
