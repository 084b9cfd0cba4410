package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/alkdev/hub/auth"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/logqueue"
	"github.com/alkdev/hub/loop"
)

// leastAdminToken is the least length of --admin-token, in bytes, where others than this machine may guess at it.
const leastAdminToken = 16

// config is what the flags of hub serve say.
type config struct {
	listen, path           string
	admin, adminToken      string
	adminMaxBody           int64
	authKey                []byte
	authJWKS               string
	authJWKSRefresh        time.Duration
	authIssuer             string
	authAudience           string
	tlsCert, tlsKey        string
	tlsHandshakes          int
	node                   string
	shards, pollers        int
	spokeBuffer            int64
	spokeLag               time.Duration
	totalBuffer            int64
	memoryLimit            int64 // in bytes, or memoryAuto or memoryOff
	slow                   string
	slowFor                map[string]fanout.Policy
	slowCloseCode          codec.CloseCode
	badEnvelopes           int
	spokeRate, spokeBurst  int
	spokeCPU               float64
	maxTopics              int
	maxTopicMemory         int64
	sndbuf, notSentLowat   int64
	readBuffer, maxMessage int64
	maxSpokes, maxPerIP    int
	connectRate            int
	connectRatePerIP       int
	connectBurstPerIP      int
	trustedProxies         []netip.Prefix
	handshakeTimeout       time.Duration
	ping, pongTimeout      time.Duration
	closeTimeout           time.Duration
	origins                []string
	compress               bool
	compressMin            int64
	compressLevel          int
	subscribe, frames      string
	relay                  string
	drainTimeout           time.Duration
	echo                   bool
	logLevel               slog.Level
	logFormat              string
	logBuffer              int64
	log                    *logqueue.Writer // set by startLog
	memory                 int64            // set by limitMemory
	pprof                  bool
	engine                 engineConfig
	reusePort              bool
}

const serveSynopsis = `hub serve: run the hub.

Spokes connect to ws://HOST:PORT/ws, events are published at the admin address:

  curl -d '{"type":"tick","id":"42","payload":{"price":7}}' http://127.0.0.1:8081/v1/events`

// serveFlags defines the flags of hub serve, with their defaults in c.
func serveFlags(c *config) *flags {
	host, _ := os.Hostname()
	*c = config{
		listen: ":8080", path: "/ws", admin: "127.0.0.1:8081", adminMaxBody: 8 << 20, node: host,
		authJWKSRefresh: auth.DefaultRefresh, tlsHandshakes: 1024,
		shards: runtime.GOMAXPROCS(0), pollers: max(1, runtime.GOMAXPROCS(0)/4),
		spokeBuffer: fanout.DefaultSpokeBytes, spokeLag: fanout.DefaultSpokeLag, totalBuffer: fanout.DefaultTotalBytes,
		slow: fanout.Disconnect.String(), slowCloseCode: codec.CloseSlow, badEnvelopes: 16,
		spokeRate: fanout.DefaultSpokeRatePerSec, spokeCPU: loop.DefaultSpokeCPU, maxTopics: fanout.DefaultMaxTopics, maxTopicMemory: fanout.DefaultMaxTopicBytes,
		notSentLowat: 16 << 10, readBuffer: 64 << 10, maxMessage: 64 << 10,
		handshakeTimeout: 5 * time.Second, ping: 25 * time.Second, pongTimeout: 10 * time.Second,
		closeTimeout: 5 * time.Second, drainTimeout: 30 * time.Second, connectBurstPerIP: 64,
		compressMin: 512, compressLevel: 3, subscribe: "all", frames: "text", relay: "off", logFormat: "text", logBuffer: 1 << 20,
	}
	const day = 24 * time.Hour
	const moment = 10 * time.Millisecond
	showCode := func(code codec.CloseCode) string { return fmt.Sprint(uint16(code)) }
	f := newFlags("serve", serveSynopsis)
	add(f, &c.listen, "listen", "address that spokes connect to", parseAddress, showText)
	add(f, &c.path, "path", "path of the WebSocket endpoint", parsePath, showText)
	add(f, &c.admin, "admin", "address for publishing, metrics and health; off for none", parseAdminAddress, showText)
	addSecret(f, &c.adminToken, "admin-token", "bearer token that admin requests must carry, from 16 bytes if --admin can be reached from elsewhere; none if empty", parseText)
	add(f, &c.adminMaxBody, "admin-max-body", "largest body of an admin request", size(1<<10, 1<<30), showSize)
	addAuthKey(f, &c.authKey, "spokes need a token signed with this")
	add(f, &c.authJWKS, "auth-jwks", "spokes need a token signed with a key of this JSON Web Key Set: a file, or an address that begins with https:// or http://", parseText, showText)
	add(f, &c.authJWKSRefresh, "auth-jwks-refresh", "how often the set is read again, beside for keys that are not in it", duration(time.Second, day), showDuration)
	add(f, &c.authIssuer, "auth-issuer", "issuer (iss) that a token must name; any if empty", parseText, showText)
	add(f, &c.authAudience, "auth-audience", "audience (aud) that a token must name; any if empty", parseText, showText)
	add(f, &c.tlsCert, "tls-cert", "file with the certificate, and those between it and its authority, in PEM: spokes then speak TLS (wss://), 1.2 or 1.3", parseText, showText)
	add(f, &c.tlsKey, "tls-key", "file with the key of the certificate, in PEM; both are read again when they change", parseText, showText)
	add(f, &c.tlsHandshakes, "tls-handshakes", "TLS handshakes under way at the same time; more stand in line", number(1, 1<<20), strconv.Itoa)
	add(f, &c.node, "node", "name of this hub, told to every spoke", parseNode, showText)
	add(f, &c.shards, "shards", "goroutines that write, each for its part of the spokes", number(1, 256), strconv.Itoa)
	add(f, &c.pollers, "pollers", "goroutines that read", number(1, 1024), strconv.Itoa)
	add(f, &c.spokeBuffer, "spoke-buffer", "bytes that may be queued for one spoke, and size of the largest event", size(1<<10, 1<<32), showSize)
	add(f, &c.spokeLag, "spoke-lag", "age that the oldest event queued for a spoke may reach; 0 for any", duration(0, day), showDuration)
	add(f, &c.totalBuffer, "total-buffer", "bytes that may be queued for all spokes, each event counted once", size(1<<16, 1<<44), showSize)
	add(f, &c.memoryLimit, "memory-limit", "memory for the hub: a size, off, or auto for GOMEMLIMIT or else nine tenths of the container's; near it queues are shed and new connections refused", parseMemoryLimit, showMemoryLimit)
	add(f, &c.slow, "slow", "what happens to a spoke over a limit: disconnect, drop-oldest, drop-newest or conflate", parsePolicyName, showText)
	add(f, &c.slowFor, "slow-for", "the same by event type, as in tick=conflate,order=disconnect", parsePolicies, showPolicies)
	add(f, &c.slowCloseCode, "slow-close-code", "close code for slow spokes", parseCloseCode, showCode)
	add(f, &c.badEnvelopes, "bad-envelopes", "messages a minute that are no envelopes before a spoke is closed with 1008", number(1, 1<<20), strconv.Itoa)
	add(f, &c.maxTopics, "max-topics", "topics that a spoke may subscribe to", number(1, 1<<20), strconv.Itoa)
	add(f, &c.maxTopicMemory, "max-topic-memory", "memory that the subscriptions of all spokes may take; 0 for any", size(0, 1<<44), showSize)
	add(f, &c.spokeRate, "spoke-rate", "messages a second that a spoke may send; 0 for any number", number(0, fanout.MaxSpokeRatePerSec), strconv.Itoa)
	add(f, &c.spokeBurst, "spoke-burst", "messages that it may send at once after a pause; 0 for twice the rate", number(0, 1<<30), strconv.Itoa)
	add(f, &c.spokeCPU, "spoke-cpu", "share of a core that reading from a spoke may take, beyond which it is read later; 0 for any", parseShare, showShare)
	add(f, &c.sndbuf, "sndbuf", "SO_SNDBUF of spokes; 0 leaves it to the kernel", size(0, 1<<30), showSize)
	add(f, &c.notSentLowat, "notsent-lowat", "TCP_NOTSENT_LOWAT of spokes; 0 leaves it to the kernel", size(0, 1<<30), showSize)
	add(f, &c.readBuffer, "read-buffer", "read buffer of a poller", size(1<<10, 1<<28), showSize)
	add(f, &c.maxMessage, "max-message", "largest message that a spoke may send", size(1, 1<<30), showSize)
	add(f, &c.maxSpokes, "max-spokes", "connections at the same time; 0 for as many as there are descriptors", number(0, 1<<24), strconv.Itoa)
	add(f, &c.maxPerIP, "max-spokes-per-ip", "connections from one address, an IPv6 /64 being one; 0 for any number", number(0, 1<<24), strconv.Itoa)
	add(f, &c.connectRate, "connect-rate", "handshakes let in a second, as many at once; others get 503; 0 for any number", number(0, loop.MaxConnectRate), strconv.Itoa)
	add(f, &c.connectRatePerIP, "connect-rate-per-ip", "handshakes let in a second from one address, others get 429; 0 for any number", number(0, loop.MaxConnectRate), strconv.Itoa)
	add(f, &c.connectBurstPerIP, "connect-burst-per-ip", "with --connect-rate-per-ip, how many may come at once", number(1, loop.MaxConnectRate), strconv.Itoa)
	add(f, &c.trustedProxies, "trusted-proxies", "proxies that are believed whom they connect for, by a PROXY header or X-Forwarded-For: addresses and networks, as in 10.0.0.0/8,2001:db8::1", parsePrefixes, showPrefixes)
	add(f, &c.handshakeTimeout, "handshake-timeout", "time for the upgrade, and for the TLS handshake before it", duration(moment, day), showDuration)
	add(f, &c.ping, "ping", "silence after which a spoke is pinged", duration(moment, day), showDuration)
	add(f, &c.pongTimeout, "pong-timeout", "further silence after which it is closed", duration(moment, day), showDuration)
	add(f, &c.closeTimeout, "close-timeout", "time for a closing handshake", duration(moment, day), showDuration)
	add(f, &c.origins, "origins", "browser origins that may connect beside the hub's own, as in https://example.com,https://*.example.org; * for any", parseOrigins, showList)
	addSwitch(f, &c.compress, "compress", "negotiate permessage-deflate, without context takeover, with spokes that offer it")
	add(f, &c.compressMin, "compress-min", "with --compress, the shortest event that is sent compressed", size(0, 1<<30), showSize)
	add(f, &c.compressLevel, "compress-level", "with --compress, from 1 (fast) to 9 (small)", number(codec.MinDeflateLevel, codec.MaxDeflateLevel), strconv.Itoa)
	add(f, &c.subscribe, "subscribe", "what a spoke gets before it subscribes to anything: all, or with explicit nothing", oneOf("all", "explicit"), showText)
	add(f, &c.frames, "frames", "kind of WebSocket messages that the hub sends: text or binary", oneOf("text", "binary"), showText)
	add(f, &c.relay, "relay", "where events from spokes go beside the listeners: off, or others for all other spokes", oneOf("off", "others"), showText)
	add(f, &c.drainTimeout, "drain-timeout", "time over which spokes are sent away at the end", duration(moment, day), showDuration)
	addEngineFlags(f, &c.engine)
	add(f, &c.logLevel, "log-level", "debug, info, warn or error", parseLevel, func(l slog.Level) string { return strings.ToLower(l.String()) })
	add(f, &c.logFormat, "log-format", "text or json", oneOf("text", "json"), showText)
	add(f, &c.logBuffer, "log-buffer", "bytes of the log that may wait to be written; lines beyond that are dropped, and the log says how many", size(1<<12, 1<<30), showSize)
	addSwitch(f, &c.echo, "echo", "for testing: send every message back to its spoke, and nothing else")
	addSwitch(f, &c.reusePort, "reuse-port", "share the address for spokes with other hubs of the same user (SO_REUSEPORT), to replace one by another")
	addSwitch(f, &c.pprof, "pprof", "serve /debug/pprof/ at the admin address")
	return f
}

// parseConfig parses the flags of hub serve, which f has, and checks them together.
func parseConfig(f *flags, c *config, args []string) (warnings []string, err error) {
	if _, err := parseFlags(f, args, 0); err != nil {
		return nil, err
	}
	warnings = c.check(f)
	if err := f.result(); err != nil {
		return nil, &usageError{err}
	}
	return warnings, nil
}

// check returns what is wrong with the flags together, and what is only unwise.
func (c *config) check(f *flags) (warnings []string) {
	if c.echo {
		c.fitEcho()
	}
	if c.totalBuffer < c.spokeBuffer {
		f.problem("--total-buffer: %s is less than --spoke-buffer, %s", showSize(c.totalBuffer), showSize(c.spokeBuffer))
	}
	if c.relay == "others" && c.maxMessage > c.spokeBuffer {
		f.problem("--max-message: %s is more than --spoke-buffer, %s; with --relay others such events could not be passed on", showSize(c.maxMessage), showSize(c.spokeBuffer))
	}
	if c.admin != "off" && c.adminToken == "" && !isLoopback(c.admin) {
		f.problem("--admin: %s can be reached from elsewhere, which needs an --admin-token; or take a loopback address such as 127.0.0.1:8081", c.admin)
	}
	if n := len(c.adminToken); c.admin != "off" && n > 0 && n < leastAdminToken && !isLoopback(c.admin) {
		f.problem("--admin-token: it has %d bytes, and --admin %s can be reached from elsewhere, which needs %d or more, as from openssl rand -hex 32", n, c.admin, leastAdminToken)
	}
	warnings = append(warnings, c.checkNeeds(f)...)
	if len(c.authKey) > 0 && c.authJWKS != "" {
		f.problem("--auth-jwt-key and --auth-jwks: one of them")
	}
	if len(c.authKey) == 0 && c.authJWKS == "" && !c.echo && !isLoopback(c.listen) {
		may := "receive every event"
		if c.relay == "others" {
			may = "receive every event and send to all spokes"
		}
		warnings = append(warnings, fmt.Sprintf("whoever reaches %s may %s: --auth-jwt-key or --auth-jwks asks for tokens, --listen 127.0.0.1:8080 keeps to this machine", c.listen, may))
	}
	warnings = append(warnings, c.engine.check(f, c.echo)...)
	if limit := loop.DescriptorLimit(); c.maxSpokes > limit-loop.ReservedDescriptors {
		warnings = append(warnings, fmt.Sprintf("at most about %d spokes can connect: the descriptor limit is %d, --max-spokes %d (raise it with ulimit -n or LimitNOFILE)",
			limit-loop.ReservedDescriptors, limit, c.maxSpokes))
	}
	return warnings
}

// fitEcho sets the limits for --echo, where messages are as large as spokes may send them: four of
// them and 1 MiB of small ones may be queued. They have no age, for a slow conformance suite may take
// longer over one message than an event may take. Nor does it matter how busy it keeps the hub.
func (c *config) fitEcho() {
	c.spokeBuffer = max(c.spokeBuffer, 4*c.maxMessage+1<<20)
	c.totalBuffer = max(c.totalBuffer, c.spokeBuffer)
	c.spokeLag, c.spokeCPU = 0, 0
}

func (c *config) fanout(logger *slog.Logger) fanout.Config {
	policy, err := fanout.ParsePolicy(c.slow)
	if err != nil {
		panic("parsePolicyName has let through " + c.slow)
	}
	opcode := codec.Text
	if c.frames == "binary" {
		opcode = codec.Binary
	}
	rate, topicBytes := c.spokeRate, c.maxTopicMemory
	if rate == 0 {
		rate = -1 // fanout.Config takes 0 for its default
	}
	if topicBytes == 0 {
		topicBytes = -1
	}
	return fanout.Config{
		Node: c.node, Shards: c.shards,
		Limits: fanout.Limits{SpokeBytes: c.spokeBuffer, SpokeLag: c.spokeLag, TotalBytes: c.totalBuffer},
		Policy: policy, PolicyFor: c.slowFor, SlowCloseCode: c.slowCloseCode, CloseTimeout: c.closeTimeout,
		Explicit: c.subscribe == "explicit", Opcode: opcode, BadEnvelopesPerMin: c.badEnvelopes,
		MaxTopics: c.maxTopics, MaxTopicBytes: topicBytes, SpokeRatePerSec: rate, SpokeBurst: c.spokeBurst, Echo: c.echo, Deflater: c.deflater(), Logger: logger,
	}
}

// deflater compresses what goes to the spokes that negotiated it; nil without --compress.
func (c *config) deflater() *codec.Deflater {
	if !c.compress {
		return nil
	}
	d, err := codec.NewDeflater(c.compressLevel, int(c.compressMin))
	if err != nil {
		panic("the parser of --compress-level has let through: " + err.Error())
	}
	return d
}

func (c *config) loop(hub *fanout.Hub, logger *slog.Logger) loop.Config {
	lowat := int(c.notSentLowat)
	if lowat == 0 {
		lowat = -1 // loop.Config takes 0 for its default
	}
	cpu := c.spokeCPU
	if cpu == 0 {
		cpu = -1
	}
	return loop.Config{
		Hub: hub, Ready: func() bool { return c.engine.ready(hub) }, Path: c.path, Origins: c.origins, Pollers: c.pollers,
		ReadBufferBytes: int(c.readBuffer), SendBufferBytes: int(c.sndbuf), NotSentLowatBytes: lowat,
		MaxMessageBytes: int(c.maxMessage), MaxSpokes: c.maxSpokes, MaxSpokesPerIP: c.maxPerIP, Compress: c.compress, SpokeCPU: cpu,
		ConnectRate: c.connectRate, ConnectRatePerIP: c.connectRatePerIP, ConnectBurstPerIP: c.connectBurstPerIP, TrustedProxies: c.trustedProxies,
		HandshakeTimeout: c.handshakeTimeout, Ping: c.ping, PongTimeout: c.pongTimeout,
		CloseTimeout: c.closeTimeout, DrainTimeout: c.drainTimeout, TLSHandshakes: c.tlsHandshakes, Logger: logger,
	}
}

// listenSpokes opens the address for spokes.
func (c *config) listenSpokes() (net.Listener, error) {
	if c.reusePort {
		return loop.ListenShared(c.listen)
	}
	return loop.Listen(c.listen)
}

func parseAddress(s string) (string, error) {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
		if _, e := strconv.Atoi(port); err != nil && e == nil {
			return "", fmt.Errorf("%q: %s is not a port, ports are 0 to 65535", s, port)
		}
	}
	if err != nil {
		return "", fmt.Errorf("%q is not an address, addresses look like :8080, 127.0.0.1:8080 or [::1]:8080", s)
	}
	return s, nil
}

func parseAdminAddress(s string) (string, error) {
	if s == "off" {
		return s, nil
	}
	return parseAddress(s)
}

func parsePath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") || s == "/readyz" {
		return "", fmt.Errorf("%q is not a path for WebSockets, it begins with / and is not /readyz", s)
	}
	return s, nil
}

func parseNode(s string) (string, error) {
	if err := (codec.Envelope{Type: "node", ID: s}).Check(); err != nil {
		return "", fmt.Errorf("%.300q is not a name of up to %d bytes of UTF-8", s, codec.MaxIDBytes)
	}
	return s, nil
}

func parsePolicyName(s string) (string, error) {
	_, err := fanout.ParsePolicy(s)
	return s, err
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
