package auth

import (
	"errors"
	"net/http"
	"strings"
)

// MaxTokenBytes bounds a token. It is what the head of a handshake has room for.
const MaxTokenBytes = 8 << 10

// protocolPrefix begins the subprotocol that carries a token, for browsers, which cannot set headers. It
// is never chosen.
const protocolPrefix = "bearer."

var (
	errNoToken    = errors.New("auth: a token is needed, as Authorization: Bearer TOKEN, as ?token=TOKEN, or as the subprotocol bearer.TOKEN beside hub.v1")
	errManyTokens = errors.New("auth: there is more than one token")
	errLongToken  = errors.New("auth: the token is too long")
)

// FromRequest returns the token of a handshake. More than one is an error, even the same one twice (RFC
// 6750 section 2): what a proxy has looked at and what we do might differ.
func FromRequest(r *http.Request) (string, error) {
	var tokens []string
	add := func(token string) {
		if token = strings.TrimSpace(token); token != "" {
			tokens = append(tokens, token)
		}
	}
	for _, value := range r.Header["Authorization"] {
		if scheme, token, _ := strings.Cut(value, " "); strings.EqualFold(scheme, "Bearer") {
			add(token)
		}
	}
	for _, token := range r.URL.Query()["token"] {
		add(token)
	}
	for _, value := range r.Header["Sec-Websocket-Protocol"] {
		for offer := range strings.SplitSeq(value, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(offer), protocolPrefix); ok {
				add(token)
			}
		}
	}
	switch len(tokens) {
	case 0:
		return "", errNoToken
	case 1:
		return tokens[0], nil
	}
	return "", errManyTokens
}
