package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxSetBytes and maxSetKeys bound a JSON Web Key Set.
const (
	maxSetBytes = 1 << 20
	maxSetKeys  = 256
)

// jwk is one key of a set (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2), as far as it is
// public.
type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Alg    string   `json:"alg"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	Crv    string   `json:"crv"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
}

// parseSet reads a JSON Web Key Set. Keys that are not for us, or that cannot be used, are left out (RFC
// 7517 section 5), and returned as problems; a set without any other is an error. Secrets are not for us:
// who may see the set could sign.
func parseSet(b []byte) (set *keySet, problems []error, err error) {
	var body struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &body); err != nil || body.Keys == nil {
		return nil, nil, errors.New(`auth: this is not a JSON Web Key Set, which looks like {"keys":[...]}`)
	}
	if n := len(body.Keys); n > maxSetKeys {
		return nil, nil, fmt.Errorf("auth: a set of %d keys, at most %d are possible", n, maxSetKeys)
	}
	set = &keySet{}
	for i, raw := range body.Keys {
		var j jwk
		err := json.Unmarshal(raw, &j)
		var k *key
		if err == nil {
			k, err = j.key()
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("key %d (kid %.100q): %w", i, j.Kid, err))
			continue
		}
		set.keys = append(set.keys, k)
	}
	if len(set.keys) == 0 {
		return nil, problems, errors.Join(append([]error{errors.New("auth: no key of the set can be used")}, problems...)...)
	}
	return set, problems, nil
}

// key returns the key that j describes.
func (j *jwk) key() (*key, error) {
	if j.Use != "" && j.Use != "sig" || len(j.KeyOps) > 0 && !slices.Contains(j.KeyOps, "verify") {
		return nil, errors.New("it is not for signatures")
	}
	public, err := j.public()
	if err != nil {
		return nil, err
	}
	k, err := newKey(j.Kid, public)
	if err != nil {
		return nil, err
	}
	if j.Alg != "" {
		if !slices.Contains(k.methods, j.Alg) {
			return nil, fmt.Errorf("alg %.20q is not one for its kind", j.Alg)
		}
		k.methods = []string{j.Alg}
	}
	return k, nil
}

func (j *jwk) public() (any, error) {
	switch j.Kty {
	case "RSA":
		n, errN := decode(j.N, 0)
		e, errE := decode(j.E, 0)
		if err := errors.Join(errN, errE); err != nil {
			return nil, err
		}
		exponent := new(big.Int).SetBytes(e)
		if !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > 1<<31-1 || exponent.Bit(0) == 0 {
			return nil, errors.New("an RSA exponent that is even, too small or too large")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case "EC":
		curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		if !ok {
			return nil, fmt.Errorf("curve %.20q", j.Crv)
		}
		size := (curve.Params().BitSize + 7) / 8
		x, errX := decode(j.X, size)
		y, errY := decode(j.Y, size)
		if err := errors.Join(errX, errY); err != nil {
			return nil, err
		}
		return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y)) // on the curve, or an error
	case "OKP":
		if j.Crv != "Ed25519" {
			return nil, fmt.Errorf("curve %.20q", j.Crv)
		}
		x, err := decode(j.X, ed25519.PublicKeySize)
		return ed25519.PublicKey(x), err
	}
	return nil, fmt.Errorf("kty %.20q", j.Kty)
}

// decode reads base64url of so many bytes, of any number but none if size is 0.
func decode(s string, size int) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	switch {
	case err != nil:
		return nil, err
	case len(b) == 0 || size > 0 && len(b) != size:
		return nil, fmt.Errorf("a number of %d bytes", len(b))
	}
	return b, nil
}
