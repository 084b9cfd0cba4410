package fleet

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
)

// cutter cuts a stream into frames by their headers, for events whose frames vary in length. Each
// frame is to hold one message, of text and not empty.
type cutter struct {
	first   byte   // of every frame: FIN, Text, and whether it is compressed
	head    []byte // of the frame under way, as far as it has arrived
	left    int    // bytes of its payload that have not arrived; 0 in a header
	payload []byte // those that have, if they are compared
	compare *comparer
	fault   error
}

// newCutter returns the cutter of a client of this group of so many. The messages are compared if
// the client is checked.
func newCutter(ev *Event, cl *client, groups uint64, deflated bool, i *inflater) *cutter {
	k := &cutter{first: finBit | Text, head: make([]byte, 0, maxHeaderBytes)}
	if deflated {
		k.first |= rsv1Bit
	}
	if cl.check {
		k.compare = &comparer{event: ev, next: cl.group, step: groups}
		if deflated {
			k.compare.inflater = i
		}
	}
	return k
}

func (k *cutter) broken() error {
	if k.fault == nil && len(k.head) > 0 {
		return errors.New("a frame has not arrived to its end")
	}
	return k.fault
}

func (k *cutter) feed(b []byte) (events int) {
	for len(b) > 0 && k.fault == nil {
		if k.left == 0 {
			k.begin(b[0])
			b = b[1:]
			continue
		}
		n := min(len(b), k.left)
		if k.compare != nil {
			k.payload = append(k.payload, b[:n]...)
		}
		b = b[n:]
		if k.left -= n; k.left > 0 {
			break
		}
		if k.compare != nil {
			k.fault = k.compare.take(k.payload)
			k.payload = k.payload[:0]
		}
		if k.fault == nil {
			events++
		}
		k.head = k.head[:0]
	}
	return events
}

// begin takes the next byte of a header.
func (k *cutter) begin(b byte) {
	k.head = append(k.head, b)
	n := frameLength(k.head)
	switch {
	case k.head[0] == k.first && n > len(k.head):
		k.left = n - len(k.head)
	case k.head[0] != k.first || n != 0 || len(k.head) == maxHeaderBytes:
		k.fault = fmt.Errorf("got a frame that begins with %x", k.head)
	}
}

// comparer compares messages with what was published: every one, in order, once.
type comparer struct {
	event    *Event
	next     uint64
	step     uint64    // how many groups there are
	inflater *inflater // nil if messages are not compressed
}

// take takes the payload of the next message.
func (c *comparer) take(payload []byte) (err error) {
	want := c.event.Messages[c.next%uint64(len(c.event.Messages))]
	PutNumber(want[c.event.NumberAt:], c.next)
	if c.inflater != nil {
		if payload, err = c.inflater.inflate(payload); err != nil {
			return fmt.Errorf("event %d: %w", c.next, err)
		}
	}
	if !bytes.Equal(payload, want) {
		return fmt.Errorf("event %d: got %s where %s was expected", c.next, excerpt(payload), excerpt(want))
	}
	c.next += c.step
	return nil
}

// inflater inflates messages that were compressed without context takeover, for all clients together.
type inflater struct {
	src     bytes.Reader
	in, out bytes.Buffer
	r       io.ReadCloser // a flate.Resetter on src
}

func newInflater() *inflater {
	i := new(inflater)
	i.r = flate.NewReader(&i.src)
	return i
}

// inflateTail is what the sender has left out (RFC 7692 section 7.2.2), and an empty last block, with
// which the stream is complete.
const inflateTail = "\x00\x00\xff\xff" + "\x01\x00\x00\xff\xff"

// inflate returns the message that payload is the compressed form of, valid until the next call.
func (i *inflater) inflate(payload []byte) ([]byte, error) {
	i.in.Reset()
	i.in.Write(payload)
	i.in.WriteString(inflateTail)
	i.src.Reset(i.in.Bytes())
	i.out.Reset()
	if err := i.r.(flate.Resetter).Reset(&i.src, nil); err != nil {
		return nil, err
	}
	if _, err := i.out.ReadFrom(i.r); err != nil {
		return nil, err
	}
	if n := i.src.Len(); n > 0 {
		return nil, fmt.Errorf("the compressed message has ended %d bytes before its frame", n)
	}
	return i.out.Bytes(), nil
}
