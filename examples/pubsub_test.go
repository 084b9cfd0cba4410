package examples

import (
	"fmt"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Publish and subscribe within one program, without a socket: a hub with no server. Each subscriber has
// a goroutine and a queue of its own, under the same limits as a spoke elsewhere: a slow one does not
// hold up the publisher or the others.
func Example_pubSub() {
	hub, err := fanout.New(fanout.Config{})
	check(err)
	defer hub.Close()

	shipped := make(chan struct{})
	subscriber, err := hub.Connect(func(e codec.Envelope) {
		if e.Reserved() { // __welcome, and __gap if this function were too slow
			return
		}
		fmt.Println(e.Topic(), string(e.Payload))
		if e.Type == "shipped" {
			close(shipped)
		}
	}, codec.MustParsePattern("order:7"), codec.MustParsePattern("shipped:*"))
	check(err)
	defer subscriber.Close()

	for _, topic := range []codec.Envelope{
		{Type: "order", ID: "6", Payload: []byte(`"paid"`)},
		{Type: "order", ID: "7", Payload: []byte(`"paid"`)},
		{Type: "shipped", ID: "7", Payload: []byte(`{"by":"rail"}`)},
	} {
		_, err := hub.Dispatch(topic)
		check(err)
	}
	<-shipped
	// Output:
	// order:7 "paid"
	// shipped:7 {"by":"rail"}
}
