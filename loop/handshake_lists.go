package loop

import (
	"maps"
	"net/http"
	"strings"
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
