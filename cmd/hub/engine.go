package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/cluster/embedded"
	"github.com/alkdev/hub/fanout"
)

// engineConfig is what the flags say about other hubs.
type engineConfig struct {
	engine             string // off, embedded, or addresses
	prefix, format     string
	required           bool
	publish            string
	queue              int64
	linger, beat       time.Duration
	timeout            time.Duration
	creds, nkey, token string
	ca, cert, key      string
	listen, advertise  string
	peers              []string
	auth               string
	peerCA             string
	peerCert, peerKey  string
}

const (
	engineOff      = "off"
	engineEmbedded = "embedded"
	// engineWait is how long a hub that starts waits for its engine before it takes connections: what is
	// there comes within milliseconds, and a spoke that comes first would be told of a gap.
	engineWait = time.Second
)

// addEngineFlags defines the flags for hubs that act as one.
func addEngineFlags(f *flags, c *engineConfig) {
	*c = engineConfig{
		engine: engineOff, prefix: "hub", format: "hub", publish: "local", queue: cluster.DefaultQueueBytes,
		linger: cluster.DefaultLinger, beat: cluster.DefaultBeat, timeout: cluster.DefaultTimeout, listen: ":6222",
	}
	const moment, day = 10 * time.Millisecond, 24 * time.Hour
	add(f, &c.engine, "engine", "what carries events between hubs: off for a hub that is alone, embedded, or servers of NATS or Redis as in nats://host:4222,nats://other:4222 or redis://host:6379", parseEngine, showText)
	add(f, &c.prefix, "engine-prefix", "what the engine's subjects or channels begin with; hubs that act as one have the same", parseText, showText)
	add(f, &c.format, "engine-format", "what the engine's messages are: hub for whole envelopes, or yoga for payloads under prefix:topic, or under the topic alone if --engine-prefix is empty, as GraphQL gateways publish them", oneOf("hub", "yoga"), showText)
	addSwitch(f, &c.required, "engine-required", "be ready only while the engine is there; with --cluster-peers, once they are met as well, or 5s have passed")
	add(f, &c.publish, "engine-publish", "what becomes of events dispatched while the engine is away: local for delivery to this hub's spokes alone, or refuse", oneOf("local", "refuse"), showText)
	add(f, &c.queue, "engine-queue", "bytes that may wait for the engine, and again those that have come from it", size(1<<16, 1<<40), showSize)
	add(f, &c.linger, "engine-linger", "time for which a topic is still asked for after its last taker has gone", duration(moment, day), showDuration)
	add(f, &c.beat, "engine-beat", "how often hubs tell each other that they are there; three beats of silence are a loss", duration(moment, time.Hour), showDuration)
	add(f, &c.timeout, "engine-timeout", "time for another hub to answer", duration(moment, time.Hour), showDuration)
	add(f, &c.creds, "engine-creds", "file with NATS credentials", parseText, showText)
	add(f, &c.nkey, "engine-nkey", "file with the seed of an nkey", parseText, showText)
	addSecret(f, &c.token, "engine-token", "token for NATS, or password for Redis; both can stand in the address, with a user", parseText)
	add(f, &c.ca, "engine-ca", "file with the certificates that the engine's must come from; the system's if empty", parseText, showText)
	add(f, &c.cert, "engine-cert", "file with the certificate that the hub shows to the engine", parseText, showText)
	add(f, &c.key, "engine-key", "file with the key of that certificate", parseText, showText)
	add(f, &c.listen, "cluster-listen", "with --engine embedded, address for the other hubs", parseAddress, showText)
	add(f, &c.advertise, "cluster-advertise", "with --engine embedded, address at which the other hubs reach this one, if it is another", parseText, showText)
	add(f, &c.peers, "cluster-peers", "with --engine embedded, addresses of other hubs, some or all, as in a:6222,b:6222", parsePeers, showList)
	addSecret(f, &c.auth, "cluster-auth", "with --engine embedded, user:password that hubs have to show each other; none if empty", parseUserPassword)
	add(f, &c.peerCA, "cluster-ca", "with --engine embedded, file with the certificates that other hubs' must come from", parseText, showText)
	add(f, &c.peerCert, "cluster-cert", "with --engine embedded, file with the certificate that hubs show each other; plain TCP if empty", parseText, showText)
	add(f, &c.peerKey, "cluster-key", "file with the key of that certificate", parseText, showText)
}

// parseEngine reads --engine. Its errors repeat only what can hold no password: a word.
func parseEngine(s string) (string, error) {
	if s == engineOff || s == engineEmbedded {
		return s, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		u, err := url.Parse(part)
		if err != nil || u.Host == "" || !slices.Contains(natsSchemes, u.Scheme) && !slices.Contains(redisSchemes, u.Scheme) {
			if word.MatchString(s) {
				return "", fmt.Errorf("%q is no engine: %w", s, errNoEngine)
			}
			return "", errNoEngine
		}
		if isRedis(part) != isRedis(s) {
			return "", errors.New("an engine is either NATS or Redis")
		}
	}
	return s, nil
}

var (
	errNoEngine = errors.New("an engine is off, embedded, or addresses like nats://host:4222, tls://host:4222, redis://host:6379, rediss://host:6379 or redis+sentinel://host:26379/name, joined by ','")
	word        = regexp.MustCompile(`^[a-z]{1,12}$`)

	natsSchemes  = []string{"nats", "tls", "ws", "wss"}
	redisSchemes = []string{"redis", "rediss", "redis+sentinel", "rediss+sentinel"}
)

func isRedis(engine string) bool { return strings.HasPrefix(engine, "redis") }

func parsePeers(s string) ([]string, error) {
	list, err := parseList(s)
	if err != nil {
		return nil, err
	}
	for _, peer := range list {
		if host, _, err := net.SplitHostPort(peer); err != nil || host == "" {
			return nil, fmt.Errorf("%.200q is not the address of a hub, such as host:6222", peer)
		}
	}
	return list, nil
}

// parseUserPassword reads --cluster-auth. No error repeats it.
func parseUserPassword(s string) (string, error) {
	if user, password, ok := strings.Cut(s, ":"); s != "" && (!ok || user == "" || password == "") {
		return "", errors.New("it is like user:password")
	}
	return s, nil
}

// check finds what is wrong with the flags together, and what is only unwise.
func (c *engineConfig) check(f *flags, echo bool) (warnings []string) {
	embeds := c.engine == engineEmbedded
	if embeds && c.format != "hub" {
		f.problem("--engine-format: %s is for servers that others use as well, an embedded one is for hubs alone", c.format)
	}
	if c.engine != engineOff && echo {
		f.problem("--engine: a hub with --echo has no events for others")
	}
	if embeds && c.auth == "" && c.peerCA == "" && !isLoopback(c.listen) {
		warnings = append(warnings, fmt.Sprintf("whoever reaches %s can take part in the cluster: set --cluster-auth, or --cluster-cert with --cluster-ca", c.listen))
	}
	return warnings
}

// member returns the hub's part in the cluster, nil if it is alone.
func (c *engineConfig) member(node string, maxEventBytes int64, logger *slog.Logger) (*cluster.Member, error) {
	if c.engine == engineOff {
		return nil, nil
	}
	id := cluster.NewID()
	engine, err := c.newEngine(id, maxEventBytes, logger)
	if err != nil {
		return nil, fmt.Errorf("--engine: %w", err)
	}
	format, err := c.newFormat()
	if err != nil {
		return nil, fmt.Errorf("--engine-prefix: %w", err)
	}
	return cluster.New(cluster.Config{
		Engine: engine, Format: format, Node: node, ID: id, Refuse: c.publish == "refuse",
		QueueBytes: c.queue, Linger: c.linger, Beat: c.beat, Timeout: c.timeout, Logger: logger,
	})
}

func (c *engineConfig) newEngine(id string, maxEventBytes int64, logger *slog.Logger) (cluster.Engine, error) {
	if c.engine == engineEmbedded {
		tlsConfig, err := mutualTLS(c.peerCert, c.peerKey, c.peerCA)
		if err != nil {
			return nil, err
		}
		user, password, _ := strings.Cut(c.auth, ":")
		return embedded.New(embedded.Config{
			ID: id, Listen: c.listen, Advertise: c.advertise, Peers: c.peers, User: user, Password: password,
			TLS: tlsConfig, MaxEventBytes: int(maxEventBytes) + 4<<10, Logger: logger,
		})
	}
	tlsConfig, err := mutualTLS(c.cert, c.key, c.ca)
	if err != nil {
		return nil, err
	}
	if isRedis(c.engine) {
		return cluster.Redis(cluster.RedisConfig{
			Servers: strings.Split(c.engine, ","), Name: "hub-" + id, Password: c.token, TLS: tlsConfig, Logger: logger,
		})
	}
	return cluster.NATS(cluster.NATSConfig{
		Servers: strings.Split(c.engine, ","), Name: "hub " + id, CredentialsFile: c.creds, NKeyFile: c.nkey, Token: c.token,
		TLS: tlsConfig, Logger: logger,
	})
}

func (c *engineConfig) newFormat() (cluster.Format, error) {
	switch yoga := c.format == "yoga"; {
	case isRedis(c.engine) && yoga:
		return cluster.RedisYoga(c.prefix)
	case isRedis(c.engine):
		return cluster.RedisHub(c.prefix)
	case yoga:
		return cluster.NATSYoga(c.prefix)
	}
	return cluster.NATSHub(c.prefix)
}

// mutualTLS returns what the files say, nil if there are none.
func mutualTLS(cert, key, ca string) (*tls.Config, error) {
	if cert == "" && ca == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificates", ca)
		}
		c.ClientCAs, c.ClientAuth = c.RootCAs, tls.RequireAndVerifyClientCert // of an embedded server
	}
	return c, nil
}

// join starts the member, if there is one, and waits for a moment for its engine.
func join(ctx context.Context, m *cluster.Member, hub *fanout.Hub) error {
	if m == nil {
		return nil
	}
	if err := m.Start(hub); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	m.Await(ctx)
	return nil
}

// meetWait is for how long a hub is not ready because it has not met those that it is told of: they may not be there.
const meetWait = 5 * time.Second

// ready reports whether the engine is there, if it has to be, and the other hubs.
func (c *engineConfig) ready(hub *fanout.Hub) bool {
	return !c.required || c.joined(hub.ClusterInfo(), time.Now())
}

// joined reports whether a hub can be reached from others, and they from it, as far as it is known.
func (c *engineConfig) joined(info fanout.ClusterInfo, now time.Time) bool {
	if info.Engine.State != "up" {
		return false
	}
	// One of the peers may be this hub itself; if none is, the last one is not waited for.
	met := len(info.Hubs) >= max(2, len(c.peers))
	return len(c.peers) == 0 || met || now.Sub(info.Engine.Since) >= meetWait
}

// limits are those of the engine, for metrics.
func (c *engineConfig) limits(bytes map[string]int64, times map[string]time.Duration) {
	if c.engine != engineOff {
		bytes["engine_queue"] = c.queue
		times["engine_linger"], times["engine_beat"], times["engine_timeout"] = c.linger, c.beat, c.timeout
	}
}
