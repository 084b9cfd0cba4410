package fleet

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Floor is the fastest way to write the same bytes to many sockets that this machine has: one thread
// in a process of its own, no scheduler in between, bytes that lie ready, descriptors in one dense
// slice, write(2). Events join until the window is full: only then has a publisher nothing more to
// say, and there is nothing to wait for. With groups or at a pace nothing can be joined.
type Floor struct {
	*Child
	fleet *Fleet
}

// floorCommand is what the floor's process is to do.
type floorCommand struct {
	Accept int    // listen, answer, and then accept so many in the place of those there are
	Prefix string // if there are groups: the path up to the number of the client's
	Groups int
	Load   Load
}

type floorAnswer struct {
	Address string
	Turn    Turn
}

// StartFloor starts a floor without connections for the clients of f, on the cores that are not
// theirs. It ends with b.
func StartFloor(b testing.TB, f *Fleet) *Floor {
	b.Helper()
	l := &Floor{Child: f.StartPublisher(b, roleFloor), fleet: f}
	KeepOffClients(l.PID())
	return l
}

// ConnectFloor starts a floor and connects these clients to it. Where they connect to and what they
// expect there is known.
func ConnectFloor(b testing.TB, f *Fleet, c Clients) *Floor {
	b.Helper()
	l := StartFloor(b, f)
	_, err := l.Connect(c)
	require.NoError(b, err)
	return l
}

// Connect connects these clients in the place of those there are.
func (l *Floor) Connect(c Clients) (Count, error) {
	c.setDefaults()
	c.Hello, c.Skip, c.Until, c.Subprotocol = nil, 0, "", ""
	if c.Stalled+c.Slow > 0 {
		return Count{}, errors.New("fleet: the floor waits for every client")
	}
	prefix, _, _ := strings.Cut(c.Path, GroupMark)
	// Before the floor closes its side, which clients that count would report.
	if _, err := l.fleet.Disconnect(); err != nil {
		return Count{}, err
	}
	var a floorAnswer
	if err := l.Ask(floorCommand{Accept: c.Reading, Groups: c.Groups, Prefix: prefix}, &a); err != nil {
		return Count{}, err
	}
	c.Address = a.Address
	n, err := l.fleet.Connect(c)
	if err == nil {
		err = l.Ask(floorCommand{}, &a) // it has accepted all
	}
	return n, err
}

// Measure implements Side.
func (l *Floor) Measure(load Load) (Turn, error) {
	return l.fleet.Measure(load, func(load Load) (Turn, error) {
		var a floorAnswer
		err := l.Ask(floorCommand{Load: load}, &a)
		return a.Turn, err
	})
}

var (
	_ Side = (*Source)(nil)
	_ Side = (*Floor)(nil)
)
