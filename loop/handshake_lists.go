package loop

import (
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/gobwas/httphead"
)

// upgradeLists are what two headers of a handshake must name among others, in any case (RFC 6455
// section 4.2.1).
var upgradeLists = []struct{ name, token string }{{"Upgrade", "websocket"}, {"Connection", "Upgrade"}}

// hasToken reports whether a list names the token. It may be spread over several headers (RFC 9110
// section 5.3).
func hasToken(list []string, token string) bool {
	for _, header := range list {
		for element := range strings.SplitSeq(header, ",") {
			if strings.EqualFold(strings.Trim(element, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// malformedList says which of the lists that a client offers does not have the form that RFC 6455 gives
// it: tokens in section 4.1, extensions in section 9.1, also where none would be accepted.
func malformedList(h http.Header) (problem string) {
	for _, header := range h["Sec-Websocket-Protocol"] {
		for element := range strings.SplitSeq(header, ",") {
			if element = strings.Trim(element, " \t"); element == "" || strings.ContainsFunc(element, notToken) {
				return fmt.Sprintf("malformed Sec-WebSocket-Protocol: %q is no token", element)
			}
		}
	}
	for _, header := range h["Sec-Websocket-Extensions"] {
		ok := httphead.ScanOptions([]byte(header), func(int, []byte, []byte, []byte) httphead.Control {
			return httphead.ControlContinue
		})
		if !ok {
			return "malformed Sec-WebSocket-Extensions"
		}
	}
	return ""
}

// notToken reports whether a token must not hold r (RFC 9110 section 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
}

// plainLists returns r with those lists as the library can read them: it looks at the first header of a
// name only, and takes Upgrade for one token. r itself belongs to others as well.
func plainLists(r *http.Request) *http.Request {
	if len(r.Header["Connection"]) <= 1 && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return r
	}
	plain := *r
	plain.Header = maps.Clone(r.Header)
	for _, l := range upgradeLists {
		if hasToken(r.Header[l.name], l.token) {
			plain.Header[l.name] = []string{l.token}
		}
	}
	return &plain
}
