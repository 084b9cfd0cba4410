package codec

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bytedance/sonic"
)

// Bounds on the members of an envelope, in bytes of UTF-8.
const (
	MaxTypeBytes = 256
	MaxIDBytes   = 256
)

// Envelope is one event: what it is, which one of its kind, and its content.
type Envelope struct {
	// Type is 1 to MaxTypeBytes of valid UTF-8 without a ':'. Types that begin with "__" belong to
	// the hub.
	Type string
	// ID is up to MaxIDBytes of valid UTF-8, any characters, possibly empty.
	ID string
	// Payload is one strict JSON value, passed on byte for byte; nil and empty stand for null.
	Payload json.RawMessage
}

// Topic returns "type:id", what listeners and spokes subscribe to.
func (e Envelope) Topic() string { return e.Type + ":" + e.ID }

// Reserved reports whether the type belongs to the hub.
func (e Envelope) Reserved() bool { return strings.HasPrefix(e.Type, ReservedPrefix) }

// NewEnvelope returns an envelope around payload encoded by sonic.
func NewEnvelope(typ, id string, payload any) (Envelope, error) {
	raw, err := sonic.ConfigDefault.Marshal(payload)
	if err != nil {
		return Envelope{}, fmt.Errorf("codec: payload of %q: %w", typ, err)
	}
	e := Envelope{Type: typ, ID: id, Payload: raw}
	return e, e.Check()
}

// Decode stores the payload in the value that v points to.
func (e Envelope) Decode(v any) error {
	if len(e.Payload) == 0 {
		return sonic.ConfigDefault.Unmarshal([]byte("null"), v)
	}
	return sonic.ConfigDefault.Unmarshal(e.Payload, v)
}

// An EnvelopeError says why something is not an envelope.
type EnvelopeError struct {
	ID      string // the id member, if it could be read and is one that an answer can carry
	Problem string // what is wrong, where, and what would be right
}

func (e *EnvelopeError) Error() string { return "codec: bad envelope: " + e.Problem }

// Check returns an *EnvelopeError if e is not what the fields of Envelope promise. It does not
// look whether the type is reserved.
func (e Envelope) Check() error {
	if problem := e.memberProblem(); problem != "" {
		return e.bad(problem)
	}
	if len(e.Payload) > 0 {
		if err := checkJSON(e.Payload, 1); err != nil { // 1: the envelope is an object around it
			return e.bad("payload: " + err.Error())
		}
	}
	return nil
}

// bad returns the error for e without an id that is no id: the answer to it could not be sent.
func (e Envelope) bad(problem string) error {
	if len(e.ID) > MaxIDBytes || !utf8.ValidString(e.ID) {
		e.ID = ""
	}
	return &EnvelopeError{e.ID, problem}
}

func (e Envelope) memberProblem() string {
	switch {
	case e.Type == "":
		return fmt.Sprintf("type is missing or empty, it is a string of 1 to %d bytes", MaxTypeBytes)
	case len(e.Type) > MaxTypeBytes:
		return fmt.Sprintf("type has %d bytes, at most %d are allowed", len(e.Type), MaxTypeBytes)
	case strings.Contains(e.Type, ":"):
		return "type contains ':', which separates type and id in a topic"
	case !utf8.ValidString(e.Type):
		return "type is not valid UTF-8"
	case len(e.ID) > MaxIDBytes:
		return fmt.Sprintf("id has %d bytes, at most %d are allowed", len(e.ID), MaxIDBytes)
	case !utf8.ValidString(e.ID):
		return "id is not valid UTF-8"
	}
	return ""
}

// ParseEnvelope reads one envelope from data, which must be strict JSON in valid UTF-8. Unknown
// members are ignored; of a member that appears twice the last one counts. The result owns its
// bytes: data may be reused. The error is an *EnvelopeError.
func ParseEnvelope(data []byte) (Envelope, error) {
	var problem string
	var m envelopeMembers
	if err := m.read(data); err != nil {
		problem = err.Error() // the id may still have come before
	}
	var e Envelope
	var typeProblem, idProblem string
	e.Type, typeProblem = m.typ.text("type")
	e.ID, idProblem = m.id.text("id")
	if problem = cmp.Or(problem, typeProblem, idProblem, e.memberProblem()); problem != "" {
		return Envelope{}, e.bad(problem)
	}
	if p := m.payload.value; len(p) > 0 && string(p) != "null" {
		e.Payload = append(make([]byte, 0, len(p)), p...)
	}
	return e, nil
}

// envelopeMembers is where the members stand in the text, the last of each name. They are looked at
// after the whole text was read, so that a wrong type is answered with the id that follows it.
type envelopeMembers struct {
	typ, id, payload member
}

type member struct {
	value  []byte // aliases the text; nil if absent
	offset int
}

// read collects the members on one strict pass over the text, up to the first error.
func (m *envelopeMembers) read(data []byte) error {
	if err := checkUTF8(data); err != nil {
		return err
	}
	s := scanner{data: data}
	i := s.space(0)
	if s.at(i) != '{' {
		return s.unexpected(i, `an envelope {"type":...,"id":...,"payload":...}`)
	}
	i, more, err := s.enter(i, '}')
	for more && err == nil {
		i, more, err = m.readOne(&s, i)
	}
	if err != nil {
		return err
	}
	return s.end(i)
}

// readOne reads the member at i and what stands behind it, as scanner.more does.
func (m *envelopeMembers) readOne(s *scanner, i int) (next int, more bool, err error) {
	nameEnd, err := s.name(i)
	if err != nil {
		return nameEnd, false, err
	}
	start, err := s.colon(nameEnd)
	if err != nil {
		return start, false, err
	}
	end, err := s.value(start)
	if err != nil {
		return end, false, err
	}
	if dst := m.named(s.data[i:nameEnd]); dst != nil {
		*dst = member{s.data[start:end], start}
	}
	return s.more(end, '}')
}

// named returns the member that a name, quotes included, stands for, or nil.
func (m *envelopeMembers) named(quoted []byte) *member {
	switch string(quoted) {
	case `"type"`:
		return &m.typ
	case `"id"`:
		return &m.id
	case `"payload"`:
		return &m.payload
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return nil
	}
	switch name, _ := unquote(quoted); name {
	case "type":
		return &m.typ
	case "id":
		return &m.id
	case "payload":
		return &m.payload
	}
	return nil
}

// text decodes a member that has to be a string, or says why it is none.
func (m member) text(name string) (text, problem string) {
	if m.value == nil {
		return "", ""
	}
	if m.value[0] != '"' {
		return "", fmt.Sprintf("at byte %d: %s must be a string, not %s", m.offset, name, kindOf(m.value))
	}
	text, err := unquote(m.value)
	if err != nil {
		return "", fmt.Sprintf("at byte %d: %s: %v", m.offset, name, err)
	}
	return text, ""
}

func kindOf(value []byte) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// unquote decodes a checked JSON string, quotes included, into a copy.
func unquote(quoted []byte) (string, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var s string
	err := sonic.ConfigStd.Unmarshal(quoted, &s)
	return s, err
}

// AppendEnvelope appends the wire form of e to dst: {"type":...,"id":...,"payload":...}, the payload
// as it is. The error is an *EnvelopeError, and dst is then returned unchanged.
func AppendEnvelope(dst []byte, e Envelope) ([]byte, error) {
	if err := e.Check(); err != nil {
		return dst, err
	}
	dst = append(dst, `{"type":`...)
	dst = appendString(dst, e.Type)
	dst = append(dst, `,"id":`...)
	dst = appendString(dst, e.ID)
	dst = append(dst, `,"payload":`...)
	if len(e.Payload) == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, e.Payload...)
	}
	return append(dst, '}'), nil
}

// appendString appends s, valid UTF-8, as a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			quoted, err := sonic.ConfigDefault.Marshal(s)
			if err != nil {
				panic("codec: sonic does not encode a string: " + err.Error())
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
