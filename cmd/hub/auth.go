package main

import (
	"fmt"
	"log/slog"

	"github.com/alkdev/hub/admin"
	"github.com/alkdev/hub/auth"
)

// addAuthKey defines --auth-jwt-key. Its value is never shown: it may be a secret.
func addAuthKey(f *flags, p *[]byte, what string) {
	addSecret(f, p, "auth-jwt-key", what+": a public key in PEM or a secret for HS256", parseAuthKey)
}

// parseAuthKey looks at a key. No error repeats it.
func parseAuthKey(s string) ([]byte, error) {
	return []byte(s), auth.CheckKey([]byte(s))
}

// keyStats returns what asks for the key set of v, nil if there is none.
func keyStats(v *auth.Verifier) func() admin.KeyStats {
	if v == nil {
		return nil
	}
	if _, ok := v.KeyStats(); !ok {
		return nil
	}
	return func() admin.KeyStats {
		k, _ := v.KeyStats()
		return admin.KeyStats{Age: k.Age, Failures: k.Failures}
	}
}

// verifier returns who looks at the tokens of spokes, nil if they need none.
func (c *config) verifier(logger *slog.Logger) (*auth.Verifier, error) {
	if len(c.authKey) == 0 && c.authJWKS == "" {
		return nil, nil
	}
	v, err := auth.New(auth.Config{
		Key: c.authKey, JWKS: c.authJWKS, Refresh: c.authJWKSRefresh,
		Issuer: c.authIssuer, Audience: c.authAudience, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("--auth-jwks: %w", err)
	}
	return v, nil
}
