package servers

import (
	"errors"
	"net/url"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Nats is an embedded NATS server with its WebSocket listener, set up as its documentation has it for
// use without TLS; everything else is at its default, among it the 64 MB that may be pending for a
// client before it is cut off as a slow consumer.
//
//	https://docs.nats.io/running-a-nats-service/configuration/websocket/websocket_conf
//	https://pkg.go.dev/github.com/nats-io/nats-server/v2@v2.15.2/server#NewServer
//
// Clients speak NATS's own protocol inside the frames: each sends NatsHello and gets its messages
// with a line before and behind them, several to a frame when it lags. The publisher is a NATS client
// too, over the same listener, and sends what NatsPublish returns.
func Nats() (Server, error) {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT,
		Websocket: server.WebsocketOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoTLS: true},
		NoLog:     true, NoSigs: true,
		PingInterval: Forever, DisableShortFirstPing: true,
	})
	if err != nil {
		return Server{}, err
	}
	go s.Start() // until the process ends
	if !s.ReadyForConnections(10 * time.Second) {
		return Server{}, errors.New("the NATS server is not ready after ten seconds")
	}
	at, err := url.Parse(s.WebsocketURL())
	if err != nil {
		return Server{}, err
	}
	return Server{Address: at.Host, Lost: func() (messages, clients uint64) {
		return 0, uint64(s.NumSlowConsumers())
	}}, nil
}
