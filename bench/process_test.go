package bench

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// hubProcess is a hub in a process of its own, for it has as many connections as one may have. It
// publishes quotes itself, so that what it uses can be compared with what a hub in this process does.
type hubProcess struct {
	*fleet.Child
	fleet *fleet.Fleet
}

// hubCommand is what such a process is to do: nothing without events in the load.
type hubCommand struct {
	PayloadBytes int        // of the quotes
	Load         fleet.Load // without what the clients need
}

type hubAnswer struct {
	Address string
	Turn    fleet.Turn
}

// startHubProcess starts a hub and connects these clients to it, which take compressed messages if it
// compresses. It ends with b.
func startHubProcess(b testing.TB, compress bool, c fleet.Clients) *hubProcess {
	b.Helper()
	role := rolePlain
	if compress {
		role = roleDeflated
	}
	f := fleet.Launch(b)
	h := &hubProcess{f.StartPublisher(b, role), f}
	var a hubAnswer
	require.NoError(b, h.Ask(hubCommand{}, &a))
	c.Address, c.Skip, c.Deflate = a.Address, 1, compress
	_, err := f.Connect(c)
	require.NoError(b, err)
	return h
}

// quoting is a side: a hub in a process of its own, which publishes quotes.
type quoting struct {
	hub *hubProcess
	q   *quotes
}

func (h *hubProcess) of(q *quotes) quoting { return quoting{h, q} }

// Measure implements fleet.Side.
func (s quoting) Measure(l fleet.Load) (fleet.Turn, error) {
	l.Event = s.q.Event
	return s.hub.fleet.Measure(l, func(l fleet.Load) (fleet.Turn, error) {
		var a hubAnswer
		l.Event = fleet.Event{}
		err := s.hub.Ask(hubCommand{PayloadBytes: len(s.q.envelopes[0].Payload), Load: l}, &a)
		return a.Turn, err
	})
}

// The defaults of --compress-level and --compress-min.
const (
	deflateLevel    = 3
	deflateMinBytes = 512
)

func plainMain() error { return publishingMain(fanout.Config{}) }

func deflatedMain() error {
	d, err := codec.NewDeflater(deflateLevel, deflateMinBytes)
	if err != nil {
		return err
	}
	return publishingMain(fanout.Config{Deflater: d})
}

// publishingMain is a process with a hub that publishes as it is told.
func publishingMain(config fanout.Config) error {
	h, err := openHub(config)
	if err != nil {
		return err
	}
	f, err := fleet.Inherited()
	if err == nil {
		err = fleet.Obey(func(cmd hubCommand) (hubAnswer, error) {
			t, err := h.publish(f, cmd)
			return hubAnswer{h.address, t}, err
		})
	}
	return errors.Join(err, h.close())
}

func (h *runningHub) publish(f *fleet.Fleet, cmd hubCommand) (fleet.Turn, error) {
	if cmd.Load.Events == 0 {
		return fleet.Turn{}, nil
	}
	q := newQuotes(cmd.PayloadBytes)
	to := fleet.Source{Fleet: f, CPU: fleet.SelfCPU, Writes: h.writes, Publish: func(n uint64) error {
		_, err := h.hub.Dispatch(q.numbered(n))
		return err
	}}
	runtime.GC() // of what came before
	return to.Run(cmd.Load)
}
