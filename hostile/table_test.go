package hostile

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// attack is a line of the table.
type attack struct {
	name string
	do   func(*attacker)
	unit string // what Units counts

	growth int64         // bytes by which the hub's resident memory may grow
	cpu    time.Duration // that the hub may use for a unit
	flags  []string
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

var quickTimeouts = []string{"--handshake-timeout=500ms", "--close-timeout=500ms"}

var attacks = []attack{
	{"slow handshakes", slowHandshakes, "connection", 32 * mib, time.Second, quickTimeouts},
	{"silence", silence, "connection", 32 * mib, time.Second, quickTimeouts},
	{"connects and resets", resets, "connection", 32 * mib, time.Second, nil},
	{"heads without end", headless, "connection", 32 * mib, time.Second, quickTimeouts},
	{"half-open peers", vanished, "connection", 32 * mib, time.Second, []string{"--ping=300ms", "--pong-timeout=200ms", "--close-timeout=500ms"}},
	{"bursts of closes", closes, "connection", 32 * mib, time.Second, nil},
	{"a byte a second read", slowReader, "connection", 32 * mib, time.Second, quickTimeouts},
	{"pings", pings, "ping", 32 * mib, time.Second, nil},
	{"large pings", largePings, "ping", 32 * mib, time.Second, nil},
	{"pings, pongs unread", pingsUnread, "ping", 32 * mib, time.Second, nil},
	{"one-byte fragments", fragments, "fragment", 32 * mib, time.Second, nil},
	{"empty frames", emptyFrames, "frame", 32 * mib, time.Second, nil},
	{"empty messages", emptyMessages, "message", 32 * mib, time.Second, nil},
	{"64 KiB messages", largeMessages, "KiB", 32 * mib, time.Second, nil},
	{"events to nobody", smallMessages, "event", 32 * mib, time.Second, nil},
	{"messages that never end", endless, "connection", 128 * mib, time.Second, nil},
	{"bad at the first byte", badAtOnce, "message", 32 * mib, time.Second, nil},
	{"bad at the last byte", badAtTheEnd, "message", 32 * mib, time.Second, nil},
	{"deeply nested JSON", deep, "message", 32 * mib, time.Second, nil},
	{"huge ids", hugeIDs, "message", 32 * mib, time.Second, nil},
	{"broken frames", brokenFrames, "connection", 32 * mib, time.Second, nil},
	{"subscriptions", subscriptions, "message", 32 * mib, time.Second, nil},
	{"subscriptions, answers unread", subscriptionsUnread, "message", 32 * mib, time.Second, quickTimeouts},
	{"a wide pattern comes and goes", widePattern, "message", 64 * mib, time.Second, nil},
	{"a covering pattern comes and goes", coveringPattern, "message", 32 * mib, time.Second, nil},
	{"many topics", manyTopics, "connection", 128 * mib, time.Second, nil},
	{"too many topics", tooManyTopics, "message", 32 * mib, time.Second, nil},
	{"compression bombs", bombs, "message", 32 * mib, time.Second, []string{"--compress"}},
	{"heavy compression bombs", heavyBombs, "message", 32 * mib, time.Second, []string{"--compress"}},
	{"slow compressed data", slowDeflate, "message", 32 * mib, time.Second, []string{"--compress"}},
	{"slow admin requests", slowAdmin, "connection", 32 * mib, time.Second, nil},
	{"admin bodies", adminBodies, "MiB", 128 * mib, time.Second, nil},
	{"admin streams unread", adminStreams, "event", 128 * mib, time.Second, nil},
}

func find(name string) *attack {
	for i := range attacks {
		if attacks[i].name == name {
			return &attacks[i]
		}
	}
	return nil
}

func TestThoseWhoBehaveAreServedDuring(t *testing.T) {
	form := formOf(t)
	for _, at := range attacks {
		t.Run(at.name, func(t *testing.T) { at.run(t, form) })
	}
}

func (at *attack) run(t *testing.T, form form) {
	hub := startHub(t, at.flags...)
	g := newGroup(t, hub)
	quiet := g.measure(form.events)
	before := hub.holds()

	enemy := fleet.Start(t, roleAttacker)
	require.NoError(t, enemy.Ask(order{at.name, form.Long, hub.spokes, hub.admin}, nil))
	during := g.measure(form.events)
	var done tally
	require.NoError(t, enemy.Ask(order{}, &done))
	enemy.Stop()
	ended := time.Now()

	perUnit := time.Duration(float64(during.CPU-quiet.CPU) / math.Max(1, float64(done.Units)))
	t.Logf("%d units (%s) in %v, %d spokes; CPU %v per unit, %.0f%% of a core; resident +%.1f MiB; events %v after %v, answers %v after %v, greetings %v after %v",
		done.Units, at.unit, during.Elapsed.Round(time.Millisecond), done.Connects, perUnit,
		100*during.CPU.Seconds()/during.Elapsed.Seconds(), float64(during.Resident-quiet.Resident)/mib,
		during.Events, quiet.Events, during.Answers, quiet.Answers, during.Greetings, quiet.Greetings)
	at.requireBounds(t, form, quiet, during, perUnit)
	requireRecovery(t, hub, before, ended)
	g.measure(form.events / 10)
}

func (at *attack) requireBounds(t *testing.T, form form, quiet, during service, perUnit time.Duration) {
	t.Helper()
	if raceEnabled {
		return
	}
	require.LessOrEqual(t, during.Resident-quiet.Resident, at.growth, "memory")
	require.LessOrEqual(t, perUnit, at.cpu, "CPU per %s", at.unit)
	require.LessOrEqual(t, during.Events, 2*quiet.Events+form.slack, "events")
	require.LessOrEqual(t, during.Answers, 2*quiet.Answers+form.slack, "answers")
	require.LessOrEqual(t, during.Greetings, 2*quiet.Greetings+form.slack, "connecting")
}

// What is forgiven when a hub is to be as it was: goroutines of net/http for connections that are kept
// alive, and what pools keep.
const (
	moreGoroutines  = 8
	moreDescriptors = 4
	moreHeap        = 8 * mib
)

// requireRecovery waits until the hub holds what it held before.
func requireRecovery(t *testing.T, hub *process, before holdings, ended time.Time) {
	t.Helper()
	var after holdings
	await(t, func() bool {
		after = hub.holds()
		return after.connections <= before.connections && after.goroutines <= before.goroutines+moreGoroutines &&
			after.descriptors <= before.descriptors+moreDescriptors && after.heap <= before.heap+moreHeap
	}, "the hub is as before: %+v", before)
	if took := time.Since(ended); took > time.Second {
		t.Logf("as before after %v", took.Round(time.Millisecond))
	}
}
