package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// jwkOf describes a public key; members given come on top.
func jwkOf(t testing.TB, kid string, public crypto.PublicKey, more ...string) map[string]string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	j := map[string]string{"kid": kid}
	switch k := public.(type) {
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		require.NoError(t, err)
		size := len(point) / 2
		j["kty"], j["crv"], j["x"], j["y"] = "EC", k.Curve.Params().Name, b64(point[1:1+size]), b64(point[1+size:])
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", b64(k)
	}
	for i := 0; i < len(more); i += 2 {
		j[more[i]] = more[i+1]
	}
	return j
}

func setOf(t testing.TB, keys ...map[string]string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	require.NoError(t, err)
	return b
}

func file(t testing.TB, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return name
}

func TestTokensAreHeldAgainstTheKeyTheyName(t *testing.T) {
	v := newVerifier(t, Config{JWKS: file(t, setOf(t,
		jwkOf(t, "r", &rsaKey.PublicKey), jwkOf(t, "r2", &otherRSA.PublicKey, "alg", "PS256", "use", "sig"),
		jwkOf(t, "e", &ecKey.PublicKey), jwkOf(t, "e3", &ec384.PublicKey), jwkOf(t, "o", edPublic),
		map[string]string{"kty": "oct", "kid": "s", "k": base64.RawURLEncoding.EncodeToString(secret)},
		jwkOf(t, "enc", &ecKey.PublicKey, "use", "enc"),
	)), Logger: slog.New(slog.DiscardHandler)})
	for name, test := range map[string]struct {
		token string
		want  error
	}{
		"rsa":           {sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil), "kid", "r"), nil},
		"alg of key":    {sign(t, jwt.SigningMethodPS256, otherRSA, claims(nil), "kid", "r2"), nil},
		"other alg":     {sign(t, jwt.SigningMethodRS256, otherRSA, claims(nil), "kid", "r2"), errMethod},
		"ec":            {sign(t, jwt.SigningMethodES256, ecKey, claims(nil), "kid", "e"), nil},
		"ec without":    {sign(t, jwt.SigningMethodES256, ecKey, claims(nil)), nil}, // the only one of its method
		"p-384":         {sign(t, jwt.SigningMethodES384, ec384, claims(nil), "kid", "e3"), nil},
		"ed25519":       {sign(t, jwt.SigningMethodEdDSA, edKey, claims(nil), "kid", "o"), nil},
		"rsa without":   {sign(t, jwt.SigningMethodPS256, rsaKey, claims(nil)), errWhichKey},
		"wrong kid":     {sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil), "kid", "e"), errMethod},
		"unknown kid":   {sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil), "kid", "x"), errUnknownKey},
		"not a sig key": {sign(t, jwt.SigningMethodES256, ecKey, claims(nil), "kid", "enc"), errUnknownKey},
	} {
		_, err := v.verify(test.token)
		require.Equal(t, test.want, err, name)
	}
	for _, token := range []string{
		sign(t, jwt.SigningMethodHS256, secret, claims(nil), "kid", "s"), // who may see the set could sign
		sign(t, jwt.SigningMethodRS256, otherRSA, claims(nil), "kid", "r"),
		sign(t, jwt.SigningMethodHS256, pemOf(t, &rsaKey.PublicKey), claims(nil), "kid", "r"),
	} {
		_, err := v.verify(token)
		require.ErrorContains(t, err, "not signed as it should be")
	}
}

func TestSetsThatCannotBeUsed(t *testing.T) {
	with := func(name, value string) []byte { return setOf(t, jwkOf(t, "k", &rsaKey.PublicKey, name, value)) }
	ec := func(name, value string) []byte { return setOf(t, jwkOf(t, "k", &ecKey.PublicKey, name, value)) }
	for want, b := range map[string][]byte{
		"this is not a JSON Web Key Set": []byte("<html>"),
		"which looks like":               []byte(`{"keys":null}`),
		"no key of the set":              []byte(`{"keys":[]}`),
		"a set of 257 keys":              setOf(t, make([]map[string]string, 257)...),
		"cannot unmarshal":               []byte(`{"keys":[7]}`),
		"illegal base64":                 with("n", "%%"),
		"a number of 0 bytes":            with("n", ""),
		"RSA key of 16 bits":             with("n", "__8"),
		"an RSA exponent":                with("e", "Ag"),
		`alg "HS256" is not one`:         with("alg", "HS256"),
		"it is not for signatures":       with("use", "enc"),
		`kty "oct"`:                      with("kty", "oct"),
		`curve "P-224"`:                  ec("crv", "P-224"),
		"a number of 32 bytes":           ec("crv", "P-384"),
		"point":                          ec("x", jwkOf(t, "", &ecKey.PublicKey)["y"]),
		`curve "X25519"`:                 setOf(t, jwkOf(t, "k", edPublic, "crv", "X25519")),
	} {
		_, _, err := parseSet(b)
		require.ErrorContains(t, err, want, "%s", b)
	}
}

// issuer serves a key set.
type issuer struct {
	*httptest.Server
	body    atomic.Pointer[[]byte] // nil: 500
	fetches atomic.Int32
	holdc   chan struct{} // if not nil, an answer waits for it
}

func newIssuer(t testing.TB, body []byte) *issuer {
	i := &issuer{}
	if body != nil {
		i.body.Store(&body)
	}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if i.holdc != nil {
			<-i.holdc
		}
		i.fetches.Add(1)
		if b := i.body.Load(); b != nil {
			_, _ = w.Write(*b)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(i.Close)
	return i
}

func request(t testing.TB, ctx context.Context, token string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/ws", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func TestAnUnknownKeyHasTheSetFetchedOnceInAWhile(t *testing.T) {
	first, second := setOf(t, jwkOf(t, "1", &ecKey.PublicKey)), setOf(t, jwkOf(t, "2", &rsaKey.PublicKey))
	i := newIssuer(t, first)
	v := newVerifier(t, Config{JWKS: i.URL + "?secret=x", Logger: slog.New(slog.DiscardHandler)})
	require.EqualValues(t, 1, i.fetches.Load())
	old := sign(t, jwt.SigningMethodES256, ecKey, claims(nil), "kid", "1")
	rotated := sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil), "kid", "2")
	_, err := v.Request(request(t, t.Context(), rotated))
	require.Equal(t, errUnknownKey, err, "it was fetched a moment ago")
	require.EqualValues(t, 1, i.fetches.Load())

	longAgo := func() {
		v.source.mu.Lock()
		v.source.fetched = time.Now().Add(-v.source.pause)
		v.source.mu.Unlock()
	}
	longAgo()
	i.body.Store(&second)
	_, err = v.Request(request(t, t.Context(), rotated))
	require.NoError(t, err)
	require.EqualValues(t, 2, i.fetches.Load())
	_, err = v.Request(request(t, t.Context(), old))
	require.Equal(t, errUnknownKey, err, "the old key is gone")
	require.EqualValues(t, 2, i.fetches.Load())

	longAgo()
	i.body.Store(&first)
	_, err = v.Renew(old)
	require.ErrorIs(t, err, fanout.ErrAuthUnavailable, "it does not wait")
	require.Eventually(t, func() bool { _, err := v.Renew(old); return err == nil }, 5*time.Second, time.Millisecond)

	longAgo()
	i.body.Store(nil)
	_, err = v.Request(request(t, t.Context(), rotated))
	require.Equal(t, errUnknownKey, err)
	_, err = v.Request(request(t, t.Context(), old))
	require.NoError(t, err, "the keys from before stay")
}

func TestHandshakesWaitForAFetchTogether(t *testing.T) {
	i := newIssuer(t, setOf(t, jwkOf(t, "1", &ecKey.PublicKey)))
	v := newVerifier(t, Config{JWKS: i.URL, Logger: slog.New(slog.DiscardHandler)})
	i.holdc = make(chan struct{})
	v.source.mu.Lock()
	v.source.fetched = time.Time{}
	v.source.mu.Unlock()
	unknown := sign(t, jwt.SigningMethodES256, ecKey, claims(nil), "kid", "x")
	answers := make(chan error, maxWaiting)
	for range maxWaiting {
		go func() { _, err := v.Request(request(t, t.Context(), unknown)); answers <- err }()
	}
	require.Eventually(t, func() bool { return v.source.waiting.Load() == maxWaiting }, 5*time.Second, time.Millisecond)
	_, err := v.Request(request(t, t.Context(), unknown))
	require.ErrorIs(t, err, fanout.ErrAuthUnavailable, "one too many")
	_, err = v.Request(request(t, t.Context(), sign(t, jwt.SigningMethodES256, ecKey, claims(nil), "kid", "1")))
	require.NoError(t, err, "those whose key is there do not wait")
	close(i.holdc)
	for range maxWaiting {
		require.Equal(t, errUnknownKey, <-answers)
	}
	require.EqualValues(t, 2, i.fetches.Load())
}

func TestAWaitEndsWithItsRequest(t *testing.T) {
	i := newIssuer(t, setOf(t, jwkOf(t, "1", &ecKey.PublicKey)))
	v := newVerifier(t, Config{JWKS: i.URL, Logger: slog.New(slog.DiscardHandler)})
	i.holdc = make(chan struct{})
	defer close(i.holdc)
	v.source.mu.Lock()
	v.source.fetched = time.Time{}
	v.source.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error)
	r := request(t, ctx, sign(t, jwt.SigningMethodES256, ecKey, claims(nil), "kid", "x"))
	go func() { _, err := v.Request(r); answer <- err }()
	require.Eventually(t, func() bool { return v.source.waiting.Load() == 1 }, 5*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-answer, fanout.ErrAuthUnavailable)
}

func TestASetThatIsNotThereYet(t *testing.T) {
	_, err := New(Config{JWKS: filepath.Join(t.TempDir(), "none.json"), Logger: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "no such file")
	_, err = New(Config{JWKS: file(t, []byte("{}")), Logger: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "not a JSON Web Key Set")

	i := newIssuer(t, nil)
	var log strings.Builder
	v := newVerifier(t, Config{JWKS: i.URL + "/keys?secret=x", Refresh: 10 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	token := sign(t, jwt.SigningMethodES256, ecKey, claims(nil), "kid", "1")
	_, err = v.Request(request(t, t.Context(), token))
	require.ErrorIs(t, err, fanout.ErrAuthUnavailable)
	b := setOf(t, jwkOf(t, "1", &ecKey.PublicKey))
	i.body.Store(&b)
	require.Eventually(t, func() bool { _, err := v.Request(request(t, t.Context(), token)); return err == nil }, 5*time.Second, time.Millisecond)
	v.Close()
	require.Contains(t, log.String(), "answered 500")
	require.Contains(t, log.String(), "/keys")
	require.NotContains(t, log.String(), "secret")
}

func TestTheAgeOfASetIsKnown(t *testing.T) {
	i := newIssuer(t, nil)
	v := newVerifier(t, Config{JWKS: i.URL, Refresh: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	stats := func() KeyStats {
		k, ok := v.KeyStats()
		require.True(t, ok)
		return k
	}
	old := stats()
	require.NotZero(t, old.Failures)
	require.Positive(t, old.Age)
	require.Eventually(t, func() bool { k := stats(); return k.Failures > old.Failures+1 && k.Age > 20*time.Millisecond }, 5*time.Second, time.Millisecond)
	b := setOf(t, jwkOf(t, "1", &ecKey.PublicKey))
	i.body.Store(&b)
	require.Eventually(t, func() bool { return stats().Age < 20*time.Millisecond }, 5*time.Second, time.Millisecond, "fetched, it is young")
	i.body.Store(nil)
	fresh := stats()
	require.Eventually(t, func() bool { k := stats(); return k.Failures > fresh.Failures && k.Age > 20*time.Millisecond }, 5*time.Second, time.Millisecond,
		"a fetch that fails leaves it to age")

	v = newVerifier(t, Config{Key: []byte(strings.Repeat("secret", 8))})
	_, ok := v.KeyStats()
	require.False(t, ok, "a key has no age")
}

func TestASetIsReadAgain(t *testing.T) {
	name := file(t, setOf(t, jwkOf(t, "1", &ecKey.PublicKey)))
	v := newVerifier(t, Config{JWKS: "file:" + name, Refresh: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, os.WriteFile(name, fmt.Append(nil, strings.Repeat(" ", maxSetBytes), "{}"), 0o600))
	token := sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil), "kid", "2")
	_, err := v.Renew(token)
	require.Error(t, err)
	require.NoError(t, os.WriteFile(name, setOf(t, jwkOf(t, "2", &rsaKey.PublicKey)), 0o600))
	require.Eventually(t, func() bool { _, err := v.Renew(token); return err == nil }, 5*time.Second, time.Millisecond)
}

// FuzzParseSet holds what is read of a set against what may be in it.
func FuzzParseSet(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		set, problems, err := parseSet(b)
		if err != nil {
			require.Nil(t, set)
			return
		}
		require.NotEmpty(t, set.keys)
		require.LessOrEqual(t, len(set.keys)+len(problems), maxSetKeys)
		for _, k := range set.keys {
			require.NotEmpty(t, k.methods)
			require.NotContains(t, k.methods, "HS256")
			text := pemOf(t, k.public) // which only a valid key has
			again, err := parseKey(text)
			require.NoError(t, err)
			require.Subset(t, again.methods, k.methods)
		}
	})
}

// FuzzFromRequest looks for a token in every place at once, and finds none that is not there.
func FuzzFromRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, authorization, query, protocols string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{
			"Authorization": {authorization}, "Sec-Websocket-Protocol": {protocols},
		}}
		token, err := FromRequest(r)
		if err != nil {
			require.Empty(t, token)
			return
		}
		require.NotEmpty(t, token)
		places := 0
		for _, there := range []bool{
			strings.Contains(authorization, token), slices.Contains(trimmed(r.URL.Query()["token"]), token), strings.Contains(protocols, protocolPrefix),
		} {
			if there {
				places++
			}
		}
		require.NotZero(t, places)
	})
}

func trimmed(texts []string) []string {
	for i, text := range texts {
		texts[i] = strings.TrimSpace(text)
	}
	return texts
}
