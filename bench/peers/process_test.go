package peers

import (
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/alkdev/hub/bench/peers/servers"
	"github.com/alkdev/hub/internal/fleet"
)

// question is what a server's process is asked, and answer what it says. node/server.mjs knows them
// too.
type question struct {
	Collect bool // collect garbage first and give memory back
}

type answer struct {
	Address           string
	Messages, Clients uint64 // lost
}

// process is a server that runs.
type process struct {
	*fleet.Child
	address string
}

// start starts the peer on the cores that are not the clients'.
func (p *peer) start(b testing.TB) (*process, error) {
	defer fleet.LeaveClientsTheirCore()()
	var child *fleet.Child
	if p.open != nil {
		child = fleet.Start(b, roleOf(p))
	} else {
		cmd, err := p.command()
		if err != nil {
			return nil, err
		}
		child = fleet.StartCommand(b, cmd)
	}
	s := &process{Child: child}
	a, err := s.ask(question{})
	if err != nil {
		child.Stop()
		return nil, err
	}
	s.address = a.Address
	return s, nil
}

func (s *process) ask(q question) (a answer, err error) { return a, s.Ask(q, &a) }

// idleBytes returns the resident memory after a collection.
func (s *process) idleBytes() (int64, error) {
	_, err := s.ask(question{Collect: true})
	return fleet.ResidentBytes(s.PID()), err
}

// roleOf is what a server's process is called, in its environment.
func roleOf(p *peer) string { return "peer " + p.name }

// roles returns the main functions of the servers' processes.
func roles() map[string]func() error {
	m := make(map[string]func() error)
	for _, p := range slices.Concat(all, failing) {
		if p.open != nil {
			m[roleOf(&p)] = func() error { return serve(p.open) }
		}
	}
	return m
}

// serve is a process with a server and nothing else.
func serve(open func() (servers.Server, error)) error {
	s, err := open()
	if err != nil {
		return err
	}
	return fleet.Obey(func(q question) (answer, error) {
		if q.Collect {
			runtime.GC() // what finalizers and pools hold goes in the second
			debug.FreeOSMemory()
		}
		a := answer{Address: s.Address}
		if s.Lost != nil {
			a.Messages, a.Clients = s.Lost()
		}
		return a, nil
	})
}
