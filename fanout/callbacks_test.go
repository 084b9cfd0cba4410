package fanout

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// say lets a spoke send an event.
func say(s *Spoke, topic string) {
	typ, id, _ := codec.SplitTopic(topic)
	s.Receive(fmt.Appendf(nil, `{"type":%q,"id":%q,"payload":{"n":1}}`, typ, id))
}

// diary is what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lines
}

func TestSpokesLiveFromOnConnectionToOnDisconnection(t *testing.T) {
	var d diary
	h := newHub(t, Config{
		OnConnection:    func(s *Spoke) { d.note("connected %s %s", s.ID(), s.Remote()) },
		OnDisconnection: func(s *Spoke, c Cause) { d.note("disconnected %s: %s", s.ID(), c) },
	})
	_, err := h.AddListener("*", func(s *Spoke, e codec.Envelope) { d.note("%s from %s", e.Topic(), s.ID()) })
	require.NoError(t, err)
	s, _ := connect(t, h)
	say(s, "a:1")
	say(s, "a:2")
	var detaching sync.WaitGroup
	for range 10 {
		detaching.Go(func() { s.Detach(CauseOf(PeerSide, codec.CloseNormal, "bye")) })
	}
	detaching.Wait()
	id := s.ID()
	require.Equal(t, []string{
		"connected " + id + " 192.0.2.1:1234", "a:1 from " + id, "a:2 from " + id,
		"disconnected " + id + ": normal by peer: 1000 bye",
	}, d.read())
}

func TestListenersHearWhatTheyAskedFor(t *testing.T) {
	var d diary
	h := newHub(t, Config{})
	s, _ := connect(t, h)
	other, _ := connect(t, h)
	listen := func(add func(string, func(*Spoke, codec.Envelope)) (func(), error), who, pattern string) func() {
		remove, err := add(pattern, func(from *Spoke, e codec.Envelope) {
			require.Same(t, s, from)
			require.JSONEq(t, `{"n":1}`, string(e.Payload))
			d.note("%s %s", who, pattern)
		})
		require.NoError(t, err)
		return remove
	}
	listen(h.AddListener, "hub", "*")
	listen(h.AddListener, "hub", "a:*")
	listen(h.AddListener, "hub", "a:1")
	listen(h.AddListener, "hub", "a:2")
	listen(h.AddListener, "hub", "b:")
	listen(other.AddListener, "other", "*")
	listen(s.AddListener, "spoke", "*")
	remove := listen(s.AddListener, "spoke", "a:1")
	listen(s.AddListener, "spoke again", "a:1")

	say(s, "a:1")
	require.Equal(t, []string{"spoke a:1", "spoke again a:1", "spoke *", "hub a:1", "hub a:*", "hub *"}, d.read(),
		"those of the spoke first, the narrower first, else in order")
	d.lines = nil
	remove()
	remove() // twice is harmless, also to its neighbour
	say(s, "a:1")
	require.Equal(t, []string{"spoke again a:1", "spoke *", "hub a:1", "hub a:*", "hub *"}, d.read())
	for topic, want := range map[string][]string{
		"a:":  {"spoke *", "hub a:*", "hub *"},
		"a:*": {"spoke *", "hub a:*", "hub *"}, // an id like any other
		"b:9": {"spoke *", "hub b:", "hub *"},
		"c:":  {"spoke *", "hub *"},
	} {
		d.lines = nil
		say(s, topic)
		require.Equal(t, want, d.read(), topic)
	}
	require.EqualValues(t, 6, h.Stats().Received)
}

func TestListenersAreRefusedForBadPatterns(t *testing.T) {
	h := newHub(t, Config{})
	for _, pattern := range []string{"", "a", ":1", "__gap:", "a\xff:1"} {
		_, err := h.AddListener(pattern, func(*Spoke, codec.Envelope) {})
		require.Error(t, err, pattern)
	}
	_, err := h.AddListener("a:1", nil)
	require.ErrorContains(t, err, "nil")
}

func TestListenersOwnTheEvent(t *testing.T) {
	h := newHub(t, Config{})
	s, _ := connect(t, h)
	var got codec.Envelope
	_, err := h.AddListener("*", func(_ *Spoke, e codec.Envelope) { got = e })
	require.NoError(t, err)
	message := []byte(`{"type":"a","id":"1","payload":[1,2,3]}`)
	s.Receive(message)
	clear(message) // as the next read does
	require.Equal(t, codec.Envelope{Type: "a", ID: "1", Payload: []byte("[1,2,3]")}, got)
}

func TestPanicsInCallbacksAreContainedAndCounted(t *testing.T) {
	var log bytes.Buffer
	var d diary
	h := newHub(t, Config{
		OnConnection:    func(*Spoke) { panic("connecting") },
		OnDisconnection: func(*Spoke, Cause) { panic("disconnecting") },
		Logger:          slog.New(slog.NewTextHandler(&log, nil)),
	})
	s, k := connect(t, h)
	_, err := s.AddListener("a:1", func(*Spoke, codec.Envelope) { panic("listening") })
	require.NoError(t, err)
	_, err = h.AddListener("a:1", func(*Spoke, codec.Envelope) { d.note("heard") })
	require.NoError(t, err)
	say(s, "a:1")
	require.Equal(t, []string{"heard"}, d.read())
	dispatch(t, h, event("b", "", 2))
	h.Flush()
	require.Equal(t, []string{"b:"}, k.topics(t))
	s.Detach(Cause{})
	require.Nil(t, h.Spoke(s.ID()))
	require.EqualValues(t, 3, h.Stats().Panics)
	for _, what := range []string{"connecting", "disconnecting", "listening", "callbacks_test.go"} {
		require.Contains(t, log.String(), what)
	}
}

func TestCallbacksMayCallAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *Hub
		p := pattern(t, "a:*")
		everything := func(s *Spoke) {
			_, _ = h.Dispatch(event("a", "1", 2))
			_, _ = h.DispatchExcept(s, event("a", "1", 2))
			_, _ = h.DispatchTo(s.ID(), event("a", "1", 2))
			_, _ = s.Dispatch(event("a", "1", 2))
			_, _ = h.DispatchBatch([]codec.Envelope{event("a", "1", 2), event("a", "2", 2)})
			_ = s.Subscribe(p)
			s.Unsubscribe(p)
			s.Topics()
			remove, err := h.AddListener("a:1", func(*Spoke, codec.Envelope) {})
			require.NoError(t, err)
			remove()
			remove, err = s.AddListener("a:1", func(*Spoke, codec.Envelope) {})
			require.NoError(t, err)
			remove()
			h.Tap(p).Close()
			h.Spokes()
			h.Stats()
			s.Refuse("1", codec.CodeOverloaded, "not now")
			s.Control(codec.NewControlFrame(codec.Ping, nil))
			s.Close(codec.CloseNormal, "")
			s.Fail(codec.CloseNormal, "")
		}
		var err error
		h, err = New(Config{OnConnection: everything, OnDisconnection: func(s *Spoke, _ Cause) { everything(s) }})
		require.NoError(t, err)
		defer h.Close()
		s, _ := connect(t, h)
		_, err = h.AddListener("a:1", func(s *Spoke, _ codec.Envelope) { everything(s) })
		require.NoError(t, err)
		say(s, "a:1")
		s.Detach(Cause{})

		last, _ := connect(t, h)
		_, err = h.AddListener("a:2", func(*Spoke, codec.Envelope) { h.Close() })
		require.NoError(t, err)
		say(last, "a:2")
		_, err = h.Dispatch(event("a", "1", 2))
		require.ErrorIs(t, err, ErrClosed)
		require.Zero(t, h.Stats().Panics)
	})
}

func TestSubscribeInOnConnectionComesBeforeLaterEvents(t *testing.T) {
	p := pattern(t, "a:*")
	h := newHub(t, Config{OnConnection: func(s *Spoke) { _ = s.Subscribe(p) }})
	_, k := connect(t, h)
	dispatch(t, h, event("b", "1", 2))
	dispatch(t, h, event("a", "1", 2))
	h.Flush()
	require.Equal(t, []string{"a:1"}, k.topics(t))
}
