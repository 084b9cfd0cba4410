package bench

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/internal/fleet"
)

// The load of the scale run, from the environment: see scripts/scale.
const (
	scaleSpokes = "HUB_SCALE_SPOKES" // of all hubs together
	scaleHubs   = "HUB_SCALE_HUBS"   // 0 for as many as the limit of descriptors asks for
	scaleTurns  = "HUB_SCALE_TURNS"  // how many each side gets
	scaleBursts = "HUB_SCALE_BURSTS" // how many events at once, as in 1,4,64
)

// scaleRounds is how many bursts a turn is.
const scaleRounds = 12

// spareDescriptors are those of a hub that are not spokes.
const spareDescriptors = 200

func scaleNumber(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// newScaleEvent is newEvent without a test.
func newScaleEvent(payloadBytes int) (*event, error) {
	payload := bytes.Repeat([]byte{'x'}, payloadBytes)
	payload[0], payload[payloadBytes-1] = '"', '"'
	fleet.PutNumber(payload[1:], 0)
	e := &event{envelope: codec.Envelope{Type: "tick", ID: "42", Payload: payload}}
	f, err := codec.NewFrame(e.envelope, codec.Text)
	if err != nil {
		return nil, err
	}
	e.Frame = f.Bytes()
	e.NumberAt = bytes.Index(e.Frame, payload) + 1
	return e, nil
}

// scaleSide is one hub with its clients, or several that act as one.
type scaleSide struct {
	hubs   []*fleet.Child
	fleets []*fleet.Fleet
	// perSpoke is what the hubs' processes grew by, for each spoke.
	perSpoke float64
}

func (s *scaleSide) ask(t *testing.T, hub int, cmd scaleCommand) (a scaleAnswer) {
	t.Helper()
	require.NoError(t, s.hubs[hub].Ask(cmd, &a))
	return a
}

func (s *scaleSide) cpu() (list []time.Duration) {
	for _, h := range s.hubs {
		list = append(list, h.CPU())
	}
	return list
}

// startScale starts so many hubs, or with joined false one that is alone, with so many spokes each.
func startScale(t *testing.T, hubs, spokes int, joined bool) *scaleSide {
	s := &scaleSide{}
	for range hubs {
		s.fleets = append(s.fleets, fleet.Launch(t))
	}
	undo := fleet.LeaveClientsTheirCore()
	var peers []string
	for i := range hubs {
		t.Setenv(scalePeers, "")
		if joined {
			t.Setenv(scalePeers, strings.Join(append(peers, "-")[:max(1, len(peers))], ","))
		}
		own := s.fleets[i : i+1]
		if i == 0 {
			own = s.fleets // it publishes to all of them
		}
		t.Setenv(scaleFleets, strconv.Itoa(len(own)))
		s.hubs = append(s.hubs, fleet.StartPublisherTo(t, roleScaleHub, own...))
		peers = append(peers, s.ask(t, i, scaleCommand{}).Cluster)
	}
	undo()
	for i := range hubs {
		require.Eventually(t, func() bool { return s.ask(t, i, scaleCommand{}).Hubs == hubs }, 30*time.Second, 50*time.Millisecond, "the hubs meet")
	}
	var before, after int64
	for i, h := range s.hubs {
		before += fleet.ResidentBytes(h.PID())
		_, err := s.fleets[i].Connect(fleet.Clients{Address: s.ask(t, i, scaleCommand{}).Address, Path: "/ws?topic=tick:42", Skip: 1, Reading: spokes, Checked: 100})
		require.NoError(t, err)
		s.ask(t, i, scaleCommand{Collect: true})
		after += fleet.ResidentBytes(h.PID())
	}
	s.perSpoke = float64(after-before) / float64(hubs*spokes)
	return s
}

// scaleTurn is what a turn cost and how it went.
type scaleTurn struct {
	events, deliveries uint64
	wall               time.Duration
	cpu                []time.Duration // by hub
	p50, p99           []time.Duration // by hub
	writes             uint64
}

func (t scaleTurn) cpuPerDelivery() float64 {
	sum := time.Duration(0)
	for _, c := range t.cpu {
		sum += c
	}
	return float64(sum) / float64(t.deliveries)
}

// measure publishes at the first hub.
func (s *scaleSide) measure(t *testing.T, cmd scaleCommand) (turn scaleTurn) {
	t.Helper()
	ev, err := newScaleEvent(cmd.Payload)
	require.NoError(t, err)
	writes := func() (n uint64) {
		for i := range s.hubs {
			n += s.ask(t, i, scaleCommand{}).Writes
		}
		return n
	}
	for _, f := range s.fleets {
		_, err := f.Begin(ev.Event)
		require.NoError(t, err)
	}
	turn.writes = writes()
	before, began := s.cpu(), time.Now()
	if cmd.Here {
		var all sync.WaitGroup
		errs := make([]error, len(s.hubs))
		for i, h := range s.hubs {
			all.Go(func() { errs[i] = h.Ask(cmd, nil) })
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
	} else {
		s.ask(t, 0, cmd)
	}
	turn.wall = time.Since(began)
	for i, c := range s.cpu() {
		turn.cpu = append(turn.cpu, c-before[i])
	}
	turn.writes = writes() - turn.writes
	turn.events = uint64(cmd.Events)
	for _, f := range s.fleets {
		n, err := f.Report() // an error if a client has not got exactly what was published
		require.NoError(t, err)
		turn.deliveries += n.Deliveries
		turn.p50, turn.p99 = append(turn.p50, n.P50), append(turn.p99, n.P99)
	}
	return turn
}

// TestScale puts as many spokes as the limit of descriptors does not allow in one process against hubs that act as
// one, beside one hub alone with as many as each of them has, in turns. It only runs if it is asked to.
func TestScale(t *testing.T) {
	spokes := scaleNumber(t, scaleSpokes, 0)
	if spokes == 0 {
		t.Skip("make scale runs it")
	}
	var files unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &files))
	hubs := scaleNumber(t, scaleHubs, 0)
	if most := int(min(files.Cur, 1<<20)) - spareDescriptors; hubs == 0 {
		hubs = max(2, (spokes+most-1)/most)
	}
	each := spokes / hubs
	fmt.Println("machine:", fleet.Machine())
	alone, joined := startScale(t, 1, each, false), startScale(t, hubs, each, true)
	fmt.Printf("%d hubs of %d spokes each, embedded engine, every client reading, events of 256 B published at the first hub\n", hubs, each)
	fmt.Printf("memory per spoke, process: %.0f B alone, %.0f B joined\n", alone.perSpoke, joined.perSpoke)

	fmt.Println("\n| events at once | side | deliveries/s | events/s | events/write | CPU per delivery | p50, first hub / others | p99, first hub / others |\n|---|---|---|---|---|---|---|---|")
	for text := range strings.SplitSeq(cmp.Or(os.Getenv(scaleBursts), "1,4,64"), ",") {
		burst, err := strconv.Atoi(text)
		require.NoError(t, err, scaleBursts)
		// Connections that were idle cost more for some reads (quickAcks): every turn has as many.
		cmd := scaleCommand{Payload: 256, Burst: burst, Events: scaleRounds * burst}
		apart := cmd
		apart.Here = true
		var toAlone, toApart []float64
		var all [3][]scaleTurn
		for range scaleNumber(t, scaleTurns, 3) {
			one, each, both := alone.measure(t, cmd), joined.measure(t, apart), joined.measure(t, cmd)
			for i, turn := range []scaleTurn{one, each, both} {
				all[i] = append(all[i], turn)
			}
			toAlone = append(toAlone, both.cpuPerDelivery()/one.cpuPerDelivery())
			toApart = append(toApart, both.cpuPerDelivery()/each.cpuPerDelivery())
		}
		for i, name := range []string{"one alone", fmt.Sprint(hubs, ", each for itself"), fmt.Sprint(hubs, " joined")} {
			printScale(burst, name, all[i])
		}
		for name, ratios := range map[string][]float64{"joined to one alone": toAlone, "joined to each for itself": toApart} {
			fmt.Printf("| %d | %s | | | | %.2f (%.2f to %.2f) | | |\n", burst, name, median(ratios), slices.Min(ratios), slices.Max(ratios))
		}
	}
	shareOfEngine(t, alone, joined)
	costOfInterest(t, joined)
}

func printScale(burst int, name string, turns []scaleTurn) {
	of := func(value func(scaleTurn) float64) float64 {
		var list []float64
		for _, t := range turns {
			list = append(list, value(t))
		}
		return median(list)
	}
	ms := func(of func(scaleTurn) []time.Duration) string {
		var first, others []float64
		for _, t := range turns {
			for i, d := range of(t) {
				if i == 0 {
					first = append(first, d.Seconds()*1e3)
				} else {
					others = append(others, d.Seconds()*1e3)
				}
			}
		}
		if len(others) == 0 {
			return fmt.Sprintf("%.1f ms", median(first))
		}
		return fmt.Sprintf("%.1f / %.1f ms", median(first), median(others))
	}
	fmt.Printf("| %d | %s | %.0f | %.1f | %.1f | %.2f us | %s | %s |\n", burst, name,
		of(func(t scaleTurn) float64 { return float64(t.deliveries) / t.wall.Seconds() }),
		of(func(t scaleTurn) float64 { return float64(t.events) / t.wall.Seconds() }),
		of(func(t scaleTurn) float64 { return float64(t.deliveries) / float64(max(1, t.writes)) }),
		of(scaleTurn.cpuPerDelivery)/1e3,
		ms(func(t scaleTurn) []time.Duration { return t.p50 }), ms(func(t scaleTurn) []time.Duration { return t.p99 }))
}

// shareOfEngine measures what events cost each hub beside the deliveries: those that a spoke on each wants, and those
// that nobody wants but on the first.
func shareOfEngine(t *testing.T, alone, joined *scaleSide) {
	const events = 50_000
	last := len(joined.hubs) - 1
	for i := range joined.hubs { // takers without a socket
		joined.ask(t, i, scaleCommand{Topic: "share:1"})
	}
	alone.ask(t, 0, scaleCommand{Topic: "share:1"})
	joined.ask(t, 0, scaleCommand{Topic: "unwanted:1"})
	time.Sleep(time.Second) // the others hear of it
	fmt.Printf("\n| %d events of 256 B to one taker, CPU per event | hub that publishes | each other hub | events that reach it |\n|---|---|---|---|\n", events)
	own := alone.cpu()[0]
	alone.ask(t, 0, scaleCommand{Topic: "share:1", Events: events})
	fmt.Printf("| alone | %.2f us | | |\n", float64(alone.cpu()[0]-own)/events/1e3)
	for _, topic := range []string{"share:1", "unwanted:1"} {
		arrived := joined.ask(t, last, scaleCommand{}).Engine.Arrived
		before := joined.cpu()
		joined.ask(t, 0, scaleCommand{Topic: topic, Events: events})
		if topic == "share:1" {
			require.Eventually(t, func() bool {
				return joined.ask(t, last, scaleCommand{}).Engine.Arrived >= arrived+events
			}, 30*time.Second, 100*time.Millisecond)
		} else {
			time.Sleep(500 * time.Millisecond)
		}
		after := joined.cpu()
		reached := joined.ask(t, last, scaleCommand{}).Engine.Arrived - arrived
		others := time.Duration(0)
		for i := 1; i <= last; i++ {
			others += after[i] - before[i]
		}
		fmt.Printf("| wanted %s | %.2f us | %.3f us | %d |\n", map[string]string{"share:1": "on every hub", "unwanted:1": "on the first hub alone"}[topic],
			float64(after[0]-before[0])/events/1e3, float64(others)/float64(last)/events/1e3, reached)
		if topic == "unwanted:1" {
			require.Zero(t, reached, "an event nobody wants reaches no other hub")
		}
	}
	fmt.Printf("\nidle: %.2f %% of a core alone, %.2f %% each joined\n", 100*idleCores(alone), 100*idleCores(joined))
}

// idleCores returns what a hub of a side uses when nothing happens but beats.
func idleCores(s *scaleSide) float64 {
	const pause = 3 * time.Second
	before := s.cpu()
	time.Sleep(pause)
	sum := time.Duration(0)
	for i, c := range s.cpu() {
		sum += c - before[i]
	}
	return sum.Seconds() / pause.Seconds() / float64(len(s.hubs))
}

// costOfInterest measures what it costs each hub to know that another wants a topic.
func costOfInterest(t *testing.T, joined *scaleSide) {
	const topics = 100_000
	last := len(joined.hubs) - 1
	resident := func() (list []int64) {
		for i, h := range joined.hubs {
			joined.ask(t, i, scaleCommand{Collect: true})
			list = append(list, fleet.ResidentBytes(h.PID()))
		}
		return list
	}
	before, cpu := resident(), joined.cpu()
	began := time.Now()
	joined.ask(t, last, scaleCommand{Topics: topics})
	require.Eventually(t, func() bool { return joined.ask(t, last, scaleCommand{}).Engine.Topics >= topics }, time.Minute, 20*time.Millisecond)
	took := time.Since(began)
	time.Sleep(time.Second)
	after, used := resident(), joined.cpu()
	fmt.Printf("\n%d topics that one hub wants: %.1f s, %.0f B and %.1f us each there, %.0f B and %.1f us at another\n", topics, took.Seconds(),
		float64(after[last]-before[last])/topics, float64(used[last]-cpu[last])/topics/1e3, float64(after[0]-before[0])/topics, float64(used[0]-cpu[0])/topics/1e3)
}
