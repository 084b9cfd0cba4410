package servers

import (
	"io"
	"log/slog"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// Hub is this module's own, set up as cmd/hub does it with the defaults of its flags, but for pings, and the
// rate of a spoke: the publisher is one. A listener dispatches what it sends to every other spoke; what is
// sent is an envelope, so it is parsed and checked on the way, which no other server here does. Its welcome
// is the greeting.
func Hub() (Server, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	codec.Pretouch()
	hub, err := fanout.New(fanout.Config{
		Node: "peers", Logger: quiet, Limits: fanout.Limits{SpokeLag: fanout.DefaultSpokeLag}, SpokeRatePerSec: -1,
	})
	if err != nil {
		return Server{}, err
	}
	_, err = hub.AddListener("*", func(from *fanout.Spoke, e codec.Envelope) {
		if _, err := hub.DispatchExcept(from, e); err != nil {
			panic(err) // contained and counted by the hub; the clients will miss the event
		}
	})
	if err != nil {
		return Server{}, err
	}
	server, err := loop.New(loop.Config{Hub: hub, Logger: quiet, Ping: Forever, SpokeCPU: -1})
	if err != nil {
		return Server{}, err
	}
	ln, err := loop.Listen("127.0.0.1:0")
	if err != nil {
		return Server{}, err
	}
	// The path is the handler's affair in loop, which knows one: the publisher is a spoke like others.
	go func() { _ = server.Serve(ln) }() // until the process ends
	return Server{Address: ln.Addr().String(), Lost: func() (messages, clients uint64) {
		st := hub.Stats()
		for _, n := range st.Dropped {
			messages += n
		}
		for _, n := range st.Disconnected {
			clients += n
		}
		return messages, clients
	}}, nil
}
