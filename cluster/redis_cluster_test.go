package cluster_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
)

// freePort returns a port of the loopback interface that is free for the moment.
func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// startRedisCluster returns two nodes of one Redis Cluster, which start made with the arguments that it is given.
func startRedisCluster(t *testing.T, start func(args ...string) *redisServer) (nodes [2]*redisServer) {
	t.Helper()
	var buses [2]string // beside the servers' own ports they may be too large, and taken
	for i := range nodes {
		buses[i] = freePort(t)
		nodes[i] = start("--cluster-enabled", "yes", "--cluster-port", buses[i])
	}
	require.Equal(t, "+OK", nodes[0].do("CLUSTER ADDSLOTSRANGE 0 8191"))
	require.Equal(t, "+OK", nodes[1].do("CLUSTER ADDSLOTSRANGE 8192 16383"))
	address := nodes[1].address
	if nodes[1].secure != "" {
		address = nodes[1].secure // nodes know each other by these ports
	}
	host, port, _ := net.SplitHostPort(address)
	require.Equal(t, "+OK", nodes[0].do("CLUSTER MEET "+host+" "+port+" "+buses[1]))
	return nodes
}

// TestAnyNodeOfARedisClusterWillDo: hubs at different nodes of one hear each other, and when the one of a hub is gone it goes
// to another; over TLS as well, by which nodes then speak to each other too.
func TestAnyNodeOfARedisClusterWillDo(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		anyNodeWillDo(t, startRedisCluster(t, func(args ...string) *redisServer { return startRedis(t, args...) }))
	})
	t.Run("TLS", func(t *testing.T) {
		c := newCertificate(t)
		nodes := startRedisCluster(t, func(args ...string) *redisServer {
			address, secure := secureArgs(t, c, "yes")
			s := startRedis(t, append(append(secure, "--tls-cluster", "yes", "--tls-replication", "yes"), args...)...)
			s.secure, s.tls = address, &tls.Config{RootCAs: c.Pool, Certificates: []tls.Certificate{c.TLS}}
			return s
		})
		anyNodeWillDo(t, nodes)
	})
}

func anyNodeWillDo(t *testing.T, nodes [2]*redisServer) {
	addresses := func(list ...*redisServer) func(*cluster.RedisConfig) {
		return func(c *cluster.RedisConfig) {
			c.Servers = nil
			for _, s := range list {
				if s.secure != "" {
					c.Servers = append(c.Servers, "rediss://"+s.secure)
				} else {
					c.Servers = append(c.Servers, "redis://"+s.address)
				}
			}
		}
	}
	a, b := nodes[0].engine(t, addresses(nodes[0])), nodes[1].engine(t, addresses(nodes[1], nodes[1]))
	either := nodes[0].engine(t, addresses(nodes[0], nodes[1]))
	ofA, ofB, ofEither := startStates(t, a), startStates(t, b), startStates(t, either)
	subjects := []cluster.Subject{{Name: "c*", Glob: true}, {Name: "c1"}}
	b.Subscribe(subjects...)
	either.Subscribe(subjects...)
	eventually(t, "all are there", func() bool { return ofA.isUp() && ofB.isUp() && ofEither.isUp() })
	n := 0
	arrives := func(publisher cluster.Engine, at *states) {
		eventually(t, "it arrives", func() bool {
			n++
			require.NoError(t, publisher.Publish("c1", fmt.Append(nil, "message ", n)))
			publisher.Flush()
			return at.has("c1 message ")
		})
	}
	arrives(a, ofB)
	arrives(a, ofEither)
	require.NoError(t, a.Publish("c1", []byte("end")))
	a.Flush()
	for _, s := range []*states{ofB, ofEither} {
		eventually(t, "the end arrives", func() bool { return s.has("c1 end") })
		s.mu.Lock()
		require.Equal(t, slices.Compact(slices.Clone(s.got)), s.got, "each once")
		s.mu.Unlock()
	}

	// The one that a is not at goes, and with it whoever has no other.
	nodes[1].stop()
	eventually(t, "it has gone to the other", func() bool { return ofEither.isUp() && either.Server() == a.Server() })
	eventually(t, "the one that has no other is away", func() bool { return !ofB.isUp() })
	ofEither.mu.Lock()
	ofEither.got = nil
	ofEither.mu.Unlock()
	arrives(a, ofEither)
}

// has reports whether something that begins so has come.
func (s *states) has(start string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.got, func(got string) bool { return strings.HasPrefix(got, start) })
}
