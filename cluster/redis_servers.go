package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// redisServers are the addresses of a RedisConfig, and which of them is tried next.
type redisServers struct {
	// Set by parseRedisServers, read-only afterwards.
	addresses      []string
	secure         bool
	primary        string // the name that sentinels know it by; "" if the addresses are those of servers
	user, password string
	// For sentinels that want to know who asks.
	sentinelUser, sentinelPassword string

	// The goroutine of run only.
	next    int
	dialled net.Conn // by the last attempt
	last    string   // its address
}

var errRedisAddress = errors.New("cluster: a Redis address is not like redis://host:6379, rediss://host:6379 or redis+sentinel://host:26379/name")

// parseRedisServers reads addresses. No error repeats one: it may hold a password.
func parseRedisServers(list []string, password string) (s redisServers, err error) {
	if len(list) == 0 {
		return s, errors.New("cluster: no Redis server is named")
	}
	for i, text := range list {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"redis", "rediss", "redis+sentinel", "rediss+sentinel"}, u.Scheme) {
			return s, errRedisAddress
		}
		one := redisServers{
			secure: strings.HasPrefix(u.Scheme, "rediss"), user: u.User.Username(),
			sentinelUser: u.Query().Get("sentinel-user"), sentinelPassword: u.Query().Get("sentinel-password"),
		}
		one.password, _ = u.User.Password()
		port := "6379"
		if strings.HasSuffix(u.Scheme, "+sentinel") {
			port = "26379"
			if one.primary = strings.Trim(u.Path, "/"); one.primary == "" {
				return s, errRedisAddress
			}
		}
		if u.Port() != "" {
			port = u.Port()
		}
		if i > 0 && (one.secure != s.secure || one.primary != s.primary) {
			return s, errors.New("cluster: the Redis addresses differ in more than host, port, user and password")
		}
		addresses := append(s.addresses, net.JoinHostPort(u.Hostname(), port))
		if i == 0 || one.user != "" || one.password != "" {
			s = one
		}
		s.addresses = addresses
	}
	if s.password == "" {
		s.password = password
	}
	s.next = rand.IntN(len(s.addresses)) // hubs spread over the nodes of a cluster
	return s, nil
}

// several reports whether the servers have to be nodes of a Redis Cluster.
func (s *redisServers) several() bool { return s.primary == "" && len(s.addresses) > 1 }

// makeClient makes what makes connections. Package rueidis would make one at once, for commands that nobody waits
// for: that one it does not get.
func (e *redisEngine) makeClient() error {
	var ready atomic.Bool
	option := e.option(e.servers.user, e.servers.password)
	option.InitAddress = e.servers.addresses[:1] // not looked at: dial knows better
	option.ClientName = e.config.Name
	option.DialCtxFn = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
		if !ready.Load() {
			return nil, errRedisAway
		}
		return e.dial()
	}
	client, err := rueidis.NewClient(option)
	if client == nil {
		return fmt.Errorf("redis: %w", err)
	}
	ready.Store(true)
	e.client = client
	return nil
}

func (e *redisEngine) option(user, password string) rueidis.ClientOption {
	return rueidis.ClientOption{
		Username: user, Password: password, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
		Dialer:             net.Dialer{Timeout: e.config.DialTimeout, KeepAlive: -1}, // no pings but our own
		ConnWriteTimeout:   e.config.WriteTimeout,
		ReadBufferEachConn: redisReadBytes, WriteBufferEachConn: redisWriteBytes, RingScaleEachConn: 8,
	}
}

// dial connects to the next of the servers.
func (e *redisEngine) dial() (net.Conn, error) {
	s := &e.servers
	address := s.addresses[s.next%len(s.addresses)]
	s.next++
	if s.primary != "" {
		var err error
		if address, err = e.askSentinel(address); err != nil {
			return nil, err
		}
	}
	conn, err := e.dialAddress(address)
	if err != nil {
		return nil, err
	}
	s.dialled, s.last = conn, address
	return conn, nil
}

func (e *redisEngine) dialAddress(address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(e.ctx, e.config.DialTimeout)
	defer cancel()
	conn, err := e.dialTCP(ctx, address)
	if err != nil || !e.servers.secure {
		return conn, err
	}
	config := e.config.TLS.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// askSentinel returns the address of the primary that a sentinel knows.
func (e *redisEngine) askSentinel(address string) (string, error) {
	option := e.option(e.servers.sentinelUser, e.servers.sentinelPassword)
	option.InitAddress = []string{address}
	option.DialCtxFn = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
		return e.dialAddress(address)
	}
	client, err := rueidis.NewClient(option)
	if client != nil {
		defer client.Close()
	}
	if err != nil {
		return "", fmt.Errorf("sentinel %s: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.config.DialTimeout)
	defer cancel()
	answer, err := client.Do(ctx, client.B().Arbitrary("SENTINEL", "GET-MASTER-ADDR-BY-NAME", e.servers.primary).Build()).AsStrSlice()
	if err != nil || len(answer) != 2 {
		return "", fmt.Errorf("sentinel %s does not know a primary %.100q: %w", address, e.servers.primary, err)
	}
	return net.JoinHostPort(answer[0], answer[1]), nil
}
