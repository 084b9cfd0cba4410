package codec

import (
	"io"
	"iter"
)

// A compressed message that is long is inflated as it arrives: 64 KiB can be made to take ten
// milliseconds, and whoever reads from many connections in turn can only share these out among its
// turns if each portion costs what it costs when it comes.

// maxGatheredBytes is how much of a compressed message is kept until it is complete. Most are shorter,
// or come in one piece, and an inflater is then borrowed for microseconds. A longer one that is not complete
// keeps an inflater until it is. It is little, for these bytes are worked on at once with the portion behind
// them, which may be large since what is only kept seems to be cheap.
const maxGatheredBytes = 1 << 10

// coroutine is an inflater in the middle of a message. compress/flate cannot go on after its source
// has run dry, so it runs in a coroutine, which is left whenever that happens: never on its own, never
// at the same time as its caller. It must be ended, or it stays for ever.
type coroutine struct {
	next func() (struct{}, bool)
	stop func()
	err  error
}

// begin prepares to inflate a message that is still arriving, for feed.
func (i *inflater) begin(max int, text bool) {
	i.src = source{}
	i.next, i.stop = iter.Pull(func(yield func(struct{}) bool) {
		i.src.wait = func() bool { return yield(struct{}{}) }
		i.err = i.run(max, text)
	})
}

// feed inflates the next portion, all of it: portion is not retained. After the final one the message
// is complete.
func (i *inflater) feed(portion []byte, final bool) error {
	i.src.portion, i.src.at, i.src.final = portion, 0, final
	if _, waits := i.next(); waits {
		i.src.portion, i.src.at = nil, 0
		return nil
	}
	return i.err
}

// end makes the coroutine return, if there is one.
func (i *inflater) end() {
	if i.stop != nil {
		i.stop()
	}
	i.coroutine = coroutine{}
}

// source is what an inflater reads: the payload of a message, portion by portion, and inflateTail.
type source struct {
	portion []byte
	at      int         // what of it has been read
	final   bool        // it is the last one
	tail    bool        // it is inflateTail
	wait    func() bool // until there is another portion; false if there will be none
}

var tailBytes = []byte(inflateTail)

// ReadByte implements io.ByteReader.
func (s *source) ReadByte() (byte, error) {
	if s.at == len(s.portion) && !s.refill() {
		return 0, io.EOF
	}
	b := s.portion[s.at]
	s.at++
	return b, nil
}

// Read implements io.Reader.
func (s *source) Read(b []byte) (int, error) {
	if s.at == len(s.portion) && !s.refill() {
		return 0, io.EOF
	}
	n := copy(b, s.portion[s.at:])
	s.at += n
	return n, nil
}

// refill reports whether there is more to read.
func (s *source) refill() bool {
	switch {
	case s.tail:
		return false
	case s.more():
		return true
	case !s.final: // given up
		return false
	}
	s.portion, s.at, s.tail = tailBytes, 0, true
	return true
}

// more reports whether there is more of the payload. It waits to know it.
func (s *source) more() bool {
	for s.at == len(s.portion) && !s.final {
		if !s.wait() {
			return false
		}
	}
	return !s.tail && s.at < len(s.portion)
}
