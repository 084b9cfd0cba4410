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

// recordBuffers are lent to tls.Conns while they are read from. There is room for a record and the beginning
// of the next.
var recordBuffers = sync.Pool{New: func() any { return new([recordHeader + maxRecord + 2*bytes.MinRead]byte) }}

// lend gives a tls.Conn a buffer to read records into. The function that it returns takes it back, and may
// only be called when everything has been opened: what is left then is the beginning of a record.
func lend(c *tls.Conn) (takeBack func()) {
	if rawInput == nil {
		return func() {}
	}
	raw, buf := rawInput(c), recordBuffers.Get().(*[recordHeader + maxRecord + 2*bytes.MinRead]byte)
	begun := raw.Bytes()
	*raw = *bytes.NewBuffer(append(buf[:0], begun...))
	return func() {
		if raw.Len() == 0 {
			*raw = bytes.Buffer{}
		} else {
			*raw = *bytes.NewBuffer(bytes.Clone(raw.Bytes()))
		}
		recordBuffers.Put(buf)
	}
}

// trim takes from a tls.Conn what it only needs for the handshake.
func trim(c *tls.Conn) {
	if hand != nil && hand(c).Len() == 0 {
		*hand(c) = bytes.Buffer{}
	}
}
