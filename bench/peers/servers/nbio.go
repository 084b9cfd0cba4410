package servers

import (
	"net"
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

// Nbio is the WebSocket server of github.com/lesismal/nbio, on whose core engine this module's hub
// stands: nbhttp's engine in its default mode, IOModNonBlocking, in which the poller serves every
// connection, as the README and its example have it.
//
//	https://github.com/lesismal/nbio/tree/v1.6.12#different-iomod
//	https://github.com/lesismal/nbio-examples/blob/master/websocket/server/server.go
//
// It has no broadcast and no prepared message: WriteMessage is called for every connection, which
// copies the message, writes what the kernel takes, and queues the rest without a limit.
func Nbio() (Server, error) {
	logging.SetLevel(logging.LevelNone)
	clients := newRoster[*websocket.Conn]()

	toClients := nbioUpgrader()
	toClients.OnOpen(func(c *websocket.Conn) {
		clients.add(c)
		_ = c.WriteMessage(websocket.TextMessage, []byte(greeting))
	})
	toClients.OnClose(func(c *websocket.Conn, _ error) { clients.remove(c) })

	toPublisher := nbioUpgrader()
	toPublisher.OnMessage(func(_ *websocket.Conn, typ websocket.MessageType, message []byte) {
		clients.each(func(c *websocket.Conn) { _ = c.WriteMessage(typ, message) })
	})

	upgrade := func(u *websocket.Upgrader) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { _, _ = u.Upgrade(w, r, nil) }
	}
	var address string
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp",
		Addrs:   []string{"127.0.0.1:0"},
		Listen: func(string, string) (net.Listener, error) {
			ln, err := listen()
			if err == nil {
				address = ln.Addr().String()
			}
			return ln, err
		},
		MaxLoad:                 1_000_000, // as in the example
		ReleaseWebsocketPayload: true,      // as in the example
		KeepaliveTime:           Forever,
		Handler:                 mux(upgrade(toClients), upgrade(toPublisher)),
	})
	err := engine.Start()
	return Server{Address: address}, err
}

func nbioUpgrader() *websocket.Upgrader {
	u := websocket.NewUpgrader()
	u.KeepaliveTime = Forever
	return u
}
