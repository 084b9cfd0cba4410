package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/coder/websocket"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
)

// A program asks for one topic, looks at what comes, and answers.
func Example() {
	hub := newExampleHub()
	defer hub.Close()
	url := "ws" + strings.TrimPrefix(hub.URL, "http")

	c, err := client.Dial(context.Background(), url, client.Options{
		OnGap: func(_ *client.Client, gap codec.Gap) { log.Printf("missed %d events", gap.Dropped) },
	})
	if err != nil {
		log.Fatal(err)
	}

	answered := make(chan struct{})
	_, err = c.AddListener("tick:*", func(e codec.Envelope) {
		fmt.Println(e.Topic(), string(e.Payload))
		if err := c.Dispatch(codec.Envelope{Type: "seen", ID: e.ID}); err != nil {
			log.Print(err)
		}
		close(answered)
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Subscribe("tick:42"); err != nil {
		log.Fatal(err)
	}
	<-answered
	if err := c.Close(codec.CloseNormal, "done"); err != nil { // the answer leaves first
		log.Fatal(err)
	}
	for message := range hub.received {
		fmt.Println("hub:", message)
	}
	// Output:
	// tick:42 {"price":10}
	// hub: {"type":"__subscribe","id":"","payload":{"topics":["tick:42"]}}
	// hub: {"type":"seen","id":"42","payload":null}
}

// exampleHub sends one event after the first message of its only spoke, and remembers every message.
type exampleHub struct {
	*httptest.Server
	received chan string
}

func newExampleHub() *exampleHub {
	h := &exampleHub{received: make(chan string, 10)}
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	return h
}

func (h *exampleHub) serve(w http.ResponseWriter, r *http.Request) {
	defer close(h.received)
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	for sent := false; ; sent = true {
		_, message, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		h.received <- string(message)
		if !sent {
			tick := []byte(`{"type":"tick","id":"42","payload":{"price":10}}`)
			if ws.Write(r.Context(), websocket.MessageText, tick) != nil {
				return
			}
		}
	}
}
