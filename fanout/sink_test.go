package fanout

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// scriptSink is a connection whose kernel takes what the test says: everything, or nothing beyond
// room bytes.
type scriptSink struct {
	mu     sync.Mutex
	spoke  *Spoke
	stall  bool // takes only room more bytes
	room   int
	taken  []byte        // what the kernel took
	kept   []byte        // what the loop keeps
	owed   bool          // Written is to be called
	keptc  chan struct{} // if not nil, 1 deep: something is kept
	broken bool          // Write fails

	cause      Cause
	closed     bool
	writes     int
	lateWrites int // before Written was called: only the rest of a frame, before Close
}

func (k *scriptSink) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writes++
	if k.broken {
		return 0, errors.New("broken")
	}
	if k.closed {
		panic("write after close")
	}
	if k.owed {
		if k.lateWrites++; k.lateWrites > 1 {
			panic("write before the last one has left")
		}
	}
	k.kept = append(k.kept, b...)
	k.moveLocked()
	if k.owed = len(k.kept) > 0; k.owed && k.keptc != nil {
		select {
		case k.keptc <- struct{}{}:
		default:
		}
	}
	return len(k.kept), nil
}

// moveLocked lets the kernel take what it has room for.
func (k *scriptSink) moveLocked() {
	n := len(k.kept)
	if k.stall {
		n = min(n, k.room)
		k.room -= n
	}
	k.taken = append(k.taken, k.kept[:n]...)
	k.kept = k.kept[n:]
}

func (k *scriptSink) Close(cause Cause) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.closed, k.cause = true, cause
		k.kept = append(k.kept, codec.AppendCloseFrame(nil, cause.Code, cause.Reason)...)
		k.moveLocked()
	}
}

func (*scriptSink) Remote() string { return "192.0.2.1:1234" }

// ending returns what Close was called with, if it was.
func (k *scriptSink) ending() (closed bool, code codec.CloseCode, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed, k.cause.Code, k.cause.Reason
}

// block makes the kernel take no more than room bytes from now on.
func (k *scriptSink) block(room int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stall, k.room = true, room
}

// give makes the kernel take n bytes more than it would have. It reports whether that is all that
// was written.
func (k *scriptSink) give(n int) (all bool) {
	k.mu.Lock()
	k.room += n
	return k.takeMore()
}

// resume makes the kernel take everything again.
func (k *scriptSink) resume() {
	k.mu.Lock()
	k.stall = false
	k.takeMore()
}

// takeMore lets the kernel take what there is room for now, unlocks, and says when all has left.
func (k *scriptSink) takeMore() (all bool) {
	k.moveLocked()
	all = len(k.kept) == 0
	done := all && k.owed
	k.owed = k.owed && !all
	k.mu.Unlock()
	if done {
		k.spoke.Written()
	}
	return all
}

// written returns what was written behind the given offset, taken or not, and whether the kernel
// has not taken all of it before the close frame.
func (k *scriptSink) written(offset int) (b []byte, inFlight bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := append(bytes.Clone(k.taken[min(offset, len(k.taken)):]), k.kept[max(0, offset-len(k.taken)):]...)
	return all, len(k.kept) > 0 && !k.closed
}

// frames calls on for every frame that the kernel took. It fails the test if there is half a frame,
// or one after a close frame.
func (k *scriptSink) frames(t testing.TB, on func(op ws.OpCode, payload []byte)) {
	t.Helper()
	k.mu.Lock()
	stream := bytes.NewReader(bytes.Clone(k.taken))
	k.mu.Unlock()
	closed := false
	for stream.Len() > 0 {
		h, err := ws.ReadHeader(stream)
		require.NoError(t, err, "half a header")
		payload := make([]byte, h.Length)
		_, err = io.ReadFull(stream, payload)
		require.NoError(t, err, "half a frame")
		require.True(t, h.Fin)
		require.False(t, h.Masked)
		require.False(t, closed, "a frame after the close frame")
		closed = h.OpCode == ws.OpClose
		on(h.OpCode, inflated(t, h, payload))
	}
}

// inflated returns the message of a frame, which may be compressed.
func inflated(t testing.TB, h ws.Header, payload []byte) []byte {
	t.Helper()
	if h.Rsv == 0 {
		return payload
	}
	require.True(t, h.Rsv1() && h.OpCode.IsData())
	b, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	require.NoError(t, err)
	require.Less(t, len(payload), len(b))
	return b
}

// events returns the envelopes that the kernel took, and the body of the close frame.
func (k *scriptSink) events(t testing.TB) (got []codec.Envelope, closing []byte) {
	t.Helper()
	k.frames(t, func(op ws.OpCode, payload []byte) {
		switch op {
		case ws.OpText, ws.OpBinary:
			e, err := codec.ParseEnvelope(payload)
			require.NoError(t, err)
			got = append(got, e)
		case ws.OpClose:
			closing = payload
		}
	})
	return got, closing
}

// topics returns the topics of the events that the kernel took, without __welcome; a gap as its
// payload.
func (k *scriptSink) topics(t testing.TB) (got []string) {
	t.Helper()
	events, _ := k.events(t)
	for i, e := range events {
		switch e.Type {
		case codec.TypeWelcome:
			require.Zero(t, i, "__welcome is the first event")
		case codec.TypeGap:
			got = append(got, "gap "+string(e.Payload))
		default:
			got = append(got, e.Topic())
		}
	}
	return got
}

// newHub returns a hub that is closed at the end of the test.
func newHub(t testing.TB, c Config) *Hub {
	t.Helper()
	h, err := New(c)
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

// connect attaches a spoke with a sink that takes everything.
func connect(t testing.TB, h *Hub, topics ...string) (*Spoke, *scriptSink) {
	t.Helper()
	var patterns []codec.Pattern
	for _, topic := range topics {
		p, err := codec.ParsePattern(topic)
		require.NoError(t, err)
		patterns = append(patterns, p)
	}
	k := &scriptSink{}
	s := h.NewSpoke(k)
	k.spoke = s
	require.NoError(t, s.Attach(patterns...))
	return s, k
}

// event returns an event with a payload of the given length.
func event(typ, id string, length int) codec.Envelope {
	return codec.Envelope{Type: typ, ID: id, Payload: []byte(`"` + string(bytes.Repeat([]byte("x"), max(0, length-2))) + `"`)}
}

func dispatch(t testing.TB, h *Hub, e codec.Envelope) int {
	t.Helper()
	r, err := h.Dispatch(e)
	require.NoError(t, err)
	return r.Matched
}
