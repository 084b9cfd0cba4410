package codec

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// reference reads what a client sends as RFC 6455 section 5 has it: all at once, and with no regard for
// speed. It returns the messages and the code with which the connection is to be closed, 0 if b ends
// before anything is wrong. It shares nothing with MessageReader, which is held against it. As long as a
// compressed message is not complete its first bytes are not looked at, up to the number of gathered.
func reference(b []byte, max int, inflating bool, gathered int) (got []message, code CloseCode) {
	var (
		op       Opcode // of the message under way
		deflates bool
		payload  string
	)
	for {
		f, rest, code := referenceFrame(b)
		if rest == nil || code != 0 {
			return got, code
		}
		b = rest
		control := f.op >= 8
		begins := f.op == Text || f.op == Binary
		switch {
		case f.rsv != 0 && !(inflating && begins && f.rsv == 0x40):
			return got, CloseProtocolError
		case f.op > 2 && f.op < 8, f.op > 10:
			return got, CloseProtocolError
		case control && (!f.fin || f.length > 125):
			return got, CloseProtocolError
		case begins == (op != 0) && !control: // a message in a message, or the continuation of none
			return got, CloseProtocolError
		}
		if begins {
			op, deflates, payload = f.op, f.rsv != 0, ""
		}
		if !control {
			limit := max
			if deflates {
				limit = maxDeflatedBytes(max)
			}
			if f.length > uint64(limit-len(payload)) {
				return got, CloseTooBig
			}
		}
		n := min(f.length, uint64(len(b)))
		data := unmask(b[:n], f.mask)
		b = b[n:]
		complete := n == f.length
		if control {
			if !complete {
				return got, 0
			}
			got = append(got, message{f.op, data})
			continue
		}
		payload += data
		final := f.fin && complete
		if op == Text && !deflates && !prefixOfUTF8(payload, final) {
			return got, CloseInvalidUTF8
		}
		plain := payload
		if deflates && (final || len(payload) > gathered) {
			if plain, code = referenceInflate(payload, max, op == Text, final); code != 0 {
				return got, code
			}
		}
		if !complete {
			return got, 0
		}
		if !final {
			continue
		}
		got = append(got, message{op, plain})
		op = 0
	}
}

// referenceInflate returns what a payload becomes, and the first thing that is wrong with it.
func referenceInflate(payload string, max int, text, whole bool) (plain string, code CloseCode) {
	b, err := stdInflate([]byte(payload), max, whole)
	switch {
	case text && !prefixOfUTF8(string(b), whole && err == nil):
		return "", CloseInvalidUTF8
	case err == errInflatedTooBig:
		return "", CloseTooBig
	case err != nil:
		return "", CloseInvalidUTF8
	}
	return string(b), 0
}

type referenceHeader struct {
	fin    bool
	rsv    byte
	op     Opcode
	length uint64
	mask   []byte
}

// referenceFrame reads a header. What follows it is nil if it is not complete.
func referenceFrame(b []byte) (f referenceHeader, rest []byte, code CloseCode) {
	if len(b) < 2 {
		return f, nil, 0
	}
	f = referenceHeader{fin: b[0]&0x80 != 0, rsv: b[0] & 0x70, op: Opcode(b[0] & 0x0f), length: uint64(b[1] & 0x7f)}
	masked, size := b[1]&0x80 != 0, 2
	extended := map[uint64]int{126: 2, 127: 8}[f.length]
	size += extended
	if masked {
		size += 4
	}
	if len(b) < size {
		return f, nil, 0
	}
	least := uint64(0)
	switch extended {
	case 2:
		f.length, least = uint64(binary.BigEndian.Uint16(b[2:])), 126
	case 8:
		f.length, least = binary.BigEndian.Uint64(b[2:]), 1<<16
	}
	if !masked || f.length < least || f.length >= 1<<63 {
		return f, nil, CloseProtocolError
	}
	f.mask = b[size-4 : size]
	return f, b[size:], 0
}

func unmask(b, mask []byte) string {
	var s strings.Builder
	for i, c := range b {
		s.WriteByte(c ^ mask[i%4])
	}
	return s.String()
}

// prefixOfUTF8 reports whether s is valid UTF-8, or if it is not whole can still become it.
func prefixOfUTF8(s string, whole bool) bool {
	if utf8.ValidString(s) {
		return true
	}
	if whole {
		return false
	}
	for cut := 1; cut < utf8.UTFMax && cut <= len(s); cut++ {
		head, tail := s[:len(s)-cut], s[len(s)-cut:]
		if utf8.ValidString(head) && !utf8.FullRuneInString(tail) {
			return true
		}
	}
	return false
}
