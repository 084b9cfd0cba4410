package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// key is one key that tokens may be signed with. It is immutable.
type key struct {
	id     string
	public any // what its methods verify with
	// methods are those for which it may be used: by a key's own kind, never by what a token says. A
	// public key is no secret for HS256, and nothing is good for "none".
	methods []string
}

// minSecretBytes is what RFC 7518 section 3.2 asks for with HS256. A shorter secret can be found by
// trying, by anybody who has a token.
const minSecretBytes = 32

// The bounds on an RSA modulus: RFC 7518 section 3.3, and what a signature may cost us.
const minRSABits, maxRSABits = 2048, 8192

// parseKey reads a key in PEM (a public key or a certificate), or else takes b as a secret for HS256,
// without the line ending behind it.
func parseKey(b []byte) (*key, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		secret := bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
		if len(secret) < minSecretBytes {
			return nil, fmt.Errorf("auth: a secret of %d bytes, HS256 needs at least %d (RFC 7518 section 3.2)", len(secret), minSecretBytes)
		}
		return &key{public: bytes.Clone(secret), methods: []string{"HS256"}}, nil
	}
	block, rest := pem.Decode(b)
	if block == nil {
		return nil, errors.New("auth: the key is not valid PEM")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("auth: there is more than one key, which a JSON Web Key Set is for")
	}
	var public any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = c.PublicKey
		}
	default:
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, errors.New("auth: this is a private key; the hub needs the public one only, as from openssl pkey -pubout")
		}
		return nil, fmt.Errorf("auth: PEM of type %q is not a public key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("auth: the key: %w", err)
	}
	return newKey("", public)
}

// CheckKey returns what is wrong with a key for Config.Key.
func CheckKey(b []byte) error {
	_, err := parseKey(b)
	return err
}

// newKey returns a key for the methods of its kind.
func newKey(id string, public any) (*key, error) {
	k := &key{id: id, public: public}
	switch p := public.(type) {
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < minRSABits || n > maxRSABits {
			return nil, fmt.Errorf("auth: an RSA key of %d bits, %d to %d are possible", n, minRSABits, maxRSABits)
		}
		k.methods = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		method, ok := map[elliptic.Curve]string{elliptic.P256(): "ES256", elliptic.P384(): "ES384", elliptic.P521(): "ES512"}[p.Curve]
		if !ok {
			return nil, errors.New("auth: an elliptic curve that no method is for")
		}
		k.methods = []string{method}
	case ed25519.PublicKey:
		k.methods = []string{"EdDSA"}
	default:
		return nil, fmt.Errorf("auth: a key of type %T, which no method is for", public)
	}
	return k, nil
}

// asymmetric are the methods of all public keys.
var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// keySet is the keys of one moment. It is immutable.
type keySet struct {
	keys []*key
	// single: there is one key, whatever id a token gives it.
	single bool
}

var (
	errUnknownKey = errors.New("auth: the token is signed with a key that is not known here")
	errWhichKey   = errors.New("auth: the token does not say which key it is signed with (kid)")
	errMethod     = errors.New("auth: the token is signed by a method that its key is not for")
)

// find returns the key for a token with the id and the method in its header.
func (set *keySet) find(id, method string) (*key, error) {
	var found *key
	known := false
	for _, k := range set.keys {
		if !set.single && id != "" && k.id != id {
			continue
		}
		known = true
		switch {
		case !slices.Contains(k.methods, method):
		case found != nil:
			return nil, errWhichKey
		default:
			found = k
		}
	}
	switch {
	case !known:
		return nil, errUnknownKey
	case found == nil:
		return nil, errMethod
	}
	return found, nil
}
