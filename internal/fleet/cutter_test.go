package fleet

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// testMessages returns an event of messages whose lengths need each kind of header.
func testMessages() *Event {
	ev := &Event{NumberAt: 1}
	for _, size := range []int{125, 126, 300, 1 << 16} {
		m := []byte(`"` + Number(0) + strings.Repeat("some text ", size/10+1))
		m[size-1] = '"'
		ev.Messages = append(ev.Messages, m[:size])
	}
	return ev
}

// message returns message n.
func (ev *Event) message(n uint64) []byte {
	m := bytes.Clone(ev.Messages[n%uint64(len(ev.Messages))])
	PutNumber(m[ev.NumberAt:], n)
	return m
}

// framed returns a server's frame with this first byte.
func framed(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// deflated returns the payload of a compressed message.
func deflated(t *testing.T, message []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	require.NoError(t, err)
	_, err = w.Write(message)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	return bytes.TrimSuffix(b.Bytes(), []byte(inflateTail[:4]))
}

const (
	plainFirst    = finBit | Text
	deflatedFirst = plainFirst | rsv1Bit
)

// testInflater is for all cutters of a test together, as it is for all clients of a fleet.
var testInflater = newInflater()

// testCutter returns the cutter of a client.
func testCutter(ev *Event, group, groups uint64, check, deflated bool) *cutter {
	return newCutter(ev, &client{group: group, check: check}, groups, deflated, testInflater)
}

func TestFramesAreCutAtEverySplit(t *testing.T) {
	ev := testMessages()
	var plain, packed []byte
	for n := range uint64(3) {
		plain = append(plain, framed(plainFirst, ev.message(n))...)
		packed = append(packed, framed(deflatedFirst, deflated(t, ev.message(n)))...)
	}
	for _, check := range []bool{false, true} {
		for _, c := range []struct {
			stream   []byte
			deflated bool
		}{{plain, false}, {packed, true}} {
			for at := range len(c.stream) + 1 {
				k := testCutter(ev, 0, 1, check, c.deflated)
				require.Equal(t, 3, k.feed(c.stream[:at])+k.feed(c.stream[at:]), "split at %d", at)
				require.NoError(t, k.broken())
			}
			for size := 1; size < 10; size++ {
				k := testCutter(ev, 0, 1, check, c.deflated)
				require.Equal(t, 3, feedIn(k, c.stream, size))
				require.NoError(t, k.broken())
			}
		}
	}
}

func TestEveryLengthOfHeaderIsCut(t *testing.T) {
	ev := testMessages()
	for _, groups := range []uint64{1, 3} {
		group := groups / 2
		var stream []byte
		for n := group; n < 9*groups; n += groups {
			stream = append(stream, framed(plainFirst, ev.message(n))...)
		}
		for _, size := range []int{1, 1000, len(stream)} {
			k := testCutter(ev, group, groups, true, false)
			require.Equal(t, 9, feedIn(k, stream, size))
			require.NoError(t, k.broken())
		}
	}
}

func TestCheckedClientsNoticeWrongMessages(t *testing.T) {
	ev := testMessages()
	plain := func(n uint64) []byte { return framed(plainFirst, ev.message(n)) }
	packed := func(n uint64) []byte { return framed(deflatedFirst, deflated(t, ev.message(n))) }
	payload := deflated(t, ev.message(1))
	for name, c := range map[string]struct {
		deflated bool
		second   []byte // behind event 0
	}{
		"another plain":         {false, framed(plainFirst, bytes.Replace(ev.message(1), []byte("some"), []byte("same"), 1))},
		"one is missing":        {false, plain(2)},
		"one twice":             {false, plain(0)},
		"another compressed":    {true, framed(deflatedFirst, deflated(t, bytes.Replace(ev.message(1), []byte("some"), []byte("same"), 1)))},
		"a compressed missing":  {true, packed(2)},
		"a compressed twice":    {true, packed(0)},
		"longer":                {true, framed(deflatedFirst, deflated(t, append(ev.message(1), 'x')))},
		"no deflate stream":     {true, framed(deflatedFirst, []byte{0x07, 1, 2, 3})}, // block type 3
		"cut off":               {true, framed(deflatedFirst, payload[:len(payload)/2])},
		"with the tail":         {true, framed(deflatedFirst, append(bytes.Clone(payload), "\x00\x00\xff\xff\x01\x00\x00\xff\xff..."...))},
		"not compressed":        {true, plain(1)},
		"compressed, unwanted":  {false, packed(1)},
		"a ping":                {false, framed(finBit|9, []byte("x"))},
		"a fragment":            {false, framed(Text, ev.message(1))},
		"an empty message":      {false, framed(plainFirst, nil)},
		"a masked frame":        {false, Message(Text, string(ev.message(1)))},
		"an impossible length":  {false, []byte{plainFirst, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		"half a header":         {false, plain(1)[:3]},
		"all but the last byte": {true, packed(1)[:len(packed(1))-1]},
	} {
		first := plain(0)
		if c.deflated {
			first = packed(0)
		}
		stream := append(bytes.Clone(first), c.second...)
		for _, size := range []int{1, 7, len(stream)} {
			k := testCutter(ev, 0, 1, true, c.deflated)
			require.Equal(t, 1, feedIn(k, stream, size), name)
			require.Error(t, k.broken(), name)
		}
	}
}

// compressing is a server that accepts compression, or not.
type compressing struct {
	answer string
	mu     sync.Mutex
	conns  []net.Conn
}

func (s *compressing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	s.mu.Lock()
	s.conns = append(s.conns, conn)
	s.mu.Unlock()
	answer := appendAnswer(nil, []byte(r.Header.Get("Sec-WebSocket-Key")))
	if offer := "permessage-deflate; client_no_context_takeover; server_no_context_takeover"; r.Header.Get("Sec-WebSocket-Extensions") == offer {
		answer = append(bytes.TrimSuffix(answer, []byte("\r\n")), s.answer+"\r\n"...)
	}
	_, _ = conn.Write(answer)
}

// send writes to every connection.
func (s *compressing) send(b []byte) error {
	for _, c := range s.conns {
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *compressing) close() {
	for _, c := range s.conns {
		_ = c.Close()
	}
}

func TestCompressionMustBeAccepted(t *testing.T) {
	f := Launch(t)
	for answer, accepted := range map[string]bool{
		"": false,
		"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n": true,
		"sec-websocket-extensions: permessage-deflate; client_no_context_takeover\r\n":                             false,
		"Sec-WebSocket-Extensions: x-other; server_no_context_takeover\r\n":                                        false,
		"X-Other: server_no_context_takeover\r\nSec-WebSocket-Extensions: permessage-deflate\r\n":                  false,
	} {
		s := &compressing{answer: answer}
		server := httptest.NewServer(s)
		_, err := f.Connect(Clients{Address: server.Listener.Addr().String(), Deflate: true, Reading: 1})
		require.Equal(t, accepted, err == nil, "%q: %v", answer, err)
		s.close()
		server.Close()
	}
}

func TestCompressedMessagesAreCounted(t *testing.T) {
	s := &compressing{answer: fmt.Sprintf("Sec-WebSocket-Extensions: %s; %s\r\n", deflate, ownMessages)}
	server := httptest.NewServer(s)
	defer server.Close()
	defer s.close()
	f := Launch(t)
	_, err := f.Connect(Clients{Address: server.Listener.Addr().String(), Deflate: true, Reading: 4, Checked: 2})
	require.NoError(t, err)
	ev, sent := testMessages(), 0
	to := Source{Fleet: f, CPU: SelfCPU, Publish: func(n uint64) error {
		frame := framed(deflatedFirst, deflated(t, ev.message(n)))
		sent += len(frame)
		return s.send(frame)
	}}
	turn, err := to.Measure(Load{Event: *ev, Window: 3, Events: 50})
	require.NoError(t, err)
	require.EqualValues(t, 4*50, turn.Deliveries)
	require.EqualValues(t, 4*sent, turn.Bytes)
}
