package bench

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// runningHub is a hub with its server on a loopback port.
type runningHub struct {
	hub     *fanout.Hub
	server  *loop.Server
	address string
	served  chan error
}

// openHub sets a hub up as cmd/hub does, with the defaults of its flags but one: there are no pings,
// which the clients would have to tell from events.
func openHub(config fanout.Config) (*runningHub, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	config.Node, config.Logger = "bench", quiet
	config.Limits.SpokeLag = fanout.DefaultSpokeLag
	codec.Pretouch()
	hub, err := fanout.New(config)
	if err != nil {
		return nil, err
	}
	server, err := loop.New(loop.Config{Hub: hub, Logger: quiet, Ping: 24 * time.Hour})
	if err != nil {
		return nil, err
	}
	ln, err := loop.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &runningHub{hub, server, ln.Addr().String(), make(chan error, 1)}
	go func() { h.served <- server.Serve(ln) }() // ends with close
	return h, nil
}

// close ends the hub. Connections that are still there are cut off.
func (h *runningHub) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = h.server.Shutdown(ctx)
	err := <-h.served
	h.hub.Close()
	return err
}

// startHub returns a hub that ends with b.
func startHub(b testing.TB, config fanout.Config) *runningHub {
	b.Helper()
	h, err := openHub(config)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, h.close()) })
	return h
}

// event is what is published over and over: an envelope whose payload is a JSON string that begins
// with the number of the event.
type event struct {
	codec.Envelope
	frame    []byte
	numberAt int // in frame
}

const numberDigits = 12

func newEvent(b testing.TB, payloadBytes int) *event {
	b.Helper()
	payload := bytes.Repeat([]byte{'x'}, payloadBytes)
	payload[0], payload[payloadBytes-1] = '"', '"'
	putNumber(payload[1:], 0)
	e := &event{Envelope: codec.Envelope{Type: "tick", ID: "42", Payload: payload}}
	f, err := codec.NewFrame(e.Envelope, codec.Text)
	require.NoError(b, err)
	e.frame = f.Bytes()
	e.numberAt = bytes.Index(e.frame, payload) + 1
	return e
}

// numbered returns the envelope of event n. It is valid until the next call.
func (e *event) numbered(n uint64) codec.Envelope {
	putNumber(e.Payload[1:], n)
	return e.Envelope
}

func putNumber(b []byte, n uint64) {
	for i := numberDigits - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}
