package examples

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// A hub behind chi and its middleware. Middleware that wraps the ResponseWriter has to let the
// connection be taken over (http.Hijacker), as chi's own does; one that bounds the time of a request
// does not reach the spoke, whose connection is the hub's from the upgrade on.
func Example_chi() {
	hub, server := newHub(fanout.Config{})
	defer hub.Close()

	r := chi.NewRouter()
	r.Use(middleware.Recoverer, middleware.Compress(5))
	r.Get("/rooms/live", server.Handler().ServeHTTP)
	r.Post("/rooms/{room}/open", func(w http.ResponseWriter, r *http.Request) {
		receipt, err := hub.Dispatch(codec.Envelope{Type: "room", ID: chi.URLParam(r, "room"), Payload: []byte(`"open"`)})
		check(err)
		fmt.Println("taken by", receipt.Matched)
	})
	address, end := serve(r)
	defer end()

	fmt.Println(next("ws://"+address+"/rooms/live", "room:blue", func() {
		post(address, "/rooms/red/open")
		post(address, "/rooms/blue/open")
	}))
	check(server.Shutdown(context.Background()))
	// Output:
	// taken by 0
	// taken by 1
	// room:blue "open"
}
