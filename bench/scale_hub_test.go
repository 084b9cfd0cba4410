package bench

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/cluster/embedded"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// A scaleHub is a process with one hub of a cluster, or with one that is alone.

// What such a process reads from its environment.
const (
	scalePeers  = "HUB_SCALE_PEERS"  // addresses of other hubs; "-" for none, "" for a hub that is alone
	scaleFleets = "HUB_SCALE_FLEETS" // how many fleets it publishes to
)

// scaleCommand is what it is to do. Without anything it says how it is.
type scaleCommand struct {
	Events  int // publish so many ...
	Payload int // ... of this size to tick:42 ...
	Burst   int // ... so many at once, each time when those before have reached every client of every fleet, ...
	// ... or with Here to the clients of this hub alone, as if it were alone.
	Here bool

	Topic string // publish Events to this topic as fast as they go, or with 0 take part as a spoke that wants it

	// Topics, if not 0, has spokes without a socket want so many topics.
	Topics int

	Collect bool // collect garbage
}

type scaleAnswer struct {
	Address, Cluster   string // where clients and other hubs reach it
	Hubs               int    // that it knows of
	Deliveries, Writes uint64
	Engine             fanout.EngineInfo

	Events uint64 // published
	Wall   time.Duration
	Own    time.Duration // CPU
}

type scaleHub struct {
	*runningHub
	engine *embedded.Engine // nil for a hub that is alone
	fleets []*fleet.Fleet
	local  *fanout.Local
}

func scaleHubMain() (err error) {
	s := &scaleHub{}
	var config fanout.Config
	var member *cluster.Member
	if peers := os.Getenv(scalePeers); peers != "" {
		if member, err = s.join(peers, &config); err != nil {
			return err
		}
	}
	if s.runningHub, err = openHub(config); err != nil {
		return err
	}
	if member != nil {
		if err = member.Start(s.hub); err != nil {
			return err
		}
		defer member.Close()
	}
	fleets := 0
	_, _ = fmt.Sscan(os.Getenv(scaleFleets), &fleets)
	for i := range fleets {
		f, err := fleet.InheritedFrom(i)
		if err != nil {
			return err
		}
		s.fleets = append(s.fleets, f)
	}
	return errors.Join(fleet.Obey(s.obey), s.close())
}

// join makes the engine that a cluster brings along.
func (s *scaleHub) join(peers string, config *fanout.Config) (*cluster.Member, error) {
	quiet := slog.New(slog.DiscardHandler)
	ec := embedded.Config{ID: cluster.NewID(), Listen: "127.0.0.1:0", Logger: quiet}
	if peers != "-" {
		ec.Peers = strings.Split(peers, ",")
	}
	var err error
	if s.engine, err = embedded.New(ec); err != nil {
		return nil, err
	}
	format, err := cluster.NATSHub("hub")
	if err != nil {
		return nil, err
	}
	m, err := cluster.New(cluster.Config{ID: ec.ID, Engine: s.engine, Format: format, Logger: quiet})
	config.Cluster = m
	return m, err
}

func (s *scaleHub) obey(cmd scaleCommand) (a scaleAnswer, err error) {
	began, cpu := time.Now(), fleet.SelfCPU()
	switch {
	case cmd.Burst > 0:
		a.Events, err = s.broadcast(cmd)
	case cmd.Topic != "" && cmd.Events > 0:
		a.Events, err = uint64(cmd.Events), s.stream(cmd)
	case cmd.Topic != "":
		s.local, err = s.hub.Connect(func(codec.Envelope) {}, codec.MustParsePattern(cmd.Topic))
	case cmd.Topics > 0:
		err = s.want(cmd.Topics)
	case cmd.Collect:
		runtime.GC()
	}
	a.Wall, a.Own = time.Since(began), fleet.SelfCPU()-cpu
	info := s.hub.ClusterInfo()
	a.Address, a.Hubs, a.Engine = s.address, len(info.Hubs), info.Engine
	if s.engine != nil {
		a.Cluster = s.engine.Addr().String()
	}
	s.hub.Flush()
	stats := s.hub.Stats()
	a.Deliveries, a.Writes = stats.Deliveries, stats.Writes
	return a, err
}

// broadcast publishes events to the clients of all fleets, and waits for them.
func (s *scaleHub) broadcast(cmd scaleCommand) (events uint64, err error) {
	ev, err := newScaleEvent(cmd.Payload)
	if err != nil {
		return 0, err
	}
	runtime.GC()
	var windows []*fleet.Window
	dispatch := s.hub.Dispatch
	fleets := s.fleets
	if cmd.Here {
		fleets = fleets[:1]
		dispatch = func(e codec.Envelope) (fanout.Receipt, error) { return s.hub.DispatchHere([]codec.Envelope{e}) }
	}
	for _, f := range fleets {
		windows = append(windows, f.Window(cmd.Burst))
	}
	for ; events < uint64(cmd.Events); events++ {
		for _, w := range windows {
			if w.Full() {
				if err := w.Drain(); err != nil {
					return events, err
				}
			}
		}
		for _, w := range windows {
			w.Stamp()
		}
		if _, err := dispatch(ev.numbered(events)); err != nil {
			return events, err
		}
	}
	for _, w := range windows {
		if err := w.Drain(); err != nil {
			return events, err
		}
	}
	return events, nil
}

// stream publishes events to one topic, and waits until the engine has them.
func (s *scaleHub) stream(cmd scaleCommand) error {
	typ, id, _ := codec.SplitTopic(cmd.Topic)
	e := codec.Envelope{Type: typ, ID: id, Payload: []byte(`"` + strings.Repeat("x", 254) + `"`)}
	before := s.hub.ClusterInfo().Engine.Forwarded
	for range cmd.Events {
		for {
			_, err := s.hub.Dispatch(e)
			if err == nil {
				break
			}
			if !errors.Is(err, fanout.ErrOverloaded) {
				return err
			}
			s.hub.Flush()
		}
	}
	for s.engine != nil && s.hub.ClusterInfo().Engine.Forwarded < before+uint64(cmd.Events) {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// want connects spokes without a socket that want so many topics, each another.
func (s *scaleHub) want(topics int) error {
	for begin := 0; begin < topics; begin += fanout.DefaultMaxTopics {
		var patterns []codec.Pattern
		for i := begin; i < min(topics, begin+fanout.DefaultMaxTopics); i++ {
			patterns = append(patterns, codec.MustParsePattern(fmt.Sprintf("user:%08d", i)))
		}
		if _, err := s.hub.Connect(func(codec.Envelope) {}, patterns...); err != nil {
			return err
		}
	}
	return nil
}
