package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = []byte("a secret of more than thirty-two bytes")

// The keys of all tests: making them takes time.
var (
	rsaKey, otherRSA = mustRSA(2048), mustRSA(2048)
	ecKey            = mustEC(elliptic.P256())
	ec384            = mustEC(elliptic.P384())
	edPublic, edKey  = mustEd()
)

func mustRSA(bits int) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	must(err)
	return k
}

func mustEC(c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	must(err)
	return k
}

func mustEd() (ed25519.PublicKey, ed25519.PrivateKey) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	return public, private
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// pemOf returns a public key in PEM.
func pemOf(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func newVerifier(t testing.TB, c Config) *Verifier {
	t.Helper()
	v, err := New(c)
	require.NoError(t, err)
	t.Cleanup(v.Close)
	return v
}

// claims returns good ones, with those given put in, and those that are nil left out.
func claims(change jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// sign returns a token; header members given come on top.
func sign(t testing.TB, method jwt.SigningMethod, key any, c jwt.MapClaims, header ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	for i := 0; i < len(header); i += 2 {
		token.Header[header[i]] = header[i+1]
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func hs256(t testing.TB, change jwt.MapClaims) string {
	t.Helper()
	return sign(t, jwt.SigningMethodHS256, secret, claims(change))
}

func TestGoodTokensSayWhatASpokeMayDo(t *testing.T) {
	v := newVerifier(t, Config{Key: append(secret, '\n')})
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	pattern := func(text string) codec.Pattern {
		p, err := codec.ParsePattern(text)
		require.NoError(t, err)
		return p
	}
	for name, test := range map[string]struct {
		change jwt.MapClaims
		want   fanout.Claims
	}{
		"no lists":     {jwt.MapClaims{}, fanout.Claims{Subject: "ada", Topics: []codec.Pattern{codec.Everything}}},
		"null lists":   {jwt.MapClaims{"topics": json.RawMessage("null")}, fanout.Claims{Subject: "ada", Topics: []codec.Pattern{codec.Everything}}},
		"empty lists":  {jwt.MapClaims{"topics": []string{}, "publish": []string{}}, fanout.Claims{Subject: "ada", Topics: []codec.Pattern{}, Publish: []codec.Pattern{}}},
		"both":         {jwt.MapClaims{"topics": []string{"a:", "b:1"}, "publish": []string{"*"}}, fanout.Claims{Subject: "ada", Topics: []codec.Pattern{pattern("a:*"), pattern("b:1")}, Publish: []codec.Pattern{codec.Everything}}},
		"no sub":       {jwt.MapClaims{"sub": nil}, fanout.Claims{Topics: []codec.Pattern{codec.Everything}}},
		"nbf just now": {jwt.MapClaims{"nbf": time.Now().Add(Skew - time.Second).Unix()}, fanout.Claims{Subject: "ada", Topics: []codec.Pattern{codec.Everything}}},
		"others":       {jwt.MapClaims{"iss": "somebody", "aud": []string{"x", "y"}, "email": "a@b"}, fanout.Claims{Subject: "ada", Topics: []codec.Pattern{codec.Everything}}},
	} {
		test.change["exp"] = exp.Unix()
		got, err := v.verify(hs256(t, test.change))
		require.NoError(t, err, name)
		require.True(t, got.Expires.Equal(exp), name)
		got.Expires = time.Time{}
		require.Equal(t, test.want, got, name)
	}
}

func TestBadTokensAreRefused(t *testing.T) {
	v := newVerifier(t, Config{Key: secret, Issuer: "us", Audience: "hub"})
	good := jwt.MapClaims{"iss": "us", "aud": "hub"}
	with := func(name string, value any) string {
		c := jwt.MapClaims{"iss": "us", "aud": "hub"}
		c[name] = value
		return hs256(t, c)
	}
	_, err := v.verify(hs256(t, good))
	require.NoError(t, err)
	parts := strings.Split(hs256(t, good), ".")
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims(good)).SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)
	header := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	for name, test := range map[string]struct{ token, want string }{
		"empty":             {"", "malformed"},
		"garbage":           {"garbage", "malformed"},
		"two parts":         {parts[0] + "." + parts[1], "malformed"},
		"four parts":        {strings.Join(parts, ".") + ".", "malformed"},
		"not base64":        {parts[0] + ".%%%." + parts[2], "malformed"},
		"not JSON":          {parts[0] + "." + header("nonsense") + "." + parts[2], "malformed"},
		"not an object":     {parts[0] + "." + header("[]") + "." + parts[2], "malformed"},
		"oversized":         {strings.Repeat("x", MaxTokenBytes+1), "too long"},
		"many dots":         {strings.Repeat(".", MaxTokenBytes), "malformed"},
		"no signature":      {parts[0] + "." + parts[1] + ".", "not signed"},
		"other signature":   {parts[0] + "." + parts[1] + "." + header("0123456789abcdef0123456789abcdef"), "not signed"},
		"none":              {none, "not signed"},
		"none, capitalised": {header(`{"alg":"None"}`) + "." + parts[1] + ".", "not good"},
		"unknown alg":       {header(`{"alg":"XX256"}`) + "." + parts[1] + "." + parts[2], "not good"},
		"alg is no string":  {header(`{"alg":7}`) + "." + parts[1] + "." + parts[2], "not good"},
		"HS384":             {sign(t, jwt.SigningMethodHS384, secret, claims(good)), "not signed"},
		"RS256":             {sign(t, jwt.SigningMethodRS256, rsaKey, claims(good)), "not signed"},
		"other secret":      {sign(t, jwt.SigningMethodHS256, append(secret, 'x'), claims(good)), "not signed"},
		"kid is no string": {func() string {
			tk := jwt.NewWithClaims(jwt.SigningMethodHS256, claims(good))
			tk.Header["kid"] = 7
			s, _ := tk.SignedString(secret)
			return s
		}(), "kid"},
		"crit":              {sign(t, jwt.SigningMethodHS256, secret, claims(good), "crit", "b64"), "crit"},
		"no exp":            {with("exp", nil), "exp"},
		"expired":           {with("exp", time.Now().Add(-time.Hour).Unix()), "expired"},
		"just expired":      {with("exp", time.Now().Unix()), "expired"},
		"exp is no number":  {with("exp", "tomorrow"), "malformed: the claim exp is not a number"},
		"exp beyond time":   {with("exp", 1e300), "expired"},
		"nbf in the future": {with("nbf", time.Now().Add(Skew+5*time.Second).Unix()), "not good yet"},
		"no issuer":         {with("iss", nil), "lacks"},
		"other issuer":      {with("iss", "them"), "issuer"},
		"no audience":       {with("aud", nil), "lacks"},
		"other audience":    {with("aud", []string{"web", "api"}), "not for this hub"},
		"nbf is no number":  {with("nbf", true), "malformed: the claim nbf is not a number"},
		"iat is no number":  {with("iat", "now"), "malformed: the claim iat is not a number"},
		"sub is no string":  {with("sub", 7), "malformed: the claim sub is not a string"},
		"iss is no string":  {with("iss", []string{"us"}), "malformed: the claim iss is not a string"},
		"jti is no string":  {with("jti", 7), "malformed: the claim jti is not a string"},
		"aud is a number":   {with("aud", 7), "malformed: the claim aud is not a string or a list"},
		"topics no list":    {with("topics", "tick:*"), "malformed: the claim topics is not a list"},
		"topics of numbers": {with("topics", []int{1}), "malformed: the claim topics is not a list"},
		"publish no list":   {with("publish", map[string]any{}), "malformed: the claim publish is not a list"},
		"bad pattern":       {with("topics", []string{"tick"}), `the claim topics: codec: topic "tick" has no ':', it is type:id, type:* or *`},
		"pattern of ours":   {with("publish", []string{"__auth:*"}), `the claim publish: codec: topic "__auth:*" names a type of the hub`},
		"long sub":          {with("sub", strings.Repeat("x", 257)), "257 bytes"},
		"too many patterns": {with("topics", make([]string, maxPatterns+1)), "1025 patterns"},
	} {
		_, err := v.verify(test.token)
		require.ErrorContains(t, err, test.want, name)
		require.NotErrorIs(t, err, fanout.ErrAuthUnavailable, name)
		if test.token != "" {
			require.NotContains(t, err.Error(), test.token, name)
		}
	}
}

func TestEveryKindOfKeyHasItsOwnMethods(t *testing.T) {
	for _, test := range []struct {
		name    string
		public  crypto.PublicKey
		private any
		methods []jwt.SigningMethod
	}{
		{"rsa", &rsaKey.PublicKey, rsaKey, []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512, jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512}},
		{"p-256", &ecKey.PublicKey, ecKey, []jwt.SigningMethod{jwt.SigningMethodES256}},
		{"p-384", &ec384.PublicKey, ec384, []jwt.SigningMethod{jwt.SigningMethodES384}},
		{"ed25519", edPublic, edKey, []jwt.SigningMethod{jwt.SigningMethodEdDSA}},
	} {
		text := pemOf(t, test.public)
		v := newVerifier(t, Config{Key: text})
		for _, m := range test.methods {
			c, err := v.verify(sign(t, m, test.private, claims(nil), "kid", "any"))
			require.NoError(t, err, "%s %s", test.name, m.Alg())
			require.Equal(t, "ada", c.Subject)
		}
		// The classic: what is public, taken for a secret.
		for _, public := range [][]byte{text, []byte(strings.TrimSpace(string(text)))} {
			_, err := v.verify(sign(t, jwt.SigningMethodHS256, public, claims(nil)))
			require.Error(t, err, test.name)
		}
		none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims(nil)).SignedString(jwt.UnsafeAllowNoneSignatureType)
		require.NoError(t, err)
		_, err = v.verify(none)
		require.Error(t, err, test.name)
		_, err = v.verify(sign(t, jwt.SigningMethodRS256, otherRSA, claims(nil)))
		require.Error(t, err, test.name)
	}
}

func TestKeysThatAreNotGoodEnough(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(ecKey)
	require.NoError(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	for want, key := range map[string][]byte{
		"at least 32":             []byte("short"),
		"31 bytes":                append(secret[:31:31], '\r', '\n'),
		"1024 bits":               pemOf(t, &weak.PublicKey),
		"private key":             pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"not valid PEM":           []byte("-----BEGIN PUBLIC KEY-----\nnonsense"),
		"more than one key":       append(pemOf(t, &ecKey.PublicKey), pemOf(t, edPublic)...),
		"elliptic curve":          pemOf(t, &p224.PublicKey),
		`PEM of type "X509 CRL"`:  pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: private}),
		"auth: the key: asn1":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
		"either a key or a key s": nil,
	} {
		_, err := New(Config{Key: key})
		require.ErrorContains(t, err, want)
	}
	_, err = New(Config{Key: secret, JWKS: "set.json"})
	require.ErrorContains(t, err, "either")
}

func TestCertificatesAndPKCS1AreKeys(t *testing.T) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &rsaKey.PublicKey, rsaKey)
	require.NoError(t, err)
	for _, block := range []*pem.Block{
		{Type: "CERTIFICATE", Bytes: der},
		{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)},
	} {
		v := newVerifier(t, Config{Key: pem.EncodeToMemory(block)})
		_, err := v.verify(sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil)))
		require.NoError(t, err, block.Type)
	}
}

func TestATokenIsGoodUntilItsExpAndNotLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, Config{Key: secret})
		token := hs256(t, jwt.MapClaims{"exp": time.Now().Add(time.Minute).Unix(), "nbf": time.Now().Add(10 * time.Second).Unix()})
		_, err := v.Renew(token)
		require.ErrorContains(t, err, "not good yet")
		time.Sleep(10*time.Second - Skew)
		_, err = v.Renew(token)
		require.NoError(t, err)
		time.Sleep(50*time.Second + Skew - time.Nanosecond)
		_, err = v.Renew(token)
		require.NoError(t, err)
		time.Sleep(time.Nanosecond)
		_, err = v.Renew(token)
		require.ErrorContains(t, err, "expired")
	})
}

func TestTokensAreFoundInThreePlaces(t *testing.T) {
	for name, test := range map[string]struct {
		url    string
		header http.Header
		want   string
		err    error
	}{
		"nowhere":          {"/ws?topic=a:1", nil, "", errNoToken},
		"header":           {"/ws", http.Header{"Authorization": {"Bearer a.b.c"}}, "a.b.c", nil},
		"header, any case": {"/ws", http.Header{"Authorization": {"bEARER  a.b.c "}}, "a.b.c", nil},
		"another scheme":   {"/ws", http.Header{"Authorization": {"Basic YTpi"}}, "", errNoToken},
		"empty":            {"/ws?token=", http.Header{"Authorization": {"Bearer "}}, "", errNoToken},
		"query":            {"/ws?x=1&token=a.b.c", nil, "a.b.c", nil},
		"subprotocol":      {"/ws", http.Header{"Sec-Websocket-Protocol": {"hub.v1, bearer.a.b.c"}}, "a.b.c", nil},
		"first":            {"/ws", http.Header{"Sec-Websocket-Protocol": {"bearer.a.b.c", "hub.v1"}}, "a.b.c", nil},
		"in two places":    {"/ws?token=a.b.c", http.Header{"Authorization": {"Bearer a.b.c"}}, "", errManyTokens},
		"two headers":      {"/ws", http.Header{"Authorization": {"Bearer a.b.c", "Bearer d.e.f"}}, "", errManyTokens},
		"two parameters":   {"/ws?token=a&token=b", nil, "", errManyTokens},
		"two subprotocols": {"/ws", http.Header{"Sec-Websocket-Protocol": {"bearer.a,bearer.b"}}, "", errManyTokens},
		"beside another":   {"/ws?token=a.b.c", http.Header{"Authorization": {"Basic YTpi"}}, "a.b.c", nil},
	} {
		r, err := http.NewRequest(http.MethodGet, test.url, nil)
		require.NoError(t, err)
		r.Header = test.header
		got, err := FromRequest(r)
		require.Equal(t, test.err, err, name)
		require.Equal(t, test.want, got, name)
	}
}

func TestMintedTokensAreGood(t *testing.T) {
	v := newVerifier(t, Config{Key: secret, Issuer: "us", Audience: "hub"})
	token, err := Mint(secret, Token{Subject: "ada", Topics: []string{"tick:*"}, Issuer: "us", Audience: "hub", Expires: time.Now().Add(time.Minute)})
	require.NoError(t, err)
	c, err := v.Renew(token)
	require.NoError(t, err)
	require.Equal(t, "ada", c.Subject)
	require.Equal(t, "[tick:*]", fmt.Sprint(c.Topics))
	require.Empty(t, c.Publish)
	_, err = Mint(pemOf(t, &rsaKey.PublicKey), Token{})
	require.ErrorContains(t, err, "signs nothing")
	for _, refused := range []Token{{Topics: []string{"order:1", "tick"}}, {Publish: []string{"order:1", "tick"}}} {
		_, err = Mint(secret, refused)
		require.ErrorContains(t, err, `topic "tick" has no ':', it is type:id, type:* or *`)
	}
	_, err = Mint(secret, Token{Topics: make([]string, maxPatterns+1)})
	require.ErrorContains(t, err, "at most 1024 are possible")
	_, err = Mint(secret, Token{Subject: strings.Repeat("a", codec.MaxIDBytes+1)})
	require.ErrorContains(t, err, "a sub of")
	_, err = Mint([]byte("short"), Token{})
	require.ErrorContains(t, err, "at least 32")
}
