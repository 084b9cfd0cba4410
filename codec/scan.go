package codec

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth bounds the nesting of arrays and objects in an envelope, itself included. encoding/json stops
// at 10,000; browsers recurse.
const MaxDepth = 512

// A SyntaxError says where a text stops being strict JSON (RFC 8259) in valid UTF-8, and why.
type SyntaxError struct {
	Offset  int    // byte offset into the text
	Problem string // what is wrong there, and what would be right
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("at byte %d: %s", e.Offset, e.Problem)
}

// CheckJSON returns nil if data is one strict JSON value in valid UTF-8, and a *SyntaxError if not.
//
// It is our own because what is accepted is passed on verbatim to every browser: sonic skips what
// it does not decode without checking escapes or UTF-8, and encoding/json takes almost three times
// as long.
func CheckJSON(data []byte) error { return checkJSON(data, 0) }

// checkJSON is CheckJSON of a text that stands within depth arrays and objects.
func checkJSON(data []byte, depth int) error {
	if err := checkUTF8(data); err != nil {
		return err
	}
	s := scanner{data, depth}
	i, err := s.value(s.space(0))
	if err != nil {
		return err
	}
	return s.end(i)
}

func checkUTF8(data []byte) error {
	if utf8.Valid(data) {
		return nil
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return &SyntaxError{i, "invalid UTF-8"}
		}
		i += n
	}
	return nil
}

// scanner walks a JSON text that is known to be valid UTF-8. Its methods take the offset at which to
// read and return the offset behind what they read, or a *SyntaxError: an offset that is passed on
// stays in a register, which is a fifth faster than one kept in a field.
type scanner struct {
	data  []byte
	depth int
}

// unexpected describes what is at i where want was needed.
func (s *scanner) unexpected(i int, want string) error {
	if i >= len(s.data) {
		return &SyntaxError{i, "the text ends where " + want + " was expected"}
	}
	r, _ := utf8.DecodeRune(s.data[i:])
	return &SyntaxError{i, fmt.Sprintf("%q where %s was expected", r, want)}
}

// white has the bits of the four bytes that are white space.
const white uint64 = 1<<' ' | 1<<'\t' | 1<<'\n' | 1<<'\r'

func (s *scanner) space(i int) int {
	for i < len(s.data) && s.data[i] <= ' ' && white>>s.data[i]&1 != 0 {
		i++
	}
	return i
}

// at returns the byte at i, or 0 at the end; a 0 byte is valid nowhere in JSON.
func (s *scanner) at(i int) byte {
	if i < len(s.data) {
		return s.data[i]
	}
	return 0
}

func (s *scanner) end(i int) error {
	if i = s.space(i); i < len(s.data) {
		return s.unexpected(i, "the end of the text")
	}
	return nil
}

func (s *scanner) value(i int) (int, error) {
	switch c := s.at(i); {
	case c == '"':
		return s.string(i)
	case c == '{':
		return s.object(i)
	case c == '[':
		return s.array(i)
	case c == '-' || c >= '0' && c <= '9':
		return s.number(i)
	case c == 't':
		return s.literal(i, "true")
	case c == 'f':
		return s.literal(i, "false")
	case c == 'n':
		return s.literal(i, "null")
	}
	return i, s.unexpected(i, "a value")
}

func (s *scanner) literal(i int, word string) (int, error) {
	for j := range len(word) {
		if s.at(i) != word[j] {
			return i, s.unexpected(i, "the literal "+word)
		}
		i++
	}
	return i, nil
}

// enter reads the bracket that opens an array or an object. It reports whether an element follows,
// and reads the closing bracket if not.
func (s *scanner) enter(i int, closing byte) (next int, more bool, err error) {
	if s.depth++; s.depth > MaxDepth {
		return i, false, &SyntaxError{i, fmt.Sprintf("nested deeper than %d levels", MaxDepth)}
	}
	i = s.space(i + 1)
	if s.at(i) != closing {
		return i, true, nil
	}
	s.depth--
	return i + 1, false, nil
}

// more reads what stands behind an element: a ',', and reports that another follows, or the closing
// bracket.
func (s *scanner) more(i int, closing byte) (next int, more bool, err error) {
	i = s.space(i)
	switch s.at(i) {
	case ',':
		return s.space(i + 1), true, nil
	case closing:
		s.depth--
		return i + 1, false, nil
	}
	return i, false, s.unexpected(i, "',' or '"+string(rune(closing))+"'")
}

func (s *scanner) array(i int) (int, error) {
	i, more, err := s.enter(i, ']')
	for more && err == nil {
		if i, err = s.value(i); err != nil {
			break
		}
		i, more, err = s.more(i, ']')
	}
	return i, err
}

func (s *scanner) object(i int) (int, error) {
	i, more, err := s.enter(i, '}')
	for more && err == nil {
		if i, err = s.name(i); err != nil {
			break
		}
		if i, err = s.colon(i); err != nil {
			break
		}
		if i, err = s.value(i); err != nil {
			break
		}
		i, more, err = s.more(i, '}')
	}
	return i, err
}

func (s *scanner) name(i int) (int, error) {
	if s.at(i) != '"' {
		return i, s.unexpected(i, "a member name in double quotes")
	}
	return s.string(i)
}

// colon reads what stands between the name and the value of a member.
func (s *scanner) colon(i int) (int, error) {
	if i = s.space(i); s.at(i) != ':' {
		return i, s.unexpected(i, "':'")
	}
	return s.space(i + 1), nil
}

// plain holds true for the bytes that need no look inside a string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// skipPlain returns the offset of the next byte that needs a look inside a string. Most of an event
// is strings, so it takes eight bytes at a time.
func (s *scanner) skipPlain(i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	data := s.data
	for ; i <= len(data)-8; i += 8 {
		// Subtracting sets the top bit of a byte that is too small. It then borrows from the byte
		// above, so only the lowest byte that is found is certain; that one is wanted.
		w := binary.LittleEndian.Uint64(data[i:])
		quote, backslash := w^'"'*ones, w^'\\'*ones // 0 where the byte is the one
		control := (w - ' '*ones) &^ w
		if found := (control | (quote-ones)&^quote | (backslash-ones)&^backslash) & tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(data) && plain[data[i]] {
		i++
	}
	return i
}

func (s *scanner) string(i int) (int, error) {
	i++ // the opening quote
	for {
		i = s.skipPlain(i)
		switch c := s.at(i); {
		case c == '"':
			return i + 1, nil
		case i == len(s.data):
			return i, &SyntaxError{i, "the text ends inside a string"}
		case c != '\\':
			return i, &SyntaxError{i, fmt.Sprintf("control character 0x%02x inside a string, write it as an escape", c)}
		}
		var err error
		if i, err = s.escape(i); err != nil {
			return i, err
		}
	}
}

func (s *scanner) escape(i int) (int, error) {
	i++ // the backslash
	switch s.at(i) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1, nil
	case 'u':
		i++
		for range 4 {
			c := s.at(i)
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return i, s.unexpected(i, "a hexadecimal digit of a \\u escape")
			}
			i++
		}
		return i, nil
	}
	return i, s.unexpected(i, `one of "\/bfnrtu after a backslash`)
}

// number reads RFC 8259 section 6: [ minus ] int [ frac ] [ exp ].
func (s *scanner) number(i int) (int, error) {
	if s.at(i) == '-' {
		i++
	}
	start := i
	if i = s.digits(i); i == start {
		return i, s.unexpected(i, "a digit")
	}
	if s.data[start] == '0' && i > start+1 {
		return i, &SyntaxError{start + 1, "a number does not begin with 0 before another digit"}
	}
	if s.at(i) == '.' {
		start = i + 1
		if i = s.digits(start); i == start {
			return i, s.unexpected(i, "a digit")
		}
	}
	if c := s.at(i); c == 'e' || c == 'E' {
		i++
		if c := s.at(i); c == '+' || c == '-' {
			i++
		}
		start = i
		if i = s.digits(start); i == start {
			return i, s.unexpected(i, "a digit")
		}
	}
	return i, nil
}

// digits returns the offset of the next byte that is no digit.
func (s *scanner) digits(i int) int {
	for i < len(s.data) && s.data[i]-'0' <= 9 {
		i++
	}
	return i
}
