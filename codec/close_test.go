package codec

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// closeBody is the body of a close frame (RFC 6455 section 5.5.1).
func closeBody(code int, reason string) []byte {
	return append([]byte{byte(code >> 8), byte(code)}, reason...)
}

func TestCloseCodesThatMayBeSent(t *testing.T) {
	for _, c := range []struct {
		from, to int
		sendable bool
	}{
		{0, 999, false}, // 7.4.2: not used
		{1000, 1003, true},
		{1004, 1004, false}, // 7.4.1: reserved
		{1005, 1006, false}, // 7.4.1: never in a frame
		{1007, 1011, true},
		{1012, 1014, true},  // registered with IANA after the RFC
		{1015, 1015, false}, // 7.4.1: never in a frame
		{1016, 2999, false}, // 7.4.2: for later versions of the protocol
		{3000, 3999, true},  // 7.4.2: libraries, registered with IANA
		{4000, 4999, true},  // 7.4.2: private use
		{5000, 65535, false},
	} {
		for code := c.from; code <= c.to; code++ {
			require.Equal(t, c.sendable, CloseCode(code).Sendable(), "%d", code)

			// gobwas/ws knows the RFC but not the registry, and has no upper end.
			theirs := ws.CheckCloseFrameData(ws.StatusCode(code), "") == nil
			if registered := code >= 1012 && code <= 1014; !registered && code < 5000 {
				require.Equal(t, theirs, c.sendable, "%d", code)
			}

			got, reason, err := ParseClose(closeBody(code, "why"))
			if c.sendable {
				require.NoError(t, err)
				require.Equal(t, CloseCode(code), got)
				require.Equal(t, "why", reason)
				continue
			}
			require.Equal(t, &ProtocolError{CloseProtocolError, "close frame with a status code that may not be sent"}, err)
		}
	}
}

func TestParseClose(t *testing.T) {
	for _, c := range []struct {
		name   string
		body   []byte
		code   CloseCode
		reason string
		err    CloseCode // of the *ProtocolError, 0 for none
	}{
		{"no body", nil, CloseNoStatus, "", 0},
		{"half a code", []byte{3}, 0, "", CloseProtocolError},
		{"only a code", closeBody(1000, ""), CloseNormal, "", 0},
		{"a reason", closeBody(1001, "é€😀"), CloseGoingAway, "é€😀", 0},
		{"the longest reason", closeBody(4999, strings.Repeat("x", 123)), 4999, strings.Repeat("x", 123), 0},
		{"no UTF-8", closeBody(1000, "a\xff"), 0, "", CloseInvalidUTF8},
		{"a cut character", closeBody(1000, "\xe2\x82"), 0, "", CloseInvalidUTF8},
		{"a surrogate", closeBody(1000, "\xed\xa0\x80"), 0, "", CloseInvalidUTF8},
		{"bad code before bad reason", closeBody(1005, "\xff"), 0, "", CloseProtocolError},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := bytes.Clone(c.body)
			code, reason, err := ParseClose(body)
			for i := range body {
				body[i] = 0xaa // the reason is a copy
			}
			require.Equal(t, c.code, code)
			require.Equal(t, c.reason, reason)
			if c.err == 0 {
				require.NoError(t, err)
				return
			}
			var perr *ProtocolError
			require.ErrorAs(t, err, &perr)
			require.Equal(t, c.err, perr.Code)
		})
	}
}

func TestAppendCloseFrame(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name   string
		code   CloseCode
		reason string
		want   string
	}{
		{"only a code", CloseNormal, "", "\x88\x02\x03\xe8"},
		{"a reason", CloseSlow, "slow", "\x88\x06\x0f\xa8slow"},
		{"no status", CloseNoStatus, "not sent", "\x88\x00"},
		{"abnormal", CloseAbnormal, "not sent", "\x88\x00"},
		{"no code at all", 0, "not sent", "\x88\x00"},
		{"the one reserved for TLS", 1015, "not sent", "\x88\x00"},
		{"past the private codes", 5000, "not sent", "\x88\x00"},
		{"the longest reason", CloseNormal, x(123), "\x88\x7d\x03\xe8" + x(123)},
		{"a byte too long", CloseNormal, x(124), "\x88\x7d\x03\xe8" + x(123)},
		{"far too long", CloseNormal, x(70_000), "\x88\x7d\x03\xe8" + x(123)},
		{"ends with a character", CloseNormal, x(120) + "€", "\x88\x7d\x03\xe8" + x(120) + "€"},
		{"cut before the last byte of a character", CloseNormal, x(121) + "€", "\x88\x7b\x03\xe8" + x(121)},
		{"cut behind the first byte of a character", CloseNormal, x(122) + "€", "\x88\x7c\x03\xe8" + x(122)},
		{"cut before four bytes", CloseNormal, x(123) + "😀", "\x88\x7d\x03\xe8" + x(123)},
		{"cut within four bytes", CloseNormal, x(120) + "😀", "\x88\x7a\x03\xe8" + x(120)},
		{"no UTF-8", CloseNormal, "a\xffb", "\x88\x07\x03\xe8a\ufffdb"},
		{"nothing but the ends of characters", CloseNormal, strings.Repeat("\x80", 200), "\x88\x05\x03\xe8\ufffd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := AppendCloseFrame([]byte("before"), c.code, c.reason)
			require.Equal(t, "before"+c.want, string(b))
			requireClientReadsClose(t, b[len("before"):])
		})
	}
}

// requireClientReadsClose holds that b is one frame that a client takes.
func requireClientReadsClose(t *testing.T, b []byte) {
	t.Helper()
	r := bytes.NewReader(b)
	h, err := ws.ReadHeader(r)
	require.NoError(t, err)
	require.EqualValues(t, h.Length, r.Len())
	require.NoError(t, ws.CheckHeader(h, ws.StateClientSide))
	require.Equal(t, ws.OpClose, h.OpCode)
	code, reason, err := ParseClose(b[len(b)-r.Len():])
	require.NoError(t, err)
	require.True(t, utf8.ValidString(reason))
	require.True(t, code.Sendable() || code == CloseNoStatus)
}
