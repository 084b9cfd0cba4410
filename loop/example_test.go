package loop_test

import (
	"context"
	"fmt"

	"github.com/coder/websocket"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// A hub on a port of its own, and one spoke that asks and is answered.
func Example() {
	hub, err := fanout.New(fanout.Config{})
	check(err)
	defer hub.Close()
	server, err := loop.New(loop.Config{Hub: hub})
	check(err)
	ln, err := loop.Listen("127.0.0.1:0")
	check(err)
	go server.Serve(ln) // Shutdown ends it

	_, err = hub.AddListener("ask:*", func(s *fanout.Spoke, e codec.Envelope) { // from any spoke
		_, err := s.Dispatch(codec.Envelope{Type: "answer", ID: e.ID, Payload: e.Payload}) // to this one
		check(err)
	})
	check(err)

	ctx := context.Background()
	spoke, _, err := websocket.Dial(ctx, "ws://"+ln.Addr().String()+"/ws", nil)
	check(err)
	check(spoke.Write(ctx, websocket.MessageText, []byte(`{"type":"ask","id":"1","payload":[1,2.50]}`)))
	for range 2 {
		_, message, err := spoke.Read(ctx)
		check(err)
		if e, err := codec.ParseEnvelope(message); err == nil && !e.Reserved() {
			fmt.Printf("%s\n", message)
		}
	}
	check(spoke.Close(websocket.StatusNormalClosure, ""))
	check(server.Shutdown(ctx))
	// Output: {"type":"answer","id":"1","payload":[1,2.50]}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
