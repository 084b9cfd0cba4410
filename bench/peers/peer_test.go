package peers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/alkdev/hub/bench/peers/servers"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/internal/fleet"
)

// peer is a server under its name, and how clients and the publisher talk to it.
type peer struct {
	name string
	// open starts the server in a child process of this binary. Where it is nil, command returns
	// another program, or says why it cannot be run here.
	open    func() (servers.Server, error)
	command func() (*exec.Cmd, error)

	clients   fleet.Clients // without address and numbers
	publisher string        // the path
	hello     []byte        // what the publisher sends first
	wire      func(envelope []byte) message
}

// message is an event as the publisher sends it and as clients get it.
type message struct {
	sent     []byte
	numberAt int // in sent
	got      fleet.Event
}

const (
	nameOfFloor = "floor"
	nameOfHub   = "hub"
)

// all is every peer, in the order of the table.
var all = []peer{
	broadcaster(nameOfFloor, servers.Floor),
	ownHub(),
	broadcaster("gws", servers.Gws),
	broadcaster("gorilla", servers.Gorilla),
	broadcaster("coder", servers.Coder),
	broadcaster("nbio websocket", servers.Nbio),
	nats(),
	node(),
}

// broadcaster is a peer that sends on what comes from its publisher, to clients that it has greeted
// with one message.
func broadcaster(name string, open func() (servers.Server, error)) peer {
	return peer{
		name: name, open: open,
		clients:   fleet.Clients{Path: servers.PathOfClients, Skip: 1},
		publisher: servers.PathOfPublisher,
		wire:      plain,
	}
}

// ownHub has one path, where the publisher is a spoke like the others.
func ownHub() peer {
	p := broadcaster(nameOfHub, servers.Hub)
	p.publisher = servers.PathOfClients
	return p
}

// nats has clients that subscribe with sid 1 and count once their PING is answered, for then they are
// subscribed.
func nats() peer {
	const connect = `CONNECT {"verbose":false,"pedantic":false,"lang":"go","version":"0","protocol":1}` + "\r\n"
	return peer{
		name: "NATS", open: servers.Nats,
		clients: fleet.Clients{
			Path:  "/",
			Hello: fleet.Message(fleet.Binary, connect+"SUB tick 1\r\nPING\r\n"),
			Until: "PONG\r\n",
		},
		publisher: "/",
		hello:     fleet.Message(fleet.Binary, connect),
		wire: func(envelope []byte) message {
			m := sent(fleet.Message(fleet.Binary, fmt.Sprintf("PUB tick %d\r\n%s\r\n", len(envelope), envelope)))
			m.got = fleet.Event{Marker: payloadBegins}
			return m
		},
	}
}

// node is Node's ws. The package comment says how it gets there.
func node() peer {
	p := broadcaster("ws (Node)", nil)
	p.command = func() (*exec.Cmd, error) {
		path, err := exec.LookPath("node")
		if err != nil {
			return nil, errors.New("node is not installed")
		}
		if _, err := os.Stat("node/node_modules/ws"); err != nil {
			return nil, errors.New("ws is not installed: npm ci --prefix bench/peers/node")
		}
		return exec.Command(path, "--expose-gc", "node/server.mjs"), nil
	}
	return p
}

// payloadBegins stands in an envelope just before the number of the event.
const payloadBegins = `"payload":"`

// newEnvelope returns an envelope whose payload is a JSON string of so many bytes that begins with the
// number of the event.
func newEnvelope(payloadBytes int) []byte {
	payload := bytes.Repeat([]byte{'x'}, payloadBytes)
	payload[0], payload[payloadBytes-1] = '"', '"'
	fleet.PutNumber(payload[1:], 0)
	b, err := codec.AppendEnvelope(nil, codec.Envelope{Type: "tick", ID: "42", Payload: payload})
	if err != nil {
		panic(err) // it is the same every time
	}
	return b
}

// plain is an envelope in one text frame, both ways.
func plain(envelope []byte) message {
	m := sent(fleet.Message(fleet.Text, string(envelope)))
	frame := bytes.Clone(m.sent[:4]) // the same without a mask (RFC 6455 section 5.2)
	frame[1] &^= 0x80
	frame = append(frame, envelope...)
	m.got = fleet.Event{Frame: frame, NumberAt: numberIn(frame)}
	return m
}

func sent(frame []byte) message { return message{sent: frame, numberAt: numberIn(frame)} }

func numberIn(frame []byte) int {
	return bytes.Index(frame, []byte(payloadBegins)) + len(payloadBegins)
}
