package admin

import (
	"bufio"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

const (
	slowEvents     = 150
	slowEventBytes = 8 << 10 // together far more than the buffers in between hold
)

// openStalled starts to read events and takes no more than the head of the answer.
func (f *fixture) openStalled(t testing.TB) *reader {
	t.Helper()
	c, err := net.Dial("tcp", f.ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(64<<10))
	_, err = c.Write([]byte("GET /v1/events HTTP/1.1\r\nHost: hub\r\n\r\n"))
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return &reader{resp, bufio.NewReader(resp.Body)}
}

// pump lets a spoke send events past a stalled reader, each only after a healthy reader has had the
// one before, and dispatches as many.
func (f *fixture) pump(t testing.TB, spoke *fanout.Spoke, healthy *reader, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		receive(t, spoke, strconv.Itoa(i), slowEventBytes)
		require.Equal(t, strconv.Itoa(i), healthy.next(t).Event.ID)
		receipt, err := f.hub.Dispatch(codec.Envelope{Type: "down", ID: strconv.Itoa(i)})
		require.NoError(t, err)
		require.Equal(t, 1, receipt.Matched)
	}
}

func TestSlowReaderIsDisconnected(t *testing.T) {
	f := start(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 64 << 10}}, Config{WriteTimeout: patience})
	var k scriptSink
	spoke := f.connect(t, &k)
	stalled, healthy := f.openStalled(t), f.open(t, nil)
	f.pump(t, spoke, healthy, 0, slowEvents)
	require.Len(t, f.events(&k), slowEvents, "what goes to spokes goes on")

	seen := 0
	for {
		r := stalled.next(t)
		if r.Kind == "end" {
			require.Equal(t, "slow", r.Reason)
			break
		}
		require.Equal(t, strconv.Itoa(seen), r.Event.ID, "in order, without a gap")
		seen++
	}
	require.Less(t, seen, slowEvents)
	f.eventually(t, func() bool { return f.server.streams.Load() == 1 })
	require.EqualValues(t, 1, f.server.slowStreams.Load())
	f.pump(t, spoke, healthy, slowEvents, slowEvents+1)
}

func TestSlowReaderUnderDropOldestHasAGap(t *testing.T) {
	f := start(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 64 << 10}, Policy: fanout.DropOldest},
		Config{WriteTimeout: patience})
	var k scriptSink
	spoke := f.connect(t, &k)
	stalled, healthy := f.openStalled(t), f.open(t, nil)
	f.pump(t, spoke, healthy, 0, slowEvents)
	require.Len(t, f.events(&k), slowEvents)

	next, gaps := 0, 0
	for next < slowEvents {
		r := stalled.next(t)
		if r.Kind == "gap" {
			require.Equal(t, "spoke_buffer", r.Reason)
			next += int(r.Dropped)
			gaps++
			continue
		}
		require.Equal(t, strconv.Itoa(next), r.Event.ID, "a gap stands where the events are missing, and counts them")
		next++
	}
	require.NotZero(t, gaps)
	f.pump(t, spoke, healthy, slowEvents, slowEvents+1)
	require.Equal(t, strconv.Itoa(slowEvents), stalled.next(t).Event.ID)
	require.Zero(t, f.server.slowStreams.Load())
}

func TestReaderThatTakesNothingIsCutOff(t *testing.T) {
	f := start(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 64 << 10}, Policy: fanout.DropOldest},
		Config{WriteTimeout: 500 * time.Millisecond})
	spoke := f.connect(t, &scriptSink{})
	f.openStalled(t)
	healthy := f.open(t, nil)
	for i := 0; f.server.streams.Load() == 2; i++ {
		f.pump(t, spoke, healthy, i, i+1)
	}
	require.EqualValues(t, 1, f.server.slowStreams.Load())
	f.pump(t, spoke, healthy, 0, 1)
}
