package main

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// natsServer runs a NATS server and returns its address.
func natsServer(t *testing.T, o server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&o)
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(20*time.Second))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.Addr().String()
}

// file returns the name of a new file.
func file(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(name, content, 0o600))
	return name
}

// newNKey returns an nkey of a user, or of others.
func newNKey(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public string, seed []byte) {
	t.Helper()
	pair, err := create()
	require.NoError(t, err)
	public, err = pair.PublicKey()
	require.NoError(t, err)
	seed, err = pair.Seed()
	require.NoError(t, err)
	return pair, public, seed
}

// credentials returns a server's options that trust an operator, and the file's content for a user of theirs.
func credentials(t *testing.T) (o server.Options, creds []byte, seed string) {
	t.Helper()
	operator, operatorID, _ := newNKey(t, nkeys.CreateOperator)
	account, accountID, _ := newNKey(t, nkeys.CreateAccount)
	_, userID, userSeed := newNKey(t, nkeys.CreateUser)
	accountJWT, err := jwt.NewAccountClaims(accountID).Encode(operator)
	require.NoError(t, err)
	userJWT, err := jwt.NewUserClaims(userID).Encode(account)
	require.NoError(t, err)
	creds, err = jwt.FormatUserConfig(userJWT, userSeed)
	require.NoError(t, err)
	resolver := &server.MemAccResolver{}
	require.NoError(t, resolver.Store(accountID, accountJWT))
	return server.Options{TrustedKeys: []string{operatorID}, AccountResolver: resolver}, creds, string(userSeed)
}

// TestCredentialsForTheEngine: with those that it asks for the hub has its engine, with others it says in its log
// that it is refused; and whatever it says, and shows, there is no secret in it.
func TestCredentialsForTheEngine(t *testing.T) {
	_, userID, seed := newNKey(t, nkeys.CreateUser)
	_, _, otherSeed := newNKey(t, nkeys.CreateUser)
	operated, creds, credsSeed := credentials(t)
	_, otherCreds, otherCredsSeed := credentials(t)
	ca, certFile, keyFile := newCertificate(t, t.TempDir(), "engine")
	_, otherCertFile, otherKeyFile := newCertificate(t, t.TempDir(), "other")
	overTLS := server.Options{TLSVerify: true, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{ca.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}}
	password := server.Options{Username: "joe", Password: "s3cret"}
	token := server.Options{Authorization: "s3cret"}
	for name, tt := range map[string]struct {
		options     server.Options
		right       []string // flags, behind --engine with what the address begins with
		wrong       []string
		refusal     string // in the log
		moreSecrets []string
	}{
		"password":             {options: password, right: []string{"nats://joe:s3cret@"}, wrong: []string{"nats://joe:wr0ng@"}, refusal: "Authorization"},
		"token in the address": {options: token, right: []string{"nats://s3cret@"}, wrong: []string{"nats://wr0ng@"}, refusal: "Authorization"},
		"token":                {options: token, right: []string{"nats://", "--engine-token=s3cret"}, wrong: []string{"nats://", "--engine-token=wr0ng"}, refusal: "Authorization"},
		"nkey": {
			options: server.Options{Nkeys: []*server.NkeyUser{{Nkey: userID}}},
			right:   []string{"nats://", "--engine-nkey=" + file(t, seed)}, wrong: []string{"nats://", "--engine-nkey=" + file(t, otherSeed)},
			refusal: "Authorization", moreSecrets: []string{string(seed), string(otherSeed)},
		},
		"credentials": {
			options: operated,
			right:   []string{"nats://", "--engine-creds=" + file(t, creds)}, wrong: []string{"nats://", "--engine-creds=" + file(t, otherCreds)},
			refusal: "Authorization", moreSecrets: []string{credsSeed, otherCredsSeed},
		},
		"TLS": {
			options: overTLS,
			right:   []string{"tls://", "--engine-ca=" + certFile, "--engine-cert=" + certFile, "--engine-key=" + keyFile},
			wrong:   []string{"tls://", "--engine-ca=" + otherCertFile, "--engine-cert=" + certFile, "--engine-key=" + keyFile}, refusal: "x509",
		},
		"a certificate for TLS": {
			options: overTLS,
			right:   []string{"nats://", "--engine-ca=" + certFile, "--engine-cert=" + certFile, "--engine-key=" + keyFile}, // the server asks for it
			wrong:   []string{"tls://", "--engine-ca=" + certFile, "--engine-cert=" + otherCertFile, "--engine-key=" + otherKeyFile}, refusal: "tls",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := natsServer(t, tt.options)
			secrets := append([]string{"s3cret", "wr0ng"}, tt.moreSecrets...)
			for i, flags := range [][]string{tt.right, tt.wrong} {
				flags = append([]string{"--engine=" + flags[0] + address}, flags[1:]...)
				log := newLines()
				_, admin, stop := startHubLogging(t, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), flags...)
				shown := getText(t, admin+"/v1/cluster") + getText(t, admin+"/metrics")
				var info fanout.ClusterInfo
				getJSON(t, admin+"/v1/cluster", &info)
				if i == 0 {
					require.Equal(t, "up", info.Engine.State, log.String())
					require.Contains(t, info.Engine.Server, address)
				} else {
					require.Equal(t, "away", info.Engine.State)
					require.Eventually(t, func() bool {
						return strings.Contains(log.String(), tt.refusal)
					}, 20*time.Second, 10*time.Millisecond, "the log says why: %s", log)
				}
				require.NoError(t, stop())
				config := newLines()
				require.NoError(t, runShowConfig(flags, config, config))
				shown += config.String() + log.String()
				for _, secret := range secrets {
					require.NotContains(t, shown, secret)
				}
			}
		})
	}
}

func getText(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

// TestHubsThatShowEachOtherCredentials: with --engine embedded those with the same find each other, and nobody else
// takes part.
func TestHubsThatShowEachOtherCredentials(t *testing.T) {
	_, cert, key := newCertificate(t, t.TempDir(), "hubs")
	_, otherCert, otherKey := newCertificate(t, t.TempDir(), "other")
	mutual := func(cert, key, ca string) []string {
		return []string{"--cluster-cert=" + cert, "--cluster-key=" + key, "--cluster-ca=" + ca}
	}
	for name, tt := range map[string]struct {
		ours, theirs []string
		together     bool
	}{
		"the same password":             {[]string{"--cluster-auth=hub:s3cret"}, []string{"--cluster-auth=hub:s3cret"}, true},
		"another password":              {[]string{"--cluster-auth=hub:s3cret"}, []string{"--cluster-auth=hub:wr0ng"}, false},
		"no password":                   {[]string{"--cluster-auth=hub:s3cret"}, nil, false},
		"the same authority":            {mutual(cert, key, cert), mutual(cert, key, cert), true},
		"the same, and a password":      {append(mutual(cert, key, cert), "--cluster-auth=hub:s3cret"), append(mutual(cert, key, cert), "--cluster-auth=hub:s3cret"), true},
		"a certificate of another":      {mutual(cert, key, cert), mutual(otherCert, otherKey, cert), false},
		"no certificate":                {mutual(cert, key, cert), nil, false},
		"an authority that is not ours": {mutual(cert, key, cert), mutual(cert, key, otherCert), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLines()
			logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			common := []string{"--engine=embedded", "--engine-beat=100ms", "--cluster-listen=127.0.0.1:0"}
			_, admin, _ := startHubLogging(t, logger, slices.Concat(common, tt.ours)...)
			var info fanout.ClusterInfo
			getJSON(t, admin+"/v1/cluster", &info)
			_, theirs, _ := startHubLogging(t, logger, slices.Concat(common, tt.theirs, []string{"--cluster-peers=" + info.Engine.Server})...)
			met := func() bool {
				var ours, others fanout.ClusterInfo
				getJSON(t, admin+"/v1/cluster", &ours)
				getJSON(t, theirs+"/v1/cluster", &others)
				return len(ours.Hubs)+len(others.Hubs) > 2
			}
			if tt.together {
				require.Eventually(t, met, 20*time.Second, 10*time.Millisecond, "%s", log)
			} else {
				require.Never(t, met, time.Second, 50*time.Millisecond)
			}
			for _, secret := range []string{"s3cret", "wr0ng"} {
				require.NotContains(t, log.String(), secret)
			}
		})
	}
}
