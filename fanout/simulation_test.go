package fanout

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// TestEveryStreamIsAsTheModelSays drives hubs at random, and holds after every step each spoke's
// stream and queue, and the hub's books, against a model. A seed that fails is run again alone with
// -run 'TestEveryStreamIsAsTheModelSays/seed=<n>$'.
func TestEveryStreamIsAsTheModelSays(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { newSimulation(t, seed, 0).run(160) })
		})
	}
}

// tick is what simulated time moves by: long compared with sweepPause.
const tick = time.Second

var (
	simTypes    = []string{"a", "b", "c", "d"}
	simPadding  = padding(250 << 10)
	simPatterns = []string{"a:*", "a:1", "a:2", "b:*", "b:1", "b:3", "c:1", "c:2", "c:3", "d:*", "d:2", "*"}
)

type simulation struct {
	t      *testing.T
	rng    *rand.Rand
	config Config
	hub    *Hub
	began  time.Time

	large    bool                           // with events larger than a chunk
	spokes   []*modelSpoke                  // attached
	all      []*modelSpoke                  // ever
	take     func(*modelSpoke, *modelEvent) // notes that a spoke is to get an event
	burst    map[*modelSpoke][]*modelEvent  // what there was to take since settle
	resumed  *modelSpoke
	sequence int
	slow     uint64
}

// newSimulation returns a simulation with a hub of a random configuration. TotalBytes is a multiple of
// SpokeBytes, 0 for the default.
func newSimulation(t *testing.T, seed uint64, total int64) *simulation {
	sim := &simulation{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), large: seed%16 == 7,
		burst: make(map[*modelSpoke][]*modelEvent),
	}
	c := Config{
		Shards: 1 + sim.rng.IntN(4), Explicit: sim.rng.IntN(4) == 0,
		Policy:    Policy(sim.rng.IntN(int(numPolicies))),
		PolicyFor: make(map[string]Policy),
		Limits:    Limits{SpokeBytes: int64(500 + sim.rng.IntN(4000))},
	}
	if sim.large {
		c.Limits.SpokeBytes = int64(150+sim.rng.IntN(100)) << 10
	}
	c.Limits.TotalBytes = total * (c.Limits.SpokeBytes + 10*itemBytes)
	if sim.rng.IntN(2) == 0 {
		c.Limits.SpokeLag = time.Duration(2+sim.rng.IntN(8)) * tick
	}
	for _, typ := range simTypes[:sim.rng.IntN(2)*4] { // every type its own policy, or all the same
		c.PolicyFor[typ] = Policy(sim.rng.IntN(int(numPolicies)))
	}
	if sim.rng.IntN(4) == 0 {
		d, err := codec.NewDeflater(1, 80)
		require.NoError(t, err)
		c.Deflater = d
	}
	sim.config, sim.hub = c, newHub(t, c)
	sim.take = func(m *modelSpoke, e *modelEvent) { sim.burst[m] = append(sim.burst[m], e.as(m)) }
	return sim
}

func (sim *simulation) now() time.Duration { return time.Since(sim.began) }

func (sim *simulation) run(steps int) {
	for range 3 {
		sim.connect()
	}
	for i := range steps {
		sim.step()
		sim.settle()
		if i%8 == 0 {
			sim.checkBooks()
		}
	}
	for _, m := range sim.spokes {
		sim.resumed = m
		m.sink.resume()
		sim.settle()
		require.Empty(sim.t, m.queue)
		require.False(sim.t, m.inFlight && !m.closed)
		if !m.closed {
			m.checkGap(len(m.offered)) // what is missing at the end is told
			require.Empty(sim.t, m.answers)
		}
	}
	sim.checkBooks()
	s := sim.hub.Stats()
	require.Zero(sim.t, s.QueuedSpokes)
	require.Zero(sim.t, s.HeldBytes+s.PendingBytes+s.QueuedBytes+s.InFlightBytes)
}

// any returns one of the attached spokes, nil if there is none.
func (sim *simulation) any() *modelSpoke {
	if len(sim.spokes) == 0 {
		return nil
	}
	return sim.spokes[sim.rng.IntN(len(sim.spokes))]
}

func (sim *simulation) step() {
	m := sim.any()
	n := sim.rng.IntN(100)
	switch {
	case m == nil || n < 4 && len(sim.spokes) < 8:
		sim.connect()
	case n < 6:
		sim.detach(m)
	case n < 55:
		for range 1 + sim.rng.IntN(6)*sim.rng.IntN(2) { // some without a pass between them
			sim.dispatch(sim.any())
		}
	case n < 64:
		sim.subscribe(m, simPatterns[sim.rng.IntN(len(simPatterns))])
	case n < 72:
		m.sink.block(sim.rng.IntN(300))
	case n < 82:
		sim.resumed = m
		m.sink.give(sim.rng.IntN(600) + sim.rng.IntN(2)*sim.rng.IntN(40000))
	case n < 86:
		sim.resumed = m
		m.sink.resume()
	case n < 95:
		time.Sleep(tick)
	case n < 98:
		m.spoke.Control(codec.NewControlFrame(codec.Ping+codec.Opcode(n&1), []byte("control")))
	default:
		sim.close(m, n == 98)
	}
}

func simPattern(text string) codec.Pattern {
	p, err := codec.ParsePattern(text)
	if err != nil {
		panic(err)
	}
	return p
}

func (sim *simulation) connect() {
	m := &modelSpoke{t: sim.t, sink: &scriptSink{}, limits: sim.config.Limits, patterns: make(map[string]bool)}
	var topics []codec.Pattern
	for range sim.rng.IntN(2) * sim.rng.IntN(4) {
		p := simPattern(simPatterns[sim.rng.IntN(len(simPatterns))])
		topics, m.asked, m.patterns[p.String()] = append(topics, p), true, true
	}
	m.spoke = sim.hub.NewSpoke(m.sink)
	m.sink.spoke = m.spoke
	if sim.rng.IntN(3) == 0 {
		m.claims = topics // at least, so that the spoke may begin with them
		for range sim.rng.IntN(5) {
			m.claims = append(m.claims, simPattern(simPatterns[sim.rng.IntN(len(simPatterns))]))
		}
		m.claimed = true
		m.spoke.Restrict(Claims{Topics: m.claims, Expires: time.Now().Add(time.Hour)})
	}
	if sim.rng.IntN(2) == 0 {
		m.spoke.TakeCompressed()
	}
	require.NoError(sim.t, m.spoke.Attach(topics...))
	sim.spokes, sim.all = append(sim.spokes, m), append(sim.all, m)
}

func (sim *simulation) detach(m *modelSpoke) {
	m.spoke.Detach(CauseOf(PeerSide, codec.CloseAbnormal, ""))
	for i, other := range sim.spokes {
		if other == m {
			sim.spokes = append(sim.spokes[:i], sim.spokes[i+1:]...)
			break
		}
	}
	if !m.closed {
		if m.sent > 0 { // it counts as delivered, though nobody reads the rest
			m.fates[m.queue[0]] = delivered
		}
		m.end(0, "")
		m.queue, m.sent = nil, 0
	}
}

// padding returns letters that compress, though not to nothing.
func padding(n int) string {
	rng := rand.New(rand.NewPCG(1, 5))
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefgh"[rng.IntN(8)]
	}
	return string(b)
}

// dispatch sends an event to all, to all but m, or to m alone.
func (sim *simulation) dispatch(m *modelSpoke) {
	e := codec.Envelope{Type: simTypes[sim.rng.IntN(len(simTypes))], ID: fmt.Sprint(sim.rng.IntN(4))}
	size := sim.rng.IntN(120)
	if sim.rng.IntN(8) == 0 {
		size = sim.rng.IntN(int(sim.config.Limits.SpokeBytes))
	}
	sim.sequence++
	e.Payload = fmt.Appendf(nil, `"%08d%s"`, sim.sequence, simPadding[:size])
	f, err := codec.NewFrame(e, codec.Text)
	require.NoError(sim.t, err)
	event := &modelEvent{typ: e.Type, id: e.ID, policy: sim.hub.policyOf(e.Type), frame: f.Bytes(), at: sim.now()}
	if twin := f.Compressed(sim.config.Deflater); twin != nil {
		compressed := *event
		compressed.frame, compressed.plain = twin.Bytes(), event
		event.twin = &compressed
	}

	takers := make([]*modelSpoke, 0, len(sim.spokes))
	for _, other := range sim.spokes {
		if other.wants(e.Type, e.ID, sim.config.Explicit) {
			takers = append(takers, other)
		}
	}
	var r Receipt
	switch sim.rng.IntN(6) {
	case 0:
		r, err = m.spoke.Dispatch(e)
		takers = []*modelSpoke{m}
	case 1:
		r, err = sim.hub.DispatchExcept(m.spoke, e)
		for i, other := range takers {
			if other == m {
				takers = append(takers[:i], takers[i+1:]...)
				break
			}
		}
	default:
		r, err = sim.hub.Dispatch(e)
	}
	if event.len() > sim.config.Limits.SpokeBytes {
		require.ErrorIs(sim.t, err, ErrTooLarge)
		return
	}
	if sim.config.Limits.TotalBytes > 0 && errors.Is(err, ErrOverloaded) {
		return
	}
	require.NoError(sim.t, err)
	require.Equal(sim.t, len(takers), r.Matched)
	for _, m := range takers {
		sim.take(m, event)
	}
}

// subscribe, or the contrary, by message or by call.
func (sim *simulation) subscribe(m *modelSpoke, text string) {
	p := simPattern(text)
	ask, answer := codec.TypeSubscribe, codec.TypeSubscribed
	if add := sim.rng.IntN(2) == 0; add && !m.mayHaveAll(p) {
		if sim.rng.IntN(2) == 0 {
			require.ErrorIs(sim.t, m.spoke.Subscribe(p), ErrForbidden)
			return
		}
		answer = codec.TypeError
	} else if add {
		m.asked, m.patterns[text] = true, true
		if sim.rng.IntN(2) == 0 {
			require.NoError(sim.t, m.spoke.Subscribe(p))
			return
		}
	} else {
		m.asked = m.asked || text == "*"
		delete(m.patterns, text)
		if sim.rng.IntN(2) == 0 {
			m.spoke.Unsubscribe(p)
			return
		}
		ask, answer = codec.TypeUnsubscribe, codec.TypeUnsubscribed
	}
	sim.sequence++
	id := fmt.Sprint(sim.sequence)
	payload, _ := json.Marshal(codec.Topics{Topics: []string{text}})
	m.spoke.Receive(fmt.Appendf(nil, `{"type":%q,"id":%q,"payload":%s}`, ask, id, payload))
	if !m.closing && !m.closed {
		m.answers = append(m.answers, answer+":"+id)
	}
}

func (sim *simulation) close(m *modelSpoke, orderly bool) {
	if m.closed || m.closing && orderly {
		return
	}
	if !orderly {
		m.spoke.Fail(codec.ClosePolicy, "fail")
		m.end(codec.ClosePolicy, "fail")
		return
	}
	m.spoke.Close(codec.CloseNormal, "bye")
	m.closing, m.code, m.reason, m.due = true, codec.CloseNormal, "bye", sim.now()+DefaultCloseTimeout
	m.closed = !m.inFlight
}
