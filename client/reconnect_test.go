package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestBackoffCeilingDoublesUpToMax(t *testing.T) {
	b := newBackoff(100*time.Millisecond, time.Second)
	highest := func(n int64) int64 { return n - 1 }
	lowest := func(int64) int64 { return 0 }
	for _, ceiling := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		before := b
		b.random = lowest
		require.Equal(t, time.Duration(1), b.next(), "never a wait of nothing")
		b = before
		b.random = highest
		require.Equal(t, ceiling*time.Millisecond, b.next())
	}
	require.Equal(t, 6, b.failures)
	b.reset()
	require.Equal(t, 100*time.Millisecond, b.next())
	require.Equal(t, 1, b.failures)
}

func TestBackoffUsesTheWholeRange(t *testing.T) {
	b := newBackoff(time.Second, time.Second)
	low, high := 0, 0
	for range 1000 {
		wait := b.next()
		require.Positive(t, wait)
		require.LessOrEqual(t, wait, time.Second)
		if wait < time.Second/4 {
			low++
		}
		if wait > 3*time.Second/4 {
			high++
		}
	}
	require.Greater(t, low, 100) // 250 are likely, fewer than 100 are not in a lifetime
	require.Greater(t, high, 100)
}

func TestBackoffOfTheLongestDurationsDoesNotOverflow(t *testing.T) {
	const longest = time.Duration(1<<63 - 1)
	b := newBackoff(longest/3, longest)
	for range 5 {
		require.Positive(t, b.next())
	}
	require.Equal(t, longest, b.ceiling)
}

func TestAttemptsComeAfterTheAnnouncedWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		opts := Options{BackoffMin: 100 * time.Millisecond, BackoffMax: 2 * time.Second}
		status := statuses(&opts)
		_, s := h.dial(opts)
		require.Equal(t, Status{State: Connected}, receive(t, status))
		h.refuseWith(500)
		require.NoError(t, s.ws.CloseNow())
		ceiling := opts.BackoffMin
		for failures := 1; failures <= 10; failures++ {
			waiting := receive(t, status)
			began := time.Now()
			require.Equal(t, Waiting, waiting.State)
			require.Equal(t, failures, waiting.Failures)
			require.Positive(t, waiting.RetryIn)
			require.LessOrEqual(t, waiting.RetryIn, ceiling)
			ceiling = min(2*ceiling, opts.BackoffMax)
			if failures == 10 {
				h.refuseWith(0)
				h.accept()
			} else {
				dials := h.dials.Load()
				synctest.Wait()
				require.Equal(t, dials, h.dials.Load())
				<-time.After(waiting.RetryIn)
				synctest.Wait()
				require.Equal(t, dials+1, h.dials.Load())
			}
			require.Equal(t, waiting.RetryIn, time.Since(began))
		}
	})
}

func TestOnlyAStableConnectionStartsTheBackoffAnew(t *testing.T) {
	for _, c := range []struct {
		lasts    time.Duration
		failures int
	}{
		{0, 2},
		{30*time.Second - 1, 2},
		{30 * time.Second, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			var opts Options
			status := statuses(&opts)
			h := newPipeHub(t)
			_, s := h.dial(opts)
			require.NoError(t, s.ws.CloseNow())
			s = h.accept()
			require.Equal(t, Connected, receive(t, status).State)
			require.Equal(t, 1, receive(t, status).Failures)
			require.Equal(t, Connected, receive(t, status).State)
			<-time.After(c.lasts)
			require.NoError(t, s.ws.CloseNow())
			require.Equal(t, c.failures, receive(t, status).Failures)
		})
	}
}

func TestDrainIsHonouredExactly(t *testing.T) {
	for _, ms := range []int{0, 1, 1234, 90_000} {
		synctest.Test(t, func(t *testing.T) {
			h := newPipeHub(t)
			var opts Options
			status := statuses(&opts)
			_, s := h.dial(opts)
			s.send(wire("__drain", "", fmt.Sprintf(`{"reconnectAfterMs":%d}`, ms)))
			<-time.After(time.Second) // the hub takes its time: the wait begins with the end
			require.NoError(t, s.ws.Close(websocket.StatusGoingAway, "draining"))
			began := time.Now()
			h.refuseWith(500)
			require.Equal(t, Connected, receive(t, status).State)
			waiting := receive(t, status)
			require.Equal(t, time.Duration(ms)*time.Millisecond, waiting.RetryIn)
			require.ErrorContains(t, waiting.Err, "draining")

			waiting = receiveWithin(t, time.Hour, status)
			require.Equal(t, time.Duration(ms)*time.Millisecond, time.Since(began))
			require.LessOrEqual(t, waiting.RetryIn, 100*time.Millisecond, "it counts once, then the backoff")
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, c := range []struct {
		status int
		after  func() string
		least  time.Duration
	}{
		{503, func() string { return "7" }, 7 * time.Second},
		{429, func() string { return "120" }, 2 * time.Minute},
		{503, func() string { return time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat) }, 90 * time.Second},
		{503, func() string { return "soon" }, 0},
		{503, func() string { return "-5" }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newPipeHub(t)
			var opts Options
			status := statuses(&opts)
			h.refuseWith(c.status, "Retry-After", c.after())
			done := make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer close(done)
				Dial(ctx, h.url, h.options(opts))
			}()
			waiting := receive(t, status)
			require.Greater(t, waiting.RetryIn, c.least)
			require.LessOrEqual(t, waiting.RetryIn, c.least+100*time.Millisecond, "and the backoff's share")
			refused := (*RefusedError)(nil)
			require.ErrorAs(t, waiting.Err, &refused)
			require.Equal(t, RefusedError{c.status, "not now", c.least}, *refused)
			cancel()
			<-done
		})
	}
}

func TestHugeWaitsDoNotOverflow(t *testing.T) {
	h := http.Header{"Retry-After": {strconv.Itoa(1<<63 - 1)}}
	require.Positive(t, retryAfter(h)+24*time.Hour)
	require.Positive(t, durationOf(1<<63-1, time.Millisecond)+24*time.Hour)
	require.Zero(t, durationOf(-1, time.Millisecond))
}

func TestPermanentRefusalIsReturnedByDial(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 405, 426, 431} {
		h := newHub(t)
		h.refuseWith(status)
		_, err := Dial(t.Context(), h.url, h.options(Options{}))
		refused := (*RefusedError)(nil)
		require.ErrorAs(t, err, &refused)
		require.Equal(t, RefusedError{StatusCode: status, Message: "not now"}, *refused)
		require.EqualValues(t, 1, h.dials.Load())
	}
}

func TestPermanentRefusalEndsReconnecting(t *testing.T) {
	h := newHub(t)
	var opts Options
	status := statuses(&opts)
	c, s := h.dial(opts)
	h.refuseWith(403)
	require.NoError(t, s.ws.Close(websocket.StatusNormalClosure, ""))
	receive(t, c.Done())
	refused := (*RefusedError)(nil)
	require.ErrorAs(t, c.Err(), &refused)
	require.Equal(t, 403, refused.StatusCode)
	require.EqualValues(t, 2, h.dials.Load())
	require.ErrorIs(t, c.Dispatch(event("tick", "1", "")), ErrClosed)

	require.Equal(t, Connected, receive(t, status).State)
	require.Equal(t, Waiting, receive(t, status).State)
	require.Equal(t, Status{State: Closed, Err: c.Err()}, receive(t, status))
	require.Empty(t, status)
}

func TestCloseCodesThatComeBackAndTheOneThatDoesNot(t *testing.T) {
	for _, code := range []codec.CloseCode{1000, 1001, 1002, 1008, 1011, 4008, 4001} {
		h := newHub(t)
		var opts Options
		status := statuses(&opts)
		c, s := h.dial(opts)
		require.NoError(t, s.ws.Close(websocket.StatusCode(code), "why"))
		require.Equal(t, Connected, receive(t, status).State)
		want := Status{State: Closed, Err: &CloseError{Side: PeerSide, Code: code, Reason: "why"}}
		if code != codec.CloseUnauthenticated {
			h.accept()
			want.State, want.Failures = Waiting, 1
		}
		got := receive(t, status)
		got.RetryIn = 0
		require.Equal(t, want, got)
		if want.State == Closed {
			receive(t, c.Done())
			require.Equal(t, want.Err, c.Err())
		}
	}
}

func TestConnectionThatBreaksComesBack(t *testing.T) {
	h := newHub(t)
	var opts Options
	status := statuses(&opts)
	_, s := h.dial(opts)
	require.NoError(t, s.ws.CloseNow())
	h.accept()
	require.Equal(t, Connected, receive(t, status).State)
	closed := (*CloseError)(nil)
	require.ErrorAs(t, receive(t, status).Err, &closed)
	require.Equal(t, PeerSide, closed.Side)
	require.Equal(t, codec.CloseAbnormal, closed.Code)
	require.Equal(t, Connected, receive(t, status).State)
}

func TestDialWaitsForAHubThatIsNotThereYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		transport := h.client.Transport.(*http.Transport)
		dial, attempts := transport.DialContext, 0
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if attempts++; attempts < 4 {
				return nil, errors.New("connection refused")
			}
			return dial(ctx, network, address)
		}
		h.dial(Options{})
		require.Equal(t, 4, attempts)
	})
}

func TestHandshakeWithoutAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		opts := Options{Timeout: 3 * time.Second}
		status := statuses(&opts)
		h.refuse = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		_, err := Dial(ctx, h.url, h.options(opts))
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, time.Minute, time.Since(began))
		first := receive(t, status)
		require.ErrorIs(t, first.Err, context.DeadlineExceeded)
	})
}
