package servers

import (
	"bytes"
	"net/http"
	"time"

	"github.com/lxzan/gws"
)

// Gws is github.com/lxzan/gws as its README has it: "Best Practice" for the upgrade behind net/http
// with a goroutine that reads, and "Broadcast" for a Broadcaster, which makes the frame once and puts
// it into each connection's own queue without a limit, to be written by a goroutine that lives as
// long as the queue is not empty.
//
//	https://github.com/lxzan/gws/tree/v1.8.9#best-practice
//	https://github.com/lxzan/gws/tree/v1.8.9#broadcast
//
// Not taken from "Best Practice": compression, as everywhere here, and ParallelEnabled for the
// publisher, whose messages would overtake each other.
func Gws() (Server, error) {
	clients := newRoster[*gws.Conn]()
	toClients := gws.NewUpgrader(&gwsClient{roster: clients}, &gws.ServerOption{
		ParallelEnabled: true, Recovery: gws.Recovery,
	})
	toPublisher := gws.NewUpgrader(&gwsPublisher{clients: clients}, &gws.ServerOption{Recovery: gws.Recovery})
	address, err := serve(gwsUpgrade(toClients), gwsUpgrade(toPublisher))
	return Server{Address: address}, err
}

func gwsUpgrade(u *gws.Upgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		socket, err := u.Upgrade(w, r)
		if err != nil {
			return
		}
		go socket.ReadLoop() // ends with the connection; not here, where it would keep the request
	}
}

type gwsClient struct {
	gws.BuiltinEventHandler
	roster *roster[*gws.Conn]
}

func (h *gwsClient) OnOpen(socket *gws.Conn) {
	_ = socket.SetDeadline(time.Now().Add(Forever))
	h.roster.add(socket)
	_ = socket.WriteString(greeting)
}

func (h *gwsClient) OnClose(socket *gws.Conn, _ error) { h.roster.remove(socket) }

type gwsPublisher struct {
	gws.BuiltinEventHandler
	clients *roster[*gws.Conn]
}

func (h *gwsPublisher) OnMessage(_ *gws.Conn, message *gws.Message) {
	defer message.Close()
	// The Broadcaster keeps the payload until the last write, and message is closed before that.
	b := gws.NewBroadcaster(message.Opcode, bytes.Clone(message.Bytes()))
	defer b.Close()
	h.clients.each(func(c *gws.Conn) { _ = b.Broadcast(c) })
}
