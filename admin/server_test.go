package admin

import (
	"context"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

func TestNewRefuses(t *testing.T) {
	_, err := New(Config{})
	require.ErrorContains(t, err, "Hub is nil")
	hub, err := fanout.New(fanout.Config{})
	require.NoError(t, err)
	defer hub.Close()
	_, err = New(Config{Hub: hub, Heartbeat: -time.Second})
	require.ErrorContains(t, err, "heartbeat -1s")
}

func TestServeReturnsTheErrorOfItsListener(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	s, err := New(Config{Hub: f.hub})
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.ErrorContains(t, s.Serve(ln), "admin: serve: ")
	require.NoError(t, s.Shutdown(context.Background()))
	require.NoError(t, s.Serve(ln), "after Shutdown")
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	s, err := New(Config{Hub: f.hub})
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("POST /v1/events HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 9)) // "100 Continue": the handler waits for the body
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
	require.NoError(t, <-served)
}

// A foreign server may have no timeouts at all.
func TestHandlerServesElsewhere(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	elsewhere := httptest.NewServer(f.server.Handler())
	defer elsewhere.Close()
	f.url = elsewhere.URL
	r := f.open(t, nil)
	spoke := f.connect(t, &scriptSink{})
	require.Equal(t, spoke.ID(), r.next(t).Spoke)
	f.server.end()
	require.Equal(t, "shutdown", r.next(t).Reason)
}
