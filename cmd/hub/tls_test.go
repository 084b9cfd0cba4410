package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/certs"
)

func newCertificate(t *testing.T, dir, subject string) (c *certs.Certificate, certFile, keyFile string) {
	t.Helper()
	c, err := certs.New(subject)
	require.NoError(t, err)
	certFile, keyFile, err = c.Write(dir)
	require.NoError(t, err)
	return c, certFile, keyFile
}

// subject returns the name in the certificate that a hub shows to who asks for at most a version of TLS.
func subject(t *testing.T, spokes string, c *certs.Certificate, version uint16) (string, error) {
	t.Helper()
	address := strings.TrimSuffix(strings.TrimPrefix(spokes, "wss://"), "/ws")
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: c.Pool, MinVersion: tls.VersionTLS10, MaxVersion: version})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestTLSOldVersionsAreRefused(t *testing.T) {
	c, certFile, keyFile := newCertificate(t, t.TempDir(), "first")
	spokes, _, _ := startHub(t, "--tls-cert", certFile, "--tls-key", keyFile)
	require.True(t, strings.HasPrefix(spokes, "wss://"))
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		name, err := subject(t, spokes, c, version)
		if good {
			require.NoError(t, err, tls.VersionName(version))
			require.Equal(t, "first", name)
		} else {
			require.ErrorContains(t, err, "protocol version", tls.VersionName(version))
		}
	}
}

// A certificate that has changed is used for those who come then. One that cannot be used leaves the one
// before in force, and that is said.
func TestTLSCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	first, certFile, keyFile := newCertificate(t, dir, "first")
	log := newLines()
	spokes, admin, _ := startHubLogging(t, slog.New(slog.NewTextHandler(log, nil)), "--tls-cert", certFile, "--tls-key", keyFile)
	shows := func(want *certs.Certificate) func() bool {
		return func() bool {
			name, err := subject(t, spokes, want, tls.VersionTLS13)
			return err == nil && name == want.Subject
		}
	}
	require.True(t, shows(first)())

	require.NoError(t, os.WriteFile(certFile, []byte("no certificate"), 0o600))
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "cannot be used") }, 20*time.Second, 20*time.Millisecond)
	require.True(t, shows(first)(), "the one before stays in force")
	require.Contains(t, metrics(t, admin), "hub_tls_certificate_loads_total{result=\"failed\"} 1")

	second, _, _ := newCertificate(t, dir, "the second")
	require.Eventually(t, shows(second), 20*time.Second, 100*time.Millisecond)
	page := metrics(t, admin)
	require.Contains(t, page, "hub_tls_certificate_loads_total{result=\"done\"} 2")
	require.Contains(t, page, "hub_tls_certificate_expiry_timestamp_seconds")
	require.Contains(t, page, "hub_tls_handshakes_running")
}

func TestTLSFlagsBelongTogether(t *testing.T) {
	_, err := parseServe(t, "--tls-cert=cert.pem")
	require.ErrorContains(t, err, "no effect without --tls-")
	c, err := parseServe(t, "--tls-cert=no.pem", "--tls-key=no.key")
	require.NoError(t, err)
	require.ErrorContains(t, runHub(t.Context(), &c, slog.New(slog.DiscardHandler), nil), "--tls-cert no.pem, --tls-key no.key: open no.pem")
}

func metrics(t *testing.T, admin string) string {
	t.Helper()
	resp, err := http.Get(admin + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

// The clients of this program connect over TLS to a hub that somebody vouches for, and to no other.
func TestTLSClientsWantToKnowTheHub(t *testing.T) {
	_, certFile, keyFile := newCertificate(t, t.TempDir(), "the hub")
	spokes, admin, _ := startHub(t, "--tls-cert", certFile, "--tls-key", keyFile)
	require.ErrorContains(t, tail(t.Context(), []string{"--url", spokes, "--once", "--insecure=false", "--tls-ca=" + keyFile}), "no certificate in PEM")

	for _, trusting := range []string{"--tls-ca=" + certFile, "--insecure"} {
		var got bytes.Buffer
		var whom trust
		f := newFlags("tail", "")
		addTrust(f, &whom)
		_, err := f.parse([]string{trusting})
		require.NoError(t, err)
		tailed := make(chan error, 1)
		go func() { tailed <- runTail(t.Context(), spokes, "", whom.config(), 1, false, &got) }()
		require.Eventually(t, func() bool { return strings.Contains(metrics(t, admin), "hub_spokes 1") }, 20*time.Second, 20*time.Millisecond)
		require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "tick:42", "7"}))
		require.NoError(t, <-tailed)
		require.Contains(t, got.String(), `"id":"42"`)
		require.NoError(t, bench(t.Context(), []string{"--url", spokes, "--admin", admin, trusting, "--spokes=20", "--rate=100", "--duration=200ms", "--json"}))
	}
	require.NoError(t, healthcheck(t.Context(), []string{"--admin=off", "--listen", strings.TrimSuffix(strings.TrimPrefix(spokes, "wss://"), "/ws"), "--tls-cert", certFile}))
	err := bench(t.Context(), []string{"--url", spokes, "--admin", admin, "--spokes=1", "--duration=100ms"})
	require.ErrorContains(t, err, "certificate")
	// tail would try again and again; whoever is not trusted is so for good.
	require.ErrorContains(t, tail(t.Context(), []string{"--url", spokes}), "--tls-ca FILE names who vouches for it")
	https := "https://" + strings.TrimSuffix(strings.TrimPrefix(spokes, "wss://"), "/ws")
	require.ErrorContains(t, publish(t.Context(), []string{"--admin", https, "tick:1"}), "--tls-ca FILE names who vouches for it")
	require.Zero(t, strings.Count(metrics(t, admin), "hub_spokes 1\n"))
}

// The admin side of a hub behind a proxy that speaks TLS is trusted by the same flags as the spokes' side.
func TestTLSOfTheAdminSideIsCheckedByTheSameFlags(t *testing.T) {
	c, certFile, _ := newCertificate(t, t.TempDir(), "the proxy")
	spokes, admin, _ := startHub(t)
	target, err := url.Parse(admin)
	require.NoError(t, err)
	proxy := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(target))
	proxy.TLS = &tls.Config{Certificates: []tls.Certificate{c.TLS}}
	proxy.Config.ErrorLog = log.New(io.Discard, "", 0) // of those that do not trust it
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	run := func(flags ...string) error {
		if err := publish(t.Context(), append([]string{"--admin", proxy.URL, "--quiet", "tick:1"}, flags...)); err != nil {
			return err
		}
		return bench(t.Context(), append([]string{"--url", spokes, "--admin", proxy.URL, "--spokes=5", "--window=2", "--duration=50ms", "--json"}, flags...))
	}
	require.NoError(t, run("--tls-ca="+certFile))
	require.NoError(t, run("--insecure"))
	err = bench(t.Context(), []string{"--url", spokes, "--admin", proxy.URL, "--spokes=5", "--duration=50ms"})
	require.ErrorContains(t, err, "--tls-ca FILE names who vouches for it")
}
