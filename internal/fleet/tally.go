package fleet

import "fmt"

// tally knows which events are complete, at a cost per read(2) that does not depend on how many
// frames it brought. The clock is looked at once for all the reads of a turn.
type tally struct {
	completed uint64 // events that every client has
	newest    uint64 // events that some client has
	latency   histogram

	// By number of events modulo boardSlots.
	clients [boardSlots]int32 // how many clients have got exactly so many events
	steps   [boardSlots]int32 // the sum up to k says how many clients got event k in this turn
}

func (t *tally) begin(clients int) {
	*t = tally{}
	t.clients[0] = int32(clients)
}

// advance notes that a client that had so many events has more now.
func (t *tally) advance(from, to uint64) error {
	if to-t.completed >= boardSlots {
		return fmt.Errorf("a client has %d events where another has %d", to, t.completed)
	}
	t.clients[from%boardSlots]--
	t.clients[to%boardSlots]++
	t.steps[from%boardSlots]++
	t.steps[to%boardSlots]--
	t.newest = max(t.newest, to)
	return nil
}

// settle ends a turn. It reports whether more events are complete than before.
func (t *tally) settle(b *board) bool {
	if t.newest == t.completed {
		return false
	}
	at := now()
	deliveries := int32(0)
	for k := t.completed; k < t.newest; k++ {
		deliveries += t.steps[k%boardSlots]
		t.steps[k%boardSlots] = 0
		if deliveries > 0 {
			t.latency.add(at-b.slot(k).Load(), uint64(deliveries))
		}
	}
	t.steps[t.newest%boardSlots] = 0
	before := t.completed
	for t.completed < t.newest && t.clients[t.completed%boardSlots] == 0 {
		t.completed++
	}
	return t.completed > before
}

// groupTally is a tally for events that go to one group of clients each, event n to group n modulo
// the number of groups. It costs as much per event as per client that gets it.
type groupTally struct {
	members           []int32 // by group
	completed, newest uint64
	latency           histogram
	got               [boardSlots]int32 // how many have got an event, by its number
	fresh             []uint64          // what was got in this turn, once per client
}

func (t *groupTally) begin(members []int32) {
	*t = groupTally{members: members, fresh: t.fresh[:0]}
}

// advance notes that a client of this group that had so many events has more now.
func (t *groupTally) advance(group, from, to uint64) error {
	groups := uint64(len(t.members))
	for ; from < to; from++ {
		n := group + from*groups
		if n-t.completed >= boardSlots {
			return fmt.Errorf("a client has event %d where another lacks %d", n, t.completed)
		}
		t.got[n%boardSlots]++
		t.fresh = append(t.fresh, n)
		t.newest = max(t.newest, n+1)
	}
	return nil
}

// settle ends a turn. It reports whether more events are complete than before.
func (t *groupTally) settle(b *board) bool {
	if len(t.fresh) == 0 {
		return false
	}
	at := now()
	for _, n := range t.fresh {
		t.latency.add(at-b.slot(n).Load(), 1)
	}
	t.fresh = t.fresh[:0]
	before := t.completed
	for t.completed < t.newest && t.got[t.completed%boardSlots] == t.members[t.completed%uint64(len(t.members))] {
		t.got[t.completed%boardSlots] = 0
		t.completed++
	}
	return t.completed > before
}
