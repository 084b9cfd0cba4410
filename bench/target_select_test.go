package bench

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/fleet"
)

// groupTopic subscribes each client to a topic of its group's.
const groupTopic = "/ws?topic=tick:" + fleet.GroupMark

// topicsTargets: an event for few of the spokes costs each of them little more than one for all. Both
// are one write per delivery: of events for different spokes none can be joined. What an event costs
// once, whoever takes it, ten spokes share instead of all: with one event at a time that is mostly
// waking the hub and the clients, so the floor is there for comparison.
func topicsTargets(b *testing.B, r *results) {
	defer fleet.LeaveClientsTheirCore()()
	spokes := manySpokes() * 9 / 10 // twice, in one process
	topics := spokes / 10
	all := startHub(b, fanout.Config{})
	toAll := fleet.Launch(b)
	all.connect(b, toAll, fleet.Clients{Reading: spokes, Checked: checkedInBenchmarks})
	few := startContest(b, fanout.Config{}, fleet.Clients{Reading: spokes, Groups: topics, Path: groupTopic})
	ev, group, names := newEvent(b, 256), newGroupEvent(b, 256), groupNames(topics)
	byTopic := few.h.source(few.hub, group)
	byTopic.Publish = func(n uint64) error {
		e := group.numbered(n)
		e.ID = names[n%uint64(topics)]
		_, err := few.h.hub.Dispatch(e)
		return err
	}
	broadcast := measured(all.source(toAll, ev), 1, fleet.Load{Event: ev.Event, Window: 1, For: turnTime})
	for _, window := range []int{1, 64} {
		b.Run(fmt.Sprintf("spokes=%d/topics=%d/payload=256/window=%d", spokes, topics, window), func(b *testing.B) {
			load := fleet.Load{Event: group.Event, Window: window, For: turnTime}
			what := fmt.Sprintf("one of %d topics, window %d,", topics, window)
			b.Run("to=broadcast", func(b *testing.B) {
				r.compare(b, cpuPerDelivery, target{what: what + " to broadcast, window 1", atMost: 1.5},
					inPairs(b, measured(byTopic, topics, load), broadcast))
			})
			b.Run("to=floor", func(b *testing.B) {
				r.compare(b, cpuPerDelivery, target{what: what + " to the floor, the same", atMost: 2},
					inPairs(b, measured(byTopic, topics, load), measured(few.floor, topics, load)))
			})
		})
	}
}

// groupNames returns the ids of so many groups.
func groupNames(groups int) []string {
	names := make([]string, groups)
	for g := range names {
		names[g] = fleet.Number(uint64(g))
	}
	return names
}

// targetedTargets: an event for one spoke, and the next for another.
func targetedTargets(b *testing.B, r *results) {
	defer fleet.LeaveClientsTheirCore()()
	spokes := manySpokes()
	c := startContest(b, fanout.Config{}, fleet.Clients{Reading: spokes, Groups: spokes, Path: groupTopic})
	ev := newGroupEvent(b, 256)
	byName := make(map[string]*fanout.Spoke)
	for _, s := range c.h.hub.Spokes() {
		patterns, _ := s.Topics()
		require.Len(b, patterns, 1)
		byName[patterns[0].String()] = s
	}
	names := groupNames(spokes)
	source := c.h.source(c.hub, ev)
	source.Publish = func(n uint64) error {
		e := ev.numbered(n)
		e.ID = names[n%uint64(spokes)]
		_, err := byName["tick:"+e.ID].Dispatch(e)
		return err
	}
	for _, window := range []int{64, 1024} {
		b.Run(fmt.Sprintf("spokes=%d/payload=256/window=%d", spokes, window), func(b *testing.B) {
			load := fleet.Load{Event: ev.Event, Window: window, For: turnTime}
			r.compare(b, cpuPerDelivery, target{what: fmt.Sprintf("to one spoke of %d in turn, window %d", spokes, window), atMost: 2},
				inPairs(b, measured(source, spokes, load), measured(c.floor, spokes, load)))
		})
	}
}
