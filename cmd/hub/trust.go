package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// trust is whom a client believes that it is the hub.
type trust struct {
	ca       *x509.CertPool // nil for the system's
	insecure bool
}

// addTrust defines --tls-ca and --insecure.
func addTrust(f *flags, t *trust) {
	add(f, &t.ca, "tls-ca", "file with the certificates, in PEM, of the authorities that may vouch for the hub, instead of the system's", parseAuthorities, func(*x509.CertPool) string { return "" })
	addSwitch(f, &t.insecure, "insecure", "do not check the hub's certificate, for tests: anybody can then be the hub")
}

func parseAuthorities(s string) (*x509.CertPool, error) {
	if s == "" {
		return nil, nil
	}
	b, err := os.ReadFile(s)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", s, errors.Unwrap(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%q: there is no certificate in PEM in it", s)
	}
	return pool, nil
}

// config returns what a connection needs, nil for what is usual.
func (t *trust) config() *tls.Config {
	if t.ca == nil && !t.insecure {
		return nil
	}
	return &tls.Config{RootCAs: t.ca, InsecureSkipVerify: t.insecure}
}

// explainTrust makes the end of a connection to a hub that nobody vouches for one that says what to do.
func explainTrust(err error) error {
	if untrusted := (*tls.CertificateVerificationError)(nil); errors.As(err, &untrusted) {
		return fmt.Errorf("the hub's certificate is not trusted: --tls-ca FILE names who vouches for it, --insecure takes any (%w)", untrusted.Err)
	}
	return err
}
