package auth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// forms are the claims that are read, and what each has to be.
var forms = []struct {
	claim, form string
	read        func(json.RawMessage) error
}{
	{"exp", "a number of seconds", readAs[jwt.NumericDate]},
	{"nbf", "a number of seconds", readAs[jwt.NumericDate]},
	{"iat", "a number of seconds", readAs[jwt.NumericDate]},
	{"sub", "a string", readAs[string]},
	{"iss", "a string", readAs[string]},
	{"jti", "a string", readAs[string]},
	{"aud", "a string or a list of them", readAs[jwt.ClaimStrings]},
	{"topics", `a list of patterns, as in ["tick:*"]`, readAs[[]string]},
	{"publish", `a list of patterns, as in ["ask:*"]`, readAs[[]string]},
}

func readAs[T any](raw json.RawMessage) error { return json.Unmarshal(raw, new(T)) }

var errMalformed = errors.New("auth: the token is malformed")

// malformed says what is wrong with a token that cannot be read: the claim, if it is one.
func malformed(token string) error {
	_, rest, _ := strings.Cut(token, ".")
	part, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return errMalformed
	}
	var claims map[string]json.RawMessage
	if json.Unmarshal(text, &claims) != nil {
		return errMalformed
	}
	for _, f := range forms {
		if raw, there := claims[f.claim]; there && f.read(raw) != nil {
			return fmt.Errorf("%w: the claim %s is not %s", errMalformed, f.claim, f.form)
		}
	}
	return errMalformed
}
