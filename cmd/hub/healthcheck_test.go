package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthcheckAsksTheHubThatTheEnvironmentNames(t *testing.T) {
	spokes, admin, stop := startHub(t, "--admin-token=secret")
	t.Setenv("HUB_ADMIN", strings.TrimPrefix(admin, "http://"))
	t.Setenv("HUB_LISTEN", strings.TrimSuffix(strings.TrimPrefix(spokes, "ws://"), "/ws"))
	for _, args := range [][]string{{}, {"--live"}, {"--admin=off"}, {"--admin-token=secret"}, {"--admin-token=wrong"}} {
		require.NoError(t, healthcheck(t.Context(), args), "%q: health needs no token", args)
	}
	require.NoError(t, stop())
	for _, args := range [][]string{{}, {"--live"}, {"--admin=off"}} {
		require.ErrorContains(t, healthcheck(t.Context(), args), "nothing listens at http://127.0.0.1:", "%q", args)
	}
	var mistake *usageError
	require.ErrorAs(t, healthcheck(t.Context(), []string{"--admin=off", "--live"}), &mistake)
}

func TestHealthcheckAsksAPortWithTLS(t *testing.T) {
	_, certFile, keyFile := newCertificate(t, t.TempDir(), "hub")
	spokes, _, _ := startHub(t, "--tls-cert", certFile, "--tls-key", keyFile)
	t.Setenv("HUB_LISTEN", strings.TrimSuffix(strings.TrimPrefix(spokes, "wss://"), "/ws"))
	t.Setenv("HUB_ADMIN", "off")
	require.Error(t, healthcheck(t.Context(), nil))
	t.Setenv("HUB_TLS_CERT", certFile)
	require.NoError(t, healthcheck(t.Context(), nil))
}

func TestHealthcheckSaysWhatTheHubSays(t *testing.T) {
	asked := make(chan string, 1)
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " " + r.Header.Get("Authorization")
		http.Error(w, "new connections are not welcome", http.StatusServiceUnavailable)
	}))
	defer hub.Close()
	err := healthcheck(t.Context(), []string{"--admin", hub.Listener.Addr().String(), "--admin-token", "secret"})
	require.ErrorContains(t, err, "503 Service Unavailable: new connections are not welcome")
	require.Equal(t, "/readyz Bearer secret", <-asked)
}

func TestHealthcheckDoesNotWaitForAHubThatIsStuck(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer ln.Close()
	err = healthcheck(t.Context(), []string{"--admin", ln.Addr().String(), "--timeout=20ms"})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// One spelling of the address, in each command, from its flag or from the environment that hub serve reads.
func TestEveryCommandTakesTheAdminAddressAlike(t *testing.T) {
	_, admin, _ := startHub(t, "--admin-token=secret")
	t.Setenv("HUB_ADMIN_TOKEN", "secret")
	t.Setenv("HUB_URL", "ws://127.0.0.1:1/ws") // of spokes: no concern of those who ask the admin side
	t.Setenv("HUB_TOKEN", "of-a-spoke")
	for _, address := range []string{admin, admin + "/", strings.TrimPrefix(admin, "http://")} {
		require.NoError(t, healthcheck(t.Context(), []string{"--admin", address}), address)
		require.NoError(t, publish(t.Context(), []string{"--admin", address, "--quiet", "tick:1"}), address)
		c, _, err := benchConfig(t, "--admin", address)
		require.NoError(t, err)
		require.Equal(t, admin, c.Admin)
		t.Setenv("HUB_ADMIN", address)
		require.NoError(t, healthcheck(t.Context(), nil), address)
		require.NoError(t, publish(t.Context(), []string{"--quiet", "tick:1"}), address)
	}
	for _, address := range []string{"", "localhost", "ws://127.0.0.1:8081", "http://", "http://user@host", "http://host/?a=b", "127.0.0.1:none"} {
		_, err := parseOperator(address)
		require.ErrorContains(t, err, "is not the address of a hub's admin side", address)
	}
}

func TestAListenerForAllAddressesIsAskedAtLoopback(t *testing.T) {
	for address, want := range map[string]string{
		":8081": "127.0.0.1:8081", "0.0.0.0:8081": "127.0.0.1:8081", "[::]:8081": "[::1]:8081",
		"192.0.2.1:8081": "192.0.2.1:8081", "hub.example:80": "hub.example:80",
	} {
		require.Equal(t, want, nearby(address), address)
	}
}
