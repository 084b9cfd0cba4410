package hostile

import (
	"slices"
	"testing"
	"time"

	"github.com/alkdev/hub/internal/fleet"
)

// attack is a line of the table.
type attack struct {
	name string
	do   func(*attacker)
	unit string // what tally.Units counts

	growth int64         // bytes by which the hub's resident memory may grow
	cpu    time.Duration // of the hub, for a unit
	ahead  time.Duration // what the hub may have to do for the attackers before others have their turn
	flags  []string
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// hasty hubs give a handshake and a close only a moment. It is for the long form, where the machine is the
// hub's.
var hasty = []string{"--handshake-timeout=2s", "--close-timeout=1s"}

// patient hubs are those of the short form. With the race detector, beside the tests of everything else, a
// hub may get a tenth of a core, and what takes a second of work ten: it is not to close whoever behaves for
// being late when it has been late itself.
var patient = []string{"--handshake-timeout=1m", "--pong-timeout=1m"}

// pinging hubs find out within seconds about who is not there. Whoever behaves has five seconds to answer
// a ping, beside attacks that make next to no work.
var pinging = []string{"--ping=300ms", "--pong-timeout=5s", "--close-timeout=1s"}

// rated hubs take so many handshakes a second from one address.
var rated = []string{"--connect-rate-per-ip=500"}

var compressing = []string{"--compress"}

// What the hub does for an attacker before it is somebody else's turn, as it does it for everybody.
const (
	turnTime = 100 * time.Microsecond // a connection that sends without end is read for that long
	takeTime = 5 * time.Microsecond   // writing an event to one more spoke
	endTime  = 20 * time.Microsecond  // closing
	listTime = 700 * time.Microsecond // subscribing to 200 topics of 240 bytes, one message; who connects waits for three rounds of that
	goSlice  = 10 * time.Millisecond  // Go lets a goroutine run for that long: one that parses a large body
)

// turns returns how long so many that send without end may keep a poller: whoever comes in the middle of
// a round waits for the rest of it and for the next.
func turns(connections int) time.Duration { return time.Duration(2*connections) * turnTime }

// takers returns how long an event, and what comes behind it, waits for the same event to so many
// spokes of the attacker's. Reading its own is no attack, and the hub's shards do it one after the other.
func takers(spokes int) time.Duration { return time.Duration(spokes) * takeTime }

// attacks has the bounds of the long form. Those of memory are what the limits in force allow, with a
// few MiB for what the runtime keeps; those of CPU are about three times what has been seen, or
// more: cores differ by less.
var attacks = []attack{
	{"slow handshakes", slowHandshakes, "connection", 16 * mib, 3 * time.Millisecond, turns(1), hasty},
	{"silence", silence, "connection", 64 * mib, 300 * time.Microsecond, turns(1), hasty},
	{"connects and resets", resets, "connection", 8 * mib, 300 * time.Microsecond, turns(1), rated},
	{"heads without end", headless, "connection", 16 * mib, 300 * time.Microsecond, turns(1), nil},
	{"half-open peers", vanished, "connection", 32 * mib, 3 * time.Millisecond, turns(crowdAtOnce) + takers(2000), pinging},
	{"bursts of closes", closes, "connection", 16 * mib, time.Millisecond, 1000 * endTime, nil},
	{"a byte a second read", slowReader, "connection", 32 * mib, 3 * time.Millisecond, turns(crowdAtOnce) + takers(1000), hasty},
	{"pings", pings, "ping", 8 * mib, 1500 * time.Nanosecond, turns(4), nil},
	{"large pings", largePings, "ping", 8 * mib, 5 * time.Microsecond, turns(4), nil},
	{"pings, pongs unread", pingsUnread, "ping", 16 * mib, 2 * time.Microsecond, turns(8), nil},
	{"one-byte fragments", fragments, "fragment", 8 * mib, 250 * time.Nanosecond, turns(4), nil},
	{"empty frames", emptyFrames, "frame", 8 * mib, 200 * time.Nanosecond, turns(4), nil},
	{"empty messages", emptyMessages, "message", 8 * mib, 200 * time.Nanosecond, turns(4), nil},
	{"64 KiB messages", largeMessages, "KiB", 16 * mib, 6 * time.Microsecond, turns(4), nil},
	{"events to nobody", smallMessages, "event", 8 * mib, 1500 * time.Nanosecond, turns(4), nil},
	{"messages that never end", endless, "connection", 512 * mib, time.Millisecond, turns(crowdAtOnce), nil},
	{"bad at the first byte", badAtOnce, "message", 8 * mib, 200 * time.Nanosecond, turns(4), nil},
	{"bad at the last byte", badAtTheEnd, "message", 16 * mib, 150 * time.Microsecond, turns(4), nil},
	{"deeply nested JSON", deep, "message", 16 * mib, 150 * time.Microsecond, turns(4), nil},
	{"huge ids", hugeIDs, "message", 16 * mib, 150 * time.Microsecond, turns(4), nil},
	{"broken frames", brokenFrames, "connection", 8 * mib, 50 * time.Microsecond, turns(1), nil},
	{"subscriptions", subscriptions, "message", 8 * mib, 3 * time.Microsecond, turns(4), nil},
	{"subscriptions, answers unread", subscriptionsUnread, "message", 16 * mib, time.Microsecond, turns(8), nil},
	{"a wide pattern comes and goes", widePattern, "message", 64 * mib, 3 * time.Microsecond, turns(crowdAtOnce) + takers(200), nil},
	{"a covering pattern comes and goes", coveringPattern, "message", 8 * mib, time.Microsecond, turns(4), nil},
	{"many topics", manyTopics, "connection", 512 * mib, 15 * time.Millisecond, 3 * crowdAtOnce * listTime, nil},
	{"too many topics", tooManyTopics, "message", 16 * mib, 100 * time.Microsecond, turns(4), nil},
	{"compression bombs", bombs, "message", 32 * mib, 50 * time.Microsecond, turns(4), compressing},
	{"heavy compression bombs", heavyBombs, "message", 16 * mib, 100 * time.Microsecond, turns(4), compressing},
	{"slow compressed data", slowDeflate, "message", 16 * mib, 15 * time.Millisecond, turns(4), compressing},
	{"slow Huffman tables", slowTables, "message", 16 * mib, 15 * time.Millisecond, turns(4), compressing},
	{"slow admin requests", slowAdmin, "connection", 32 * mib, 5 * time.Millisecond, turns(1), nil},
	{"admin bodies", adminBodies, "MiB", 128 * mib, 5 * time.Millisecond, 4 * goSlice, nil},
	{"admin streams unread", adminStreams, "event", 128 * mib, 150 * time.Microsecond, turns(2), nil},
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
	form := formNow()
	enemy := fleet.Start(t, roleAttacker)
	if form.Long {
		fleet.JoinClients(enemy.PID())
	}
	stages := make(map[string]*stage) // of the short form, by the hub's flags
	for i := range attacks {
		at := &attacks[i]
		var s *stage
		if !form.Long {
			s = shared(t, stages, form, append(slices.Clone(patient), at.flags...))
		}
		t.Run(at.name, func(t *testing.T) {
			if form.Long {
				s = newStage(t, form, at.flags)
			}
			at.run(t, form, s, enemy)
		})
	}
}
