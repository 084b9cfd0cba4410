package examples

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// A hub in a program that has an HTTP server already: spokes at one path, the program's own pages at
// the others, and a request that becomes an event.
func Example_netHTTP() {
	hub, server := newHub(fanout.Config{})
	defer hub.Close()

	mux := http.NewServeMux()
	mux.Handle("GET /live", server.Handler())
	mux.HandleFunc("PUT /price/{symbol}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<10))
		if err == nil {
			// What is not JSON, or too long, is refused here and reaches nobody.
			_, err = hub.Dispatch(codec.Envelope{Type: "price", ID: r.PathValue("symbol"), Payload: body})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	address, end := serve(mux)
	defer end()

	fmt.Println(next("ws://"+address+"/live", "price:*", func() {
		put(address, "/price/ACME", `{"eur":1.50`)
		put(address, "/price/ACME", `{"eur":1.50}`)
	}))
	check(server.Shutdown(context.Background()))
	// Output:
	// 400 Bad Request
	// 200 OK
	// price:ACME {"eur":1.50}
}
