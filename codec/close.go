package codec

import (
	"strings"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// CloseCode is the status code of a close frame (RFC 6455 section 7.4).
type CloseCode uint16

// The close codes that the hub sends, and those that stand for a close without one.
const (
	CloseNormal          CloseCode = 1000
	CloseGoingAway       CloseCode = 1001 // the hub drains
	CloseProtocolError   CloseCode = 1002
	CloseNoStatus        CloseCode = 1005 // the peer's close frame had no code; never sent
	CloseAbnormal        CloseCode = 1006 // the connection ended without a close frame; never sent
	CloseInvalidUTF8     CloseCode = 1007 // or compressed data that cannot be inflated
	ClosePolicy          CloseCode = 1008 // bad envelopes, rate, authorisation
	CloseTooBig          CloseCode = 1009
	CloseInternal        CloseCode = 1011
	CloseUnauthenticated CloseCode = 4001
	CloseSlow            CloseCode = 4008
)

// Sendable reports whether an endpoint may put c into a close frame (RFC 6455 sections 7.4.1 and
// 7.4.2). 1012 to 1014 came later, by registration with IANA; gobwas/ws does not know them.
func (c CloseCode) Sendable() bool {
	return c >= 1000 && c <= 1003 || c >= 1007 && c <= 1014 || c >= 3000 && c <= 4999
}

// maxCloseReasonBytes is what a control frame's 125 bytes leave beside the code (RFC 6455 section 5.5).
const maxCloseReasonBytes = 123

// AppendCloseFrame appends a server's close frame to dst. A reason that is too long is cut at a
// character's boundary, and what is not UTF-8 in it is replaced: the peer would answer 1007. A code
// that may not be sent gives a frame without a body.
func AppendCloseFrame(dst []byte, code CloseCode, reason string) []byte {
	if !code.Sendable() {
		return append(dst, finBit|byte(ws.OpClose), 0)
	}
	reason = strings.ToValidUTF8(reason, "\ufffd")
	if len(reason) > maxCloseReasonBytes {
		n := maxCloseReasonBytes
		for n > 0 && !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	dst = append(dst, finBit|byte(ws.OpClose), byte(2+len(reason)), byte(code>>8), byte(code))
	return append(dst, reason...)
}

// ParseClose reads the body of a close frame that a peer sent. A body that breaks RFC 6455 section
// 7.4 is a *ProtocolError. An empty body gives CloseNoStatus. The reason is a copy.
func ParseClose(body []byte) (CloseCode, string, error) {
	switch len(body) {
	case 0:
		return CloseNoStatus, "", nil
	case 1:
		return 0, "", &ProtocolError{CloseProtocolError, "close frame with half a status code"}
	}
	code := CloseCode(body[0])<<8 | CloseCode(body[1])
	if !code.Sendable() {
		return 0, "", &ProtocolError{CloseProtocolError, "close frame with a status code that may not be sent"}
	}
	if !utf8.Valid(body[2:]) {
		return 0, "", &ProtocolError{CloseInvalidUTF8, "close reason is not valid UTF-8"}
	}
	return code, string(body[2:]), nil
}
