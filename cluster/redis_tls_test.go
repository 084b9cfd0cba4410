package cluster_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/cluster/enginetest"
	"github.com/alkdev/hub/internal/certs"
	"github.com/alkdev/hub/internal/faulty"
)

// startSecureRedis returns a redis-server that engines reach over TLS, with the certificate c. Who comes without one
// is let in if clients is "no", and not if it is "yes".
func startSecureRedis(t testing.TB, c *certs.Certificate, clients string) *redisServer {
	t.Helper()
	address, args := secureArgs(t, c, clients)
	s := startRedis(t, args...)
	s.secure, s.tls = address, &tls.Config{RootCAs: c.Pool}
	return s
}

// secureArgs has a redis-server speak TLS at an address beside that of its own.
func secureArgs(t testing.TB, c *certs.Certificate, clients string) (address string, args []string) {
	t.Helper()
	cert, key, err := c.Write(t.TempDir())
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address = ln.Addr().String()
	require.NoError(t, ln.Close())
	_, port, _ := net.SplitHostPort(address)
	return address, []string{"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", clients}
}

func newCertificate(t testing.TB) *certs.Certificate {
	t.Helper()
	c, err := certs.New("redis.example")
	require.NoError(t, err)
	return c
}

// Over TLS the engine is what it is without, also when connections end within a record, or when nothing comes in or goes
// out any more.
func TestRedisIsAnEngineOverTLS(t *testing.T) {
	hub, err := cluster.RedisHub("hub")
	require.NoError(t, err)
	c := newCertificate(t)
	enginetest.Run(t, func(t *testing.T) enginetest.Bed {
		s := startSecureRedis(t, c, "no")
		return enginetest.Bed{
			Engine: func(t *testing.T) cluster.Engine { return s.engine(t) },
			Hub:    hub, Exact: true, Stop: s.stop, Start: s.start,
			Faults: map[string]enginetest.Fault{
				"the connections are killed": {Do: func(t *testing.T) {
					require.NotEqual(t, ":0", s.do("CLIENT KILL TYPE pubsub"))
				}},
				"nothing comes any more":            {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.Pause, Pause: time.Hour}}})},
				"nothing goes out any more":         {Engine: throughFaults(s, faulty.Script{Up: []faulty.Step{{After: faultAfter, Fault: faulty.Pause, Pause: time.Hour}}})},
				"a connection ends within a record": {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.Cut}}})},
				"a connection is half closed":       {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.HalfClose}}})},
			},
		}
	})
}

// A server has to prove that it is the one that is meant, and may ask the same of the hub. Who is not let in is told why.
func TestRedisOverTLSIsTheOneThatIsMeant(t *testing.T) {
	c, stranger := newCertificate(t), newCertificate(t)
	open, closed := startSecureRedis(t, c, "no"), startSecureRedis(t, c, "yes")
	for _, test := range []struct {
		name   string
		server *redisServer
		scheme string
		config *tls.Config
		why    string // "" for let in
	}{
		{"the server is trusted", open, "rediss", &tls.Config{RootCAs: c.Pool}, ""},
		{"under another name as well", open, "rediss", &tls.Config{RootCAs: c.Pool, ServerName: "hub.example"}, ""},
		{"not under any name", open, "rediss", &tls.Config{RootCAs: c.Pool, ServerName: "other.example"}, "other.example"},
		{"a stranger vouches for it", open, "rediss", &tls.Config{RootCAs: stranger.Pool}, "unknown authority"},
		{"nobody vouches for it", open, "rediss", nil, "unknown authority"},
		{"the hub shows its certificate", closed, "rediss", &tls.Config{RootCAs: c.Pool, Certificates: []tls.Certificate{c.TLS}}, ""},
		{"it has none", closed, "rediss", &tls.Config{RootCAs: c.Pool}, "redis: "}, // an alert, or the reset behind it
		{"it shows that of a stranger", closed, "rediss", &tls.Config{RootCAs: c.Pool, Certificates: []tls.Certificate{stranger.TLS}}, "redis: "},
		{"the hub speaks no TLS", open, "redis", nil, "redis: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := test.server.engine(t, func(rc *cluster.RedisConfig) {
				rc.Servers, rc.TLS = []string{test.scheme + "://" + test.server.secure}, test.config
			})
			h := startStates(t, e)
			if test.why == "" {
				eventually(t, "it is let in", h.isUp)
				require.Equal(t, test.server.secure, e.Server())
				return
			}
			eventually(t, "it is told why", func() bool { return h.why() != "" })
			require.False(t, h.isUp())
			require.Contains(t, h.why(), test.why)
			require.Error(t, e.Publish("hub:e:tick:1", nil))
		})
	}
}

// Sentinels are asked over TLS as well.
func TestASentinelIsAskedOverTLS(t *testing.T) {
	c := newCertificate(t)
	s := startSecureRedis(t, c, "no")
	address, args := secureArgs(t, c, "no")
	startSentinel(t, s.secure, append(args, "--tls-replication", "yes")...)
	e := s.engine(t, func(rc *cluster.RedisConfig) { rc.Servers = []string{"rediss+sentinel://" + address + "/main"} })
	h := startStates(t, e)
	eventually(t, "the primary is there", h.isUp)
	require.Equal(t, s.secure, e.Server())
}
