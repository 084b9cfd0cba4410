package fleet

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testEvent returns an event of so many bytes, or some more, in a text frame, with room for the
// number of a group at GroupAt.
func testEvent(size int) Event {
	payload := strings.Repeat("x", max(size, 2*NumberDigits+2))
	head := []byte{0x80 | Text, 126, byte(len(payload) >> 8), byte(len(payload))}
	return Event{Frame: append(head, payload...), NumberAt: len(head), GroupAt: len(head) + NumberDigits + 1}
}

// frames returns the events with these numbers.
func frames(ev Event, groups uint64, numbers ...uint64) (b []byte) {
	frame := bytes.Clone(ev.Frame)
	for _, n := range numbers {
		PutNumber(frame[ev.NumberAt:], n)
		PutNumber(frame[ev.GroupAt:], n%groups)
		b = append(b, frame...)
	}
	return b
}

// feedIn gives the stream to s in pieces, and returns how many events it found.
func feedIn(s stream, b []byte, size int) (events int) {
	for ; len(b) > 0; b = b[min(size, len(b)):] {
		events += s.feed(b[:min(size, len(b))])
	}
	return events
}

func TestStreamsAreComparedAcrossReads(t *testing.T) {
	ev := testEvent(100)
	marked := Event{Marker: "xx>"}
	mark := func(numbers ...uint64) (b []byte) {
		for _, n := range numbers {
			b = fmt.Appendf(b, "xxx>%s%s", Number(n), strings.Repeat("x", int(n%4)))
		}
		return b
	}
	for i, c := range []struct {
		ev     Event
		groups uint64
		stream []byte
		events int
		fault  bool
	}{
		{ev, 1, frames(ev, 1, 0, 1, 2), 3, false},
		{ev, 1, frames(ev, 1, 0, 1, 1), 2, true},
		{ev, 1, frames(ev, 1, 0, 2), 1, true},
		{ev, 1, append(frames(ev, 1, 0), 0x89, 0), 1, true}, // a ping
		{ev, 7, frames(ev, 7, 2, 9, 16), 3, false},
		{ev, 7, frames(ev, 7, 2, 3), 1, true},
		{marked, 1, mark(0, 1, 2, 3, 4, 5), 6, false},
		{marked, 1, mark(0, 1, 3), 2, true},
		{marked, 7, mark(2, 9, 16), 3, false},
		{marked, 1, []byte("xx>12345678901x"), 0, true},
	} {
		for _, size := range []int{1, 2, 7, len(c.stream)} {
			group := uint64(0)
			if c.groups > 1 {
				group = 2
			}
			s := newStream(&c.ev, group, c.groups)
			require.Equal(t, c.events, feedIn(s, c.stream, size), "case %d, %d at a time", i, size)
			require.Equal(t, c.fault, s.broken() != nil, "case %d, %d at a time: %v", i, size, s.broken())
		}
	}
}
