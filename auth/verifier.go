package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Skew is how far ahead the clock of whoever signs the tokens may be: a token is good so long before its
// nbf. It does not prolong a token, which is good until its exp and not longer, by the hub's clock.
const Skew = 5 * time.Second

// DefaultRefresh is the default of Config.Refresh.
const DefaultRefresh = 5 * time.Minute

// Config says which tokens are good. Either Key or JWKS is set.
type Config struct {
	// Key is a public key or a certificate in PEM, or a secret for HS256.
	Key []byte
	// JWKS is a file with a JSON Web Key Set, or its address, http or https. It is read again every
	// Refresh, 5 minutes by default, and for a token whose key is not in it.
	JWKS    string
	Refresh time.Duration
	// Issuer and Audience, if not empty, have to be those of a token.
	Issuer, Audience string

	Logger *slog.Logger // slog.Default by default
}

// Verifier knows which tokens are good. Its methods may be called from any goroutine.
type Verifier struct {
	parser *jwt.Parser
	fixed  *keySet // nil if there is a source
	source *source
}

// New returns a verifier. Close it to end its goroutine.
func New(c Config) (*Verifier, error) {
	if (len(c.Key) > 0) == (c.JWKS != "") {
		return nil, errors.New("auth: either a key or a key set is needed")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Refresh == 0 {
		c.Refresh = DefaultRefresh
	}
	v := &Verifier{}
	methods := asymmetric
	if c.JWKS != "" {
		s, err := newSource(c.JWKS, c.Refresh, c.Logger)
		if err != nil {
			return nil, err
		}
		v.source = s
	} else {
		k, err := parseKey(c.Key)
		if err != nil {
			return nil, err
		}
		v.fixed, methods = &keySet{keys: []*key{k}, single: true}, k.methods
	}
	options := []jwt.ParserOption{jwt.WithValidMethods(methods), jwt.WithExpirationRequired(), jwt.WithLeeway(Skew)}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	v.parser = jwt.NewParser(options...)
	return v, nil
}

// Close ends what keeps the keys up to date.
func (v *Verifier) Close() {
	if v.source != nil {
		v.source.close()
	}
}

// KeyStats is how the key set stands.
type KeyStats struct {
	// Age is how long ago the set was fetched; as long as it never was, how long that has been tried.
	Age time.Duration
	// Failures is how many fetches have failed.
	Failures uint64
}

// KeyStats returns how the key set stands. It reports false if there is none, but a key that stays.
func (v *Verifier) KeyStats() (KeyStats, bool) {
	s := v.source
	if s == nil {
		return KeyStats{}, false
	}
	return KeyStats{time.Since(s.began) - time.Duration(s.good.Load()), s.failed.Load()}, true
}

// Request returns what the token of a handshake allows. It waits for a key set that has to be fetched
// because of it, until the request's context is done.
func (v *Verifier) Request(r *http.Request) (fanout.Claims, error) {
	token, err := FromRequest(r)
	if err != nil {
		return fanout.Claims{}, err
	}
	c, err := v.verify(token)
	if errors.Is(err, errUnknownKey) && v.source != nil {
		if fetchc := v.source.ask(); fetchc != nil {
			if err := v.source.wait(r.Context(), fetchc); err != nil {
				return fanout.Claims{}, err
			}
			c, err = v.verify(token)
		}
	}
	return c, err
}

// wait returns when a fetch has ended, or an ErrAuthUnavailable before that.
func (s *source) wait(ctx context.Context, fetchc <-chan struct{}) error {
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) <= maxWaiting {
		select {
		case <-fetchc:
			return nil
		case <-ctx.Done():
		}
	}
	return errFetching
}

var errFetching = fmt.Errorf("auth: %w: the key of the token is being looked for", fanout.ErrAuthUnavailable)

// Renew returns what a fresh token allows. It does not wait: a token whose key has to be fetched is
// answered by an ErrAuthUnavailable, and may be sent again.
func (v *Verifier) Renew(token string) (fanout.Claims, error) {
	c, err := v.verify(token)
	if errors.Is(err, errUnknownKey) && v.source != nil && v.source.ask() != nil {
		err = errFetching
	}
	return c, err
}

// tokenClaims are the claims that matter here (RFC 7519 section 4.1, and the hub's own).
type tokenClaims struct {
	jwt.RegisteredClaims
	Topics  *[]string `json:"topics"`
	Publish *[]string `json:"publish"`
}

// verify checks a token with the keys there are.
func (v *Verifier) verify(token string) (fanout.Claims, error) {
	if len(token) > MaxTokenBytes {
		return fanout.Claims{}, errLongToken
	}
	set := v.fixed
	if v.source != nil {
		if set = v.source.keys.Load(); set == nil {
			return fanout.Claims{}, fmt.Errorf("auth: %w: there are no keys yet", fanout.ErrAuthUnavailable)
		}
	}
	var claims tokenClaims
	var keyErr error
	_, err := v.parser.ParseWithClaims(token, &claims, func(t *jwt.Token) (any, error) {
		k, err := keyOf(t, set)
		if keyErr = err; err != nil {
			return nil, err
		}
		return k.public, nil
	})
	switch {
	case keyErr != nil:
		return fanout.Claims{}, keyErr
	case errors.Is(err, jwt.ErrTokenMalformed):
		return fanout.Claims{}, malformed(token)
	case err != nil:
		return fanout.Claims{}, explain(err)
	case !time.Now().Before(claims.ExpiresAt.Time):
		return fanout.Claims{}, errExpired
	}
	return claims.allowed()
}

// keyOf returns the key of a token by its header.
func keyOf(t *jwt.Token, set *keySet) (*key, error) {
	if _, ok := t.Header["crit"]; ok { // RFC 7515 section 4.1.11: we know no extensions
		return nil, errors.New("auth: the token has a crit header, and what it asks for is not known here")
	}
	id, ok := t.Header["kid"].(string)
	if _, there := t.Header["kid"]; there && !ok {
		return nil, errors.New("auth: the kid of the token is not a string")
	}
	return set.find(id, t.Method.Alg())
}

var errExpired = errors.New("auth: the token has expired")

// explain says what is wrong with a token without repeating any of it.
func explain(err error) error {
	for _, known := range []struct{ is, says error }{
		{jwt.ErrTokenExpired, errExpired},
		{jwt.ErrTokenNotValidYet, errors.New("auth: the token is not good yet (nbf)")},
		{jwt.ErrTokenInvalidIssuer, errors.New("auth: the token is not from the issuer that is wanted (iss)")},
		{jwt.ErrTokenInvalidAudience, errors.New("auth: the token is not for this hub (aud)")},
		{jwt.ErrTokenRequiredClaimMissing, errors.New("auth: the token lacks a claim that is needed, exp first of all")},
		{jwt.ErrTokenSignatureInvalid, errors.New("auth: the token is not signed as it should be")},
	} {
		if errors.Is(err, known.is) {
			return known.says
		}
	}
	return errors.New("auth: the token is not good")
}

// allowed returns what the claims allow: to receive everything if topics is absent, as a spoke does
// without tokens, and to send nothing if publish is absent. An empty list is nothing.
func (c *tokenClaims) allowed() (fanout.Claims, error) {
	if len(c.Subject) > codec.MaxIDBytes {
		return fanout.Claims{}, fmt.Errorf("auth: a sub of %d bytes, at most %d are possible", len(c.Subject), codec.MaxIDBytes)
	}
	allowed := fanout.Claims{Subject: c.Subject, Expires: c.ExpiresAt.Time, Topics: []codec.Pattern{codec.Everything}}
	var err error
	if c.Topics != nil {
		if allowed.Topics, err = parsePatterns("topics", *c.Topics); err != nil {
			return fanout.Claims{}, err
		}
	}
	if c.Publish != nil {
		allowed.Publish, err = parsePatterns("publish", *c.Publish)
	}
	return allowed, err
}

// maxPatterns bounds each list of patterns in a token.
const maxPatterns = 1024

func parsePatterns(claim string, texts []string) ([]codec.Pattern, error) {
	if n := len(texts); n > maxPatterns {
		return nil, fmt.Errorf("auth: %d patterns in %s, at most %d are possible", n, claim, maxPatterns)
	}
	patterns := make([]codec.Pattern, 0, len(texts))
	for _, text := range texts {
		p, err := codec.ParsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("auth: the claim %s: %w", claim, err)
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}
