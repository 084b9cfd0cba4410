package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
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
func openHub(config fanout.Config) (*runningHub, error) { return openHubWith(config, nil) }

// openHubWith is openHub with TLS.
func openHubWith(config fanout.Config, secure *tls.Config) (*runningHub, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	config.Node, config.Logger = "bench", quiet
	config.Limits.SpokeLag = fanout.DefaultSpokeLag
	codec.Pretouch()
	hub, err := fanout.New(config)
	if err != nil {
		return nil, err
	}
	server, err := loop.New(loop.Config{Hub: hub, Logger: quiet, Ping: 24 * time.Hour, HandshakeTimeout: time.Minute, TLS: secure, Compress: config.Deflater != nil})
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

// configWith returns the hub's configuration with so many shards, 0 for the default.
func configWith(shards int) fanout.Config { return fanout.Config{Shards: shards} }

// startHub returns a hub that ends with b.
func startHub(b testing.TB, config fanout.Config) *runningHub {
	b.Helper()
	h, err := openHub(config)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, h.close()) })
	return h
}

// source makes a side of the hub for the clients of f.
func (h *runningHub) source(f *fleet.Fleet, ev *event) *fleet.Source {
	return &fleet.Source{
		Fleet: f, CPU: fleet.SelfCPU, Writes: h.writes,
		Publish: func(n uint64) error {
			_, err := h.hub.Dispatch(ev.numbered(n))
			return err
		},
	}
}

// batches is source that dispatches what the window allows as a batch, as the floor writes it joined. With
// written it waits for each batch to be written: for loads in bursts.
func (h *runningHub) batches(f *fleet.Fleet, ev *event, written bool) *fleet.Source {
	to := h.source(f, ev)
	var batch []codec.Envelope
	to.Publish = func(n uint64) error {
		e := ev.numbered(n)
		e.Payload = bytes.Clone(e.Payload)
		batch = append(batch, e)
		return nil
	}
	to.Flush = func() error {
		_, err := h.hub.DispatchBatch(batch)
		batch = batch[:0]
		if written {
			h.hub.Flush()
		}
		return err
	}
	return to
}

// writes returns how many write(2) to clients there have been.
func (h *runningHub) writes() uint64 {
	h.hub.Flush()
	return h.hub.Stats().Writes
}

// connect connects these clients to the hub. Counting begins behind the welcome.
func (h *runningHub) connect(b testing.TB, f *fleet.Fleet, c fleet.Clients) fleet.Count {
	b.Helper()
	c.Address, c.Skip = h.address, 1
	n, err := f.Connect(c)
	require.NoError(b, err)
	return n
}

// event is what is published over and over: an envelope whose payload is a JSON string that begins
// with the number of the event.
type event struct {
	fleet.Event
	envelope codec.Envelope
}

// newEvent returns an event of the topic tick:42.
func newEvent(b testing.TB, payloadBytes int) *event { return newEventOf(b, "42", payloadBytes) }

// newGroupEvent returns an event whose id is the number of the group that it goes to, see
// fleet.Clients.Groups.
func newGroupEvent(b testing.TB, payloadBytes int) *event {
	e := newEventOf(b, fleet.Number(0), payloadBytes)
	e.GroupAt = bytes.Index(e.Frame, []byte(e.envelope.ID))
	return e
}

func newEventOf(b testing.TB, id string, payloadBytes int) *event {
	b.Helper()
	payload := bytes.Repeat([]byte{'x'}, payloadBytes)
	payload[0], payload[payloadBytes-1] = '"', '"'
	fleet.PutNumber(payload[1:], 0)
	e := &event{envelope: codec.Envelope{Type: "tick", ID: id, Payload: payload}}
	f, err := codec.NewFrame(e.envelope, codec.Text)
	require.NoError(b, err)
	e.Frame = f.Bytes()
	e.NumberAt = bytes.Index(e.Frame, payload) + 1
	return e
}

// numbered returns the envelope of event n. It is valid until the next call.
func (e *event) numbered(n uint64) codec.Envelope {
	fleet.PutNumber(e.envelope.Payload[1:], n)
	return e.envelope
}
