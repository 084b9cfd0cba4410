package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// closing runs Close beside the test, which is the hub and has to answer.
func closing(c *Client, code codec.CloseCode, reason string) <-chan error {
	errc := make(chan error, 1)
	go func() { errc <- c.Close(code, reason) }()
	return errc
}

func TestCloseSendsWhatIsQueuedAndPerformsTheHandshake(t *testing.T) {
	var opts Options
	status := statuses(&opts)
	c, s := newHub(t).dial(opts)
	for i := range 200 {
		require.NoError(t, c.Dispatch(event("tick", fmt.Sprint(i), "")))
	}
	errc := closing(c, codec.CloseNormal, "bye")
	for i := range 200 {
		s.expect(wire("tick", fmt.Sprint(i), ""))
	}
	s.expectClose(codec.CloseNormal, "bye")
	require.NoError(t, receive(t, errc))

	receive(t, c.Done())
	require.Equal(t, ErrClosed, c.Err())
	require.Equal(t, Connected, receive(t, status).State)
	require.Equal(t, Status{State: Closed, Err: ErrClosed}, receive(t, status))
	require.NoError(t, c.Close(codec.ClosePolicy, "again"), "changes nothing")
	require.Equal(t, ErrClosed, c.Err())
}

func TestCloseFromManyGoroutines(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	var closers sync.WaitGroup
	for range 8 {
		closers.Go(func() {
			if err := c.Close(codec.CloseNormal, ""); err != nil {
				t.Error(err)
			}
			<-c.Done()
		})
	}
	s.expectClose(codec.CloseNormal, "")
	closers.Wait()
}

func TestCloseCodesAndReasonsThatMayNotBeSent(t *testing.T) {
	long := strings.Repeat("é", 100)
	for _, x := range []struct {
		code   codec.CloseCode
		reason string
		want   codec.CloseCode
		text   string
	}{
		{4321, "own", 4321, "own"},
		{codec.CloseNormal, long, codec.CloseNormal, long[:122]}, // 123 bytes would cut a character
		{codec.CloseNormal, "a\xffb", codec.CloseNormal, "ab"},
		{0, "lost", codec.CloseNoStatus, ""},
		{codec.CloseAbnormal, "lost", codec.CloseNoStatus, ""},
	} {
		c, s := newHub(t).dial(Options{})
		errc := closing(c, x.code, x.reason)
		s.expectClose(x.want, x.text)
		require.NoError(t, receive(t, errc))
	}
}

func TestCloseWhileTheHubGoesOnSending(t *testing.T) {
	c, s := newHub(t).dial(Options{})
	require.NoError(t, c.Dispatch(event("last", "", "")))
	s.expect(wire("last", "", ""))
	errc := closing(c, codec.CloseNormal, "")
	receive(t, c.ctx.Done())
	for i := range 100 {
		s.send(wire("tick", fmt.Sprint(i), ""))
	}
	s.expectClose(codec.CloseNormal, "")
	require.NoError(t, receive(t, errc))
}

func TestCloseInsideACallback(t *testing.T) {
	errs := make(chan error, 1)
	c, s := newHub(t).dial(Options{OnEvent: func(c *Client, _ codec.Envelope) {
		errs <- c.Close(codec.CloseNormal, "enough")
	}})
	s.send(wire("tick", "1", ""))
	s.expectClose(codec.CloseNormal, "enough")
	require.NoError(t, receive(t, errs))
	receive(t, c.Done())
}

func TestCloseInsideOnStatus(t *testing.T) {
	for _, state := range []State{Connected, Waiting, Closed} {
		h := newHub(t)
		c, s := h.dial(Options{OnStatus: func(c *Client, s Status) {
			if s.State == state {
				c.Close(codec.CloseNormal, "")
			}
		}})
		go s.drainUntilClosed()
		switch state {
		case Waiting:
			require.NoError(t, s.ws.CloseNow())
		case Closed:
			require.NoError(t, c.Close(codec.CloseNormal, ""))
		}
		receive(t, c.Done())
		require.Equal(t, ErrClosed, c.Err())
	}
}

func TestCloseWhileAwaySaysWhatWasNotSent(t *testing.T) {
	for _, events := range []int{0, 3} {
		synctest.Test(t, func(t *testing.T) {
			h := newPipeHub(t)
			opts := Options{BackoffMin: time.Hour, BackoffMax: time.Hour}
			status := statuses(&opts)
			c, s := h.dial(opts)
			require.NoError(t, s.ws.CloseNow())
			require.Equal(t, Connected, receive(t, status).State)
			require.Equal(t, Waiting, receive(t, status).State)
			for range events {
				require.NoError(t, c.Dispatch(event("tick", "1", "")))
			}
			began := time.Now()
			err := c.Close(codec.CloseNormal, "")
			require.Zero(t, time.Since(began))
			if events == 0 {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "3 queued events were not sent")
			}
		})
	}
}

// A pipe takes nothing that is not read.
func TestCloseOfAHubThatDoesNotReadIsBounded(t *testing.T) {
	for _, c := range []struct {
		events  int
		timeout time.Duration
		within  time.Duration
	}{
		{0, 2 * time.Second, 2 * time.Second},
		{1, 2 * time.Second, 2 * time.Second},
		{0, time.Minute, goodbyeTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newPipeHub(t)
			client, _ := h.dial(Options{Timeout: c.timeout})
			for range c.events {
				require.NoError(t, client.Dispatch(event("tick", "1", "")))
			}
			began := time.Now()
			require.Error(t, client.Close(codec.CloseNormal, ""))
			require.Equal(t, c.within, time.Since(began))
			require.EqualValues(t, 1, h.dials.Load())
		})
	}
}

func TestCancelledContextClosesWithGoingAway(t *testing.T) {
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	h := newHub(t)
	c, err := Dial(ctx, h.url, h.options(Options{}))
	require.NoError(t, err)
	s := h.accept()
	require.NoError(t, c.Dispatch(event("last", "", "")))
	cancel(why)
	s.expect(wire("last", "", ""))
	s.expectClose(codec.CloseGoingAway, "")
	receive(t, c.Done())
	require.Equal(t, why, c.Err())
}

func TestCancelledContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		opts := h.options(Options{BackoffMin: time.Hour, BackoffMax: time.Hour})
		status := statuses(&opts)
		ctx, cancel := context.WithCancel(t.Context())
		c, err := Dial(ctx, h.url, opts)
		require.NoError(t, err)
		require.NoError(t, h.accept().ws.CloseNow())
		require.Equal(t, Connected, receive(t, status).State)
		require.Equal(t, Waiting, receive(t, status).State)
		began := time.Now()
		cancel()
		<-c.Done()
		require.Zero(t, time.Since(began))
	})
}

func TestMessageOverTheReadLimitClosesWith1009(t *testing.T) {
	const limit = 4096
	got := make(chan int, 10)
	opts := Options{
		ReadLimitBytes: limit,
		OnEvent:        func(_ *Client, e codec.Envelope) { got <- len(e.Payload) },
	}
	status := statuses(&opts)
	h := newHub(t)
	_, s := h.dial(opts)
	fill := limit - len(wire("tick", "1", `""`))
	s.send(wire("tick", "1", `"`+strings.Repeat("a", fill)+`"`)) // exactly the limit
	require.Equal(t, fill+2, receive(t, got))
	s.send(wire("tick", "1", `"`+strings.Repeat("a", 4<<20)+`"`)) // more than the sockets hold
	message, err := s.next()
	require.Equal(t, websocket.StatusMessageTooBig, websocket.CloseStatus(err), message)

	require.Equal(t, Connected, receive(t, status).State)
	closed := (*CloseError)(nil)
	require.ErrorAs(t, receive(t, status).Err, &closed)
	require.Equal(t, LocalSide, closed.Side)
	require.Equal(t, codec.CloseTooBig, closed.Code)
	s = h.accept()
	s.send(wire("tick", "1", `"`+strings.Repeat("a", fill+1)+`"`)) // a byte over the limit
	message, err = s.next()
	require.Equal(t, websocket.StatusMessageTooBig, websocket.CloseStatus(err), message)
}
