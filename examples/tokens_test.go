package examples

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/alkdev/hub/auth"
	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// Spokes need a token, which says who they are and which topics they may receive and send.
func Example_tokens() {
	secret := []byte("0123456789abcdef0123456789abcdef") // from a file, in a program
	verifier, err := auth.New(auth.Config{Key: secret})
	check(err)
	defer verifier.Close()
	hub, err := fanout.New(fanout.Config{
		Renew: verifier.Renew, // a fresh token on a connection that stays
		OnConnection: func(s *fanout.Spoke) {
			fmt.Println("connected:", s.Subject())
		},
	})
	check(err)
	defer hub.Close()
	server, err := loop.New(loop.Config{
		Hub:          hub,
		Authenticate: verifier.Request, // the token of a handshake
	})
	check(err)

	address, end := serve(server.Handler())
	defer end()
	url := "ws://" + address

	token := func(context.Context) (string, error) { // as whoever knows the secret makes one
		return auth.Mint(secret, auth.Token{
			Subject: "ada", Topics: []string{"tick:*"}, Expires: time.Now().Add(time.Hour),
		})
	}
	spoke, err := client.Dial(context.Background(), url, client.Options{Token: token})
	check(err)
	check(spoke.Close(codec.CloseNormal, ""))

	_, err = client.Dial(context.Background(), url, client.Options{})
	var refused *client.RefusedError
	fmt.Println("without one:", errors.As(err, &refused) && refused.StatusCode == http.StatusUnauthorized)
	check(server.Shutdown(context.Background()))
	// Output:
	// connected: ada
	// without one: true
}
