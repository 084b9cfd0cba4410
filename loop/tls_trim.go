package loop

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"sync"
	"unsafe"
)

// A tls.Conn keeps two buffers for as long as it lives: the one that records are read into, as large as the
// largest of them was, and the one that handshake messages are put together in, of which there are no more
// after the handshake. Together that is as much as all the rest of an idle connection. There is no way to
// give them back but to find them by name and type; docs/decisions/0010 says why that is done. Where they are
// not found, in a version of Go that has others, nothing is given back, and a test says so.
var (
	rawInput = findBuffer("rawInput")
	hand     = findBuffer("hand")
)

// findBuffer returns how to find a buffer in a tls.Conn, nil if there is none of that name.
func findBuffer(name string) func(*tls.Conn) *bytes.Buffer {
	field, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || len(field.Index) != 1 || field.Type != reflect.TypeFor[bytes.Buffer]() {
		return nil
	}
	return func(c *tls.Conn) *bytes.Buffer {
		return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), field.Offset))
	}
}

// A loan is what a secureConn has while it is read from: what has arrived, and a buffer for its tls.Conn to read
// records into, with room for one and the beginning of the next.
type loan struct {
	in     []byte        // what has arrived and tls.Conn has not read yet
	raw    *bytes.Buffer // of tls.Conn, which stands on record meanwhile; nil if it is not found
	record [recordHeader + maxRecord + 2*bytes.MinRead]byte
}

var loans = sync.Pool{New: func() any { return new(loan) }}

// lend returns a loan to c, of which in has arrived.
func lend(c *tls.Conn, in []byte) *loan {
	l := loans.Get().(*loan)
	l.in = in
	if rawInput != nil {
		l.raw = rawInput(c)
		*l.raw = *bytes.NewBuffer(append(l.record[:0], l.raw.Bytes()...))
	}
	return l
}

// takeBack ends a loan, and may only be called when everything has been opened: what is left then is the
// beginning of a record.
func (l *loan) takeBack() {
	if l.raw != nil {
		var begun bytes.Buffer
		if l.raw.Len() > 0 {
			begun = *bytes.NewBuffer(bytes.Clone(l.raw.Bytes()))
		}
		*l.raw = begun
	}
	l.in, l.raw = nil, nil
	loans.Put(l)
}

// trim takes from a tls.Conn what it only needs for the handshake.
func trim(c *tls.Conn) {
	if hand != nil && hand(c).Len() == 0 {
		*hand(c) = bytes.Buffer{}
	}
}
