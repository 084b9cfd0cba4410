package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// tokens returns one token after the other: t1, t2 ...
func tokens() func(context.Context) (string, error) {
	var n atomic.Int32
	return func(context.Context) (string, error) { return fmt.Sprint("t", n.Add(1)), nil }
}

func authMessage(token string) string {
	return `{"type":"__auth","id":"client token","payload":{"token":"` + token + `"}}`
}

func TestEveryHandshakeHasATokenOfItsOwn(t *testing.T) {
	h := newHub(t)
	_, s := h.dial(Options{Token: tokens(), Header: http.Header{"X-Also": {"this"}}, BackoffMin: 1, BackoffMax: time.Millisecond})
	require.Equal(t, "Bearer t1", s.r.Header.Get("Authorization"))
	require.Equal(t, "this", s.r.Header.Get("X-Also"))
	require.NoError(t, s.ws.Close(websocket.StatusCode(codec.CloseUnauthenticated), "the token has expired"))
	s = h.accept()
	require.Equal(t, "Bearer t2", s.r.Header.Get("Authorization"))
}

func TestA401IsNotTheEndForAClientThatMakesTokens(t *testing.T) {
	h := newHub(t)
	h.refuseWith(http.StatusUnauthorized)
	failed := make(chan Status, 100)
	_, err := Dial(t.Context(), h.url, h.options(Options{}))
	refused := (*RefusedError)(nil)
	require.ErrorAs(t, err, &refused, "without Options.Token it is")
	dialed := make(chan *Client, 1)
	go func() {
		c, err := Dial(t.Context(), h.url, h.options(Options{Token: tokens(), BackoffMin: 1, BackoffMax: time.Millisecond,
			OnStatus: func(_ *Client, s Status) { failed <- s }}))
		if err != nil {
			t.Error(err)
		}
		dialed <- c
	}()
	require.Equal(t, Waiting, receive(t, failed).State)
	h.refuseWith(0)
	s := h.accept()
	require.NotEqual(t, "Bearer t1", s.r.Header.Get("Authorization"))
	c := receive(t, dialed)
	s.ws.CloseNow()
	require.NoError(t, ignore(c.Close(codec.CloseNormal, "")))
}

// ignore drops the error of a close that the test does not answer.
func ignore(error) error { return nil }

func TestAFreshTokenIsSentInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		began := time.Now()
		_, s := h.dial(Options{Token: tokens(), Ping: time.Hour})
		s.send(`{"type":"__welcome","payload":{"spoke":"s","node":"n","expiresInMs":15000}}`)
		s.expect(authMessage("t2"))
		require.Equal(t, 10*time.Second, time.Since(began))
		s.send(`{"type":"__authed","id":"client token","payload":{"expiresInMs":12000}}`)
		s.expect(authMessage("t3"))
		require.Equal(t, 18*time.Second, time.Since(began))
		s.send(`{"type":"__error","id":"client token","payload":{"code":"unavailable","message":""}}`)
		s.expect(authMessage("t4"))
		require.Less(t, time.Since(began), 19*time.Second, "it tries again soon")
	})
}

func TestWithoutAnEndThereIsNothingToRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		c, s := h.dial(Options{Token: tokens(), Ping: 1000 * time.Hour})
		s.send(`{"type":"__welcome","payload":{"spoke":"s","node":"n"}}`)
		time.Sleep(100 * time.Hour)
		require.NoError(t, c.Dispatch(codec.Envelope{Type: "a"}))
		s.expect(`{"type":"a","id":"","payload":null}`)
	})
}

func TestATokenThatCannotBeHadIsTriedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeHub(t)
		calls := 0
		_, s := h.dial(Options{Ping: time.Hour, Token: func(context.Context) (string, error) {
			if calls++; calls == 1 || calls > 3 {
				return fmt.Sprint("t", calls), nil
			}
			return "", errors.New("not now")
		}})
		s.send(`{"type":"__welcome","payload":{"spoke":"s","node":"n","expiresInMs":15000}}`)
		s.expect(authMessage("t4"))
	})
}
