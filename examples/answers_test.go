package examples

import (
	"context"
	"fmt"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// Questions and answers over one connection: the answer is a targeted event, which reaches the spoke that
// asked and nobody else, and carries the id of the question.
func Example_requestResponse() {
	hub, server := newHub(fanout.Config{})
	defer hub.Close()
	ln, err := loop.Listen("127.0.0.1:0")
	check(err)
	go server.Serve(ln) // Shutdown ends it

	_, err = hub.AddListener("square:*", func(s *fanout.Spoke, question codec.Envelope) {
		answer := codec.Envelope{Type: "answer", ID: question.ID}
		var n int
		if err := question.Decode(&n); err != nil {
			answer.Type, answer.Payload = "failed", []byte(`"not a number"`)
		} else {
			answer.Payload = fmt.Appendf(nil, "%d", n*n)
		}
		_, err := s.Dispatch(answer)
		check(err)
	})
	check(err)

	answers := make(chan codec.Envelope)
	c, err := client.Dial(context.Background(), "ws://"+ln.Addr().String()+"/ws", client.Options{
		OnEvent: func(_ *client.Client, e codec.Envelope) { answers <- e },
	})
	check(err)
	for id, question := range []string{"7", "12", `"x"`} {
		check(c.Dispatch(codec.Envelope{Type: "square", ID: fmt.Sprint(id), Payload: []byte(question)}))
	}
	for range 3 {
		e := <-answers
		fmt.Println(e.Topic(), string(e.Payload))
	}
	check(c.Close(codec.CloseNormal, ""))
	check(server.Shutdown(context.Background()))
	// Output:
	// answer:0 49
	// answer:1 144
	// failed:2 "not a number"
}
