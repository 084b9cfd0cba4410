package client

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// muteHub returns a connection to a hub that takes everything and answers nothing.
func muteHub(t *testing.T, opts Options) (*Client, *spoke) {
	h := newPipeHub(t)
	h.mute.Store(true)
	c, s := h.dial(opts)
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		s.drainUntilClosed()
	}()
	t.Cleanup(func() {
		s.ws.CloseNow()
		<-reading
	})
	return c, s
}

func TestSilentHubIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		opts := Options{Ping: 30 * time.Second, Timeout: 10 * time.Second}
		status := statuses(&opts)
		muteHub(t, opts)
		require.Equal(t, Connected, receive(t, status).State)
		waiting := receiveWithin(t, time.Hour, status)
		require.Equal(t, 40*time.Second, time.Since(began))
		closed := (*CloseError)(nil)
		require.ErrorAs(t, waiting.Err, &closed)
		require.Equal(t, LocalSide, closed.Side)
		require.ErrorContains(t, closed, "silent")
	})
}

func TestHubThatAnswersPingsIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opts Options
		status := statuses(&opts)
		h := newPipeHub(t)
		_, s := h.dial(opts)
		go s.drainUntilClosed()
		<-time.After(time.Hour)
		require.Equal(t, Connected, receive(t, status).State)
		require.Empty(t, status)
	})
}

func TestHubThatSendsEventsIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opts Options
		status := statuses(&opts)
		_, s := muteHub(t, opts)
		for range 100 { // a pong that waits behind them all
			<-time.After(5 * time.Second)
			s.send(wire("tick", "1", ""))
		}
		require.Equal(t, Connected, receive(t, status).State)
		require.Empty(t, status)
	})
}

func TestSlowListenerIsNotASilentHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		opts := Options{
			Ping: 30 * time.Second, Timeout: 10 * time.Second,
			OnEvent: func(*Client, codec.Envelope) { <-time.After(4*time.Minute + 5*time.Second) },
		}
		status := statuses(&opts)
		_, s := muteHub(t, opts)
		s.send(wire("tick", "1", ""))
		require.Equal(t, Connected, receive(t, status).State)
		receiveWithin(t, time.Hour, status)
		// The first ping that nobody read the answer to for another reason went out at 4:30.
		require.Equal(t, 4*time.Minute+40*time.Second, time.Since(began))
	})
}
