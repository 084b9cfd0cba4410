package hostile

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// orWorse returns the longer times of two, and the larger memory.
func (s service) orWorse(other service) service {
	s.Events, s.Answers, s.Greetings = max(s.Events, other.Events), max(s.Answers, other.Answers), max(s.Greetings, other.Greetings)
	s.Resident = max(s.Resident, other.Resident)
	return s
}

// stage is a hub and those who behave.
type stage struct {
	hub   *process
	group *group
}

// newStage returns a stage that is there until the end of t. In the long form those who behave have one
// core, with the attackers (table_test.go), and the hub may have all of them: its pollers and
// shards need not wait for each other, and not long for those who behave.
func newStage(t testing.TB, form form, flags []string) *stage {
	t.Helper()
	hub := startHub(t, flags...)
	if form.Long {
		fleet.JoinClients(os.Getpid())
		t.Cleanup(func() { fleet.GiveAllCores(os.Getpid()) })
	}
	return &stage{hub, newGroup(t, hub, form)}
}

// shared returns the stage with the flags, which is there until the end of t.
func shared(t testing.TB, stages map[string]*stage, form form, flags []string) *stage {
	t.Helper()
	key := strings.Join(flags, " ")
	if stages[key] == nil {
		stages[key] = newStage(t, form, flags)
	}
	return stages[key]
}

// serve has what goes wrong on the stage end t, until that is over.
func (s *stage) serve(t testing.TB) {
	before := s.hub.t
	s.hub.t, s.group.t = t, t
	t.Cleanup(func() { s.hub.t, s.group.t = before, before })
}

func (at *attack) run(t *testing.T, form form, s *stage, enemy *fleet.Child) {
	s.serve(t)
	before := s.group.measure(form.before)
	elsewhere := before
	if form.Long {
		elsewhere = at.elsewhere(t, form, s, enemy)
	}
	held := s.hub.holds()
	require.NoError(t, enemy.Ask(order{at.name, form.Long, s.hub.spokes, s.hub.admin}, nil))
	during := s.group.measure(form.during)
	var done tally
	require.NoError(t, enemy.Ask(order{}, &done))
	ended := time.Now()
	recovery := requireRecovery(t, s.hub, held, ended)
	after := s.group.measure(form.after)

	row := row{attack: at, quiet: before.orWorse(after), elsewhere: elsewhere, during: during, done: done, recovery: recovery}
	row.growth = during.Resident - before.Resident
	idle := float64(before.CPU+after.CPU) / float64(before.Elapsed+after.Elapsed) // part of a core
	row.perUnit = time.Duration((float64(during.CPU) - idle*float64(during.Elapsed)) / math.Max(1, float64(done.Units)))
	t.Log(row)
	if form.Long {
		report(row)
	}
	row.require(t, form)
}

// elsewhere measures how those who behave are served while the attack goes to another hub of the machine: it takes the
// cores as it does later, and nothing of the hub's own.
func (at *attack) elsewhere(t *testing.T, form form, s *stage, enemy *fleet.Child) service {
	other := startHub(t, at.flags...)
	require.NoError(t, enemy.Ask(order{at.name, form.Long, other.spokes, other.admin}, nil))
	served := s.group.measure(form.during)
	require.NoError(t, enemy.Ask(order{}, new(tally)))
	return served
}

// require holds what was seen against the bounds. Times and CPU are bounded in the long form alone, on
// a machine that does nothing else: beside other tests they say nothing about the hub. The
// race detector needs memory of its own.
func (r *row) require(t testing.TB, form form) {
	t.Helper()
	if raceEnabled {
		return
	}
	require.LessOrEqual(t, r.growth, r.attack.growth, "memory")
	if !form.Long {
		return
	}
	require.LessOrEqual(t, r.perUnit, r.attack.cpu, "CPU per %s", r.attack.unit)
	for _, w := range r.waits() {
		require.LessOrEqual(t, w.during, w.bound, w.what)
	}
}

// What is forgiven when a hub is to be as it was: goroutines of net/http for connections that are kept
// alive, and what pools keep.
const (
	moreGoroutines  = 8
	moreDescriptors = 4
	moreHeap        = 8 * mib
)

// requireRecovery waits until the hub holds what it held before, and returns how long after the end
// of the attack that was.
func requireRecovery(t *testing.T, hub *process, before holdings, ended time.Time) time.Duration {
	t.Helper()
	after := new(holdings)
	awaitEvery(t, 200*time.Millisecond, func() bool {
		*after = hub.holds()
		return after.connections <= before.connections && after.goroutines <= before.goroutines+moreGoroutines &&
			after.descriptors <= before.descriptors+moreDescriptors && after.heap <= before.heap+moreHeap
	}, "the hub is as before, %+v: %+v", before, after)
	return time.Since(ended)
}
