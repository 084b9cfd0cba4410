package enginetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/codec"
)

// recorder is a cluster.Handler that keeps what it is told.
type recorder struct {
	mu       sync.Mutex
	messages []string // subject and data
	states   []string
}

func (r *recorder) Receive(_, subject string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, subject+" "+string(data))
}

func (r *recorder) state(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = append(r.states, s)
}

func (r *recorder) Up()                 { r.state("up") }
func (r *recorder) Down(error)          { r.state("down") }
func (r *recorder) Lost(uint64, string) { r.state("lost") }
func (r *recorder) Met()                { r.state("met") }

func (r *recorder) count(message string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages {
		if m == message {
			n++
		}
	}
	return n
}

func (r *recorder) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.states) == 0 {
		return ""
	}
	return r.states[len(r.states)-1]
}

// startEngine starts an engine that is subscribed to subjects, and waits for the connection.
func startEngine(t *testing.T, b Bed, subjects ...cluster.Subject) (cluster.Engine, *recorder) {
	t.Helper()
	e, r := b.Engine(t), &recorder{}
	require.NoError(t, e.Start(r))
	t.Cleanup(e.Close)
	if len(subjects) > 0 {
		e.Subscribe(subjects...)
	}
	eventually(t, "it is there", func() bool { return r.last() == "up" })
	return e, r
}

func publish(t *testing.T, e cluster.Engine, subject, data string) {
	t.Helper()
	require.NoError(t, e.Publish(subject, []byte(data)))
	e.Flush()
}

// settle publishes until the other has something.
func settle(t *testing.T, e cluster.Engine, subject string, other *recorder) {
	t.Helper()
	eventually(t, "a first message arrives", func() bool {
		publish(t, e, subject, "settle")
		return other.count(subject+" settle") > 0
	})
}

func subjectOf(t *testing.T, f cluster.Format, typ, id string) string {
	t.Helper()
	subject, ok := f.Subject(typ, id)
	require.True(t, ok)
	return subject
}

func doesNotComeBack(t *testing.T, b Bed) {
	subject := subjectOf(t, b.Hub, "tick", "1")
	wide := b.Hub.Subscriptions(codec.Everything)
	a, ofA := startEngine(t, b, wide...)
	other, ofOther := startEngine(t, b, cluster.Subject{Name: subject})
	const rounds = 600
	settle(t, a, subject, ofOther)
	settle(t, other, subject, ofA)
	for i := range rounds { // half of it from either, the same message often
		publish(t, a, subject, fmt.Sprint("a", i%7))
		publish(t, other, subject, fmt.Sprint("b", i%7))
		if i == rounds/2 {
			a.Subscribe(cluster.Subject{Name: subject})
			a.Unsubscribe(wide...)
		}
	}
	publish(t, a, subject, "end")
	publish(t, other, subject, "end")
	eventually(t, "all has arrived", func() bool { return ofA.count(subject+" end") == 1 && ofOther.count(subject+" end") == 1 })
	for k := range 7 {
		require.Zero(t, ofA.count(subject+fmt.Sprint(" a", k)))
		require.Zero(t, ofOther.count(subject+fmt.Sprint(" b", k)))
		require.Equal(t, (rounds+6-k)/7, ofOther.count(subject+fmt.Sprint(" a", k)))
		require.GreaterOrEqual(t, ofA.count(subject+fmt.Sprint(" b", k)), (rounds+6-k)/7)
	}
}

func inOrder(t *testing.T, b Bed) {
	one, two := subjectOf(t, b.Hub, "tick", "1"), subjectOf(t, b.Hub, "tick", "2")
	a, _ := startEngine(t, b)
	_, r := startEngine(t, b, cluster.Subject{Name: one}, cluster.Subject{Name: two})
	settle(t, a, one, r)
	settle(t, a, two, r)
	const messages = 5000
	for i := range messages {
		require.NoError(t, a.Publish([]string{one, two}[i%2], fmt.Append(nil, i)))
	}
	a.Flush()
	eventually(t, "the last arrives", func() bool { return r.count(two+fmt.Sprint(" ", messages-1)) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	next := 0
	for _, m := range r.messages {
		var subject string
		var i int
		if _, err := fmt.Sscan(m, &subject, &i); err == nil {
			require.Equal(t, next, i)
			next++
		}
	}
	require.Equal(t, messages, next)
}

func asksAgain(t *testing.T, b Bed) {
	var subjects []cluster.Subject
	for i := range 1200 { // more than one batch
		subjects = append(subjects, cluster.Subject{Name: subjectOf(t, b.Hub, "tick", fmt.Sprint(i))})
	}
	e, ofE := startEngine(t, b, subjects[:1000]...)
	other, ofOther := startEngine(t, b)
	settle(t, other, subjects[0].Name, ofE)

	b.Stop()
	eventually(t, "both know", func() bool { return ofE.last() == "down" && ofOther.last() == "down" })
	require.Error(t, e.Publish(subjects[0].Name, []byte("1")))
	e.Subscribe(subjects[1000:]...) // both count when it is back
	e.Unsubscribe(subjects[0])
	b.Start()
	eventually(t, "both are back", func() bool { return ofE.last() == "up" && ofOther.last() == "up" })
	e.Unsubscribe(subjects[0]) // once more: before it returns the server has answered, and so has read what it is asked for
	for _, s := range subjects {
		publish(t, other, s.Name, "again")
	}
	for _, s := range subjects[1:] {
		eventually(t, s.Name, func() bool { return ofE.count(s.Name+" again") == 1 })
	}
	require.Zero(t, ofE.count(subjects[0].Name+" again"))
	for _, r := range []*recorder{ofE, ofOther} {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i, s := range r.states {
			require.Equal(t, []string{"up", "down"}[i%2], s, "they alternate")
		}
	}
}
