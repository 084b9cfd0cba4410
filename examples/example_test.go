package examples

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// newHub returns a hub and what connects sockets to it, for the example to mount or to serve.
func newHub(fc fanout.Config) (*fanout.Hub, *loop.Server) {
	hub, err := fanout.New(fc)
	check(err)
	server, err := loop.New(loop.Config{Hub: hub})
	check(err)
	return hub, server
}

// serve runs an HTTP server with the handler and returns its address and what ends it.
func serve(handler http.Handler) (address string, end func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	s := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln) // http.ErrServerClosed
	}()
	return ln.Addr().String(), func() {
		check(s.Close())
		<-done
	}
}

// next connects a spoke, runs then once it is there, and returns the first event that it gets.
func next(url, topic string, then func()) string {
	got := make(chan codec.Envelope, 1)
	c, err := client.Dial(context.Background(), url, client.Options{
		OnEvent: func(_ *client.Client, e codec.Envelope) { got <- e },
		OnReserved: func(_ *client.Client, e codec.Envelope) {
			if e.Type == codec.TypeSubscribed {
				then()
			}
		},
	})
	check(err)
	check(c.Subscribe(topic))
	e := <-got
	check(c.Close(codec.CloseNormal, ""))
	return strings.Join([]string{e.Topic(), string(e.Payload)}, " ")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
