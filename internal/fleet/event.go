package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Event is what a client receives, over and over, with another number each time.
type Event struct {
	// Frame is all of the bytes, and NumberAt is where in them PutNumber writes the number of the
	// event, which counts from 0.
	Frame    []byte
	NumberAt int

	// GroupAt is where in Frame PutNumber writes the group that the event goes to, if the clients
	// have groups (Clients.Groups). 0 if the group is not in it.
	GroupAt int

	// Marker, if it is not empty, takes the place of the three above, for servers whose frames
	// vary: each occurrence in what a client receives is one event, and the number follows it. Every
	// client's numbers are looked at then, and nothing else is.
	Marker string

	// Messages, if there are any, take the place of Frame, for servers whose frames vary in length
	// with what is in them: event n is one of these in turn, with its number at NumberAt, in a frame
	// that is known by its header. There is no GroupAt in them, and a Floor does not send them.
	Messages [][]byte
}

// NumberDigits is how many digits a number has.
const NumberDigits = 12

// PutNumber writes a number to the first NumberDigits bytes of b.
func PutNumber(b []byte, n uint64) {
	for i := NumberDigits - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// Number returns the number as PutNumber writes it.
func Number(n uint64) string { return fmt.Sprintf("%0*d", NumberDigits, n) }

// GroupMark stands for the number of a client's group in Clients.Path.
const GroupMark = "{group}"

func groupPath(path string, group uint64) string {
	return strings.Replace(path, GroupMark, Number(group), 1)
}

// stream follows what one client receives: how many events there were, and where it is known also
// whether they were the right ones.
type stream interface {
	// feed takes the next bytes and returns how many events they completed.
	feed(b []byte) (events int)
	// broken returns what was wrong.
	broken() error
}

// newStream returns the stream of a client of this group of so many.
func newStream(ev *Event, group, groups uint64) stream {
	if ev.Marker != "" {
		return &scanner{marker: []byte(ev.Marker), next: group, step: groups}
	}
	k := &checker{frame: bytes.Clone(ev.Frame), numberAt: ev.NumberAt, next: group, step: groups}
	PutNumber(k.frame[k.numberAt:], group)
	if ev.GroupAt > 0 {
		PutNumber(k.frame[ev.GroupAt:], group)
	}
	return k
}

// checker compares a stream with what was published: every frame, in order, once.
type checker struct {
	frame    []byte // as it is expected next
	numberAt int
	next     uint64
	step     uint64 // how many groups there are
	matched  int    // bytes of frame that have arrived
	fault    error
}

func (k *checker) broken() error { return k.fault }

// excerpt is what an error says about bytes.
func excerpt(b []byte) string {
	if len(b) > 100 {
		return fmt.Sprintf("%q...", b[:100])
	}
	return fmt.Sprintf("%q", b)
}

func (k *checker) feed(b []byte) (events int) {
	for len(b) > 0 && k.fault == nil {
		n := min(len(b), len(k.frame)-k.matched)
		if want := k.frame[k.matched : k.matched+n]; !bytes.Equal(b[:n], want) {
			k.fault = fmt.Errorf("event %d: got %s where %s was expected", k.next, excerpt(b[:n]), excerpt(want))
			break
		}
		b = b[n:]
		if k.matched += n; k.matched == len(k.frame) {
			k.matched = 0
			k.next += k.step
			PutNumber(k.frame[k.numberAt:], k.next)
			events++
		}
	}
	return events
}

// scanner finds the numbers behind a marker.
type scanner struct {
	marker []byte
	next   uint64
	step   uint64
	rest   []byte // of what came before, if a marker or its number may have begun in it
	fault  error
}

func (s *scanner) broken() error { return s.fault }

func (s *scanner) feed(b []byte) (events int) {
	if len(s.rest) > 0 {
		b = append(s.rest, b...)
	}
	for s.fault == nil {
		at := bytes.Index(b, s.marker)
		if at < 0 {
			b = b[max(0, len(b)-len(s.marker)+1):]
			break
		}
		b = b[at:]
		if len(b) < len(s.marker)+NumberDigits {
			break
		}
		b = b[len(s.marker):]
		if n, err := strconv.ParseUint(string(b[:NumberDigits]), 10, 64); err != nil || n != s.next {
			s.fault = errors.Join(fmt.Errorf("got event %q where %d was expected", b[:NumberDigits], s.next), err)
			break
		}
		b = b[NumberDigits:]
		s.next += s.step
		events++
	}
	s.rest = append(s.rest[:0], b...)
	return events
}
