package fleet

import "time"

// command is what the clients' process is to do.
type command struct {
	Op string

	Connect Clients // opConnect
	Event   Event   // opBegin
}

// The values of command.Op.
const (
	opConnect    = "connect"
	opBegin      = "begin"  // count from 0, for events like this
	opReport     = "report" // how it went, once everything has arrived
	opDisconnect = "disconnect"
)

// Clients says which connections to make, and what to expect of them.
type Clients struct {
	// Address is an IPv4 address with its port, Path what is asked for there, /ws by default.
	// GroupMark in it stands for the number of the client's group, as Number writes it.
	Address, Path string
	// Subprotocol is asked for if it is not empty.
	Subprotocol string
	// Header is more lines of the request, each with its CRLF.
	Header string
	// Deflate offers permessage-deflate without context takeover (RFC 7692). It must be accepted, and
	// every one of the Messages of an Event must be compressed then.
	Deflate bool
	// Hello is what each client sends as soon as the handshake is answered: frames, made by
	// Message.
	Hello []byte

	// Counting begins behind the first frame that contains Until, or if that is empty, behind so
	// many frames after the handshake.
	Skip  int
	Until string

	// Reading clients are what is measured. Stalled ones read nothing once they count; slow ones
	// read SlowBytesPerSec each. Neither is waited for. They are spread among the others.
	Reading, Stalled, Slow int
	SlowBytesPerSec        int

	// Groups, if not 0: the reading clients belong to so many groups, dealt out in turn, and event n
	// goes to group n modulo their number.
	Groups int
	// Checked: every so manieth reading client has its frames compared, 0 for none.
	Checked int
	// AtOnce is how many connections may be without their last frame before counting begins; 128 by
	// default, which is less than the backlog of any listener.
	AtOnce int
}

// perAddress is how many clients share a source address: well below the number of ports.
const perAddress = 5000

func (c *Clients) setDefaults() {
	if c.Path == "" {
		c.Path = "/ws"
	}
	if c.AtOnce == 0 {
		c.AtOnce = 128
	}
}

func (c *Clients) total() int { return c.Reading + c.Stalled + c.Slow }

// Count is what a fleet says about its deliveries, or about its connections.
type Count struct {
	CPU time.Duration // of the fleet until now

	// Deliveries since Begin, and how long they took, from the publisher's Stamp to just after the
	// read(2). Of Connect: how many connections, and how long from connect(2) to when they count.
	Deliveries    uint64
	P50, P99, Max time.Duration

	Bytes   uint64        // since Begin, headers of frames included
	Elapsed time.Duration // Connect: from the first connect(2) until all count
}

func (c *Count) take(h *histogram) {
	c.Deliveries, c.P50, c.P99, c.Max = h.count, h.quantile(0.50), h.quantile(0.99), h.max
}
