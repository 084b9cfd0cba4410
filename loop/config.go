package loop

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/fanout"
)

// Config says how a server behaves. The zero value of every field but Hub is a sensible default.
type Config struct {
	// Hub gets the spokes. It must be open for as long as the server runs.
	Hub *fanout.Hub

	// Path is where WebSockets are; "/ws" by default. Handler serves any path.
	Path string
	// Origins are the browser origins that may connect, beside the server's own: "*", or patterns
	// such as "https://*.example.com". A request without an Origin header is not a browser's.
	Origins []string

	// Authenticate returns what the spoke that a handshake is from may do; with an error it does not
	// become one. It is answered 401 with the text of the error, which must therefore hold no secrets,
	// or 503 for a fanout.ErrAuthUnavailable. Authenticate runs in a goroutine of its own, so it may
	// wait, but not longer than the context of the request: Shutdown waits for it. Request.RemoteAddr is
	// set. Nil lets everybody do everything.
	Authenticate func(*http.Request) (fanout.Claims, error)

	// Ready reports whether the hub wants new spokes, beside what the server knows itself. GET /readyz says so; nobody is
	// refused for it. It does not block. Nil for always.
	Ready func() bool

	// TLS makes the connections that Serve accepts speak it, versions 1.2 and 1.3; nil for none. It needs
	// certificates, or a callback that has them, and is copied. Without NextProtos it agrees upon http/1.1,
	// and its records are as large as what is written (DynamicRecordSizingDisabled). Request.TLS is set for
	// Authenticate.
	TLS *tls.Config
	// TLSHandshakes is how many TLS handshakes may be under way at the same time; 1024 by default. More
	// stand in line.
	TLSHandshakes int

	// Pollers is how many goroutines read; a quarter of GOMAXPROCS, at least one, by default.
	Pollers int
	// ReadBufferBytes is the size of a poller's buffer, of which each has one; 64 KiB by default.
	ReadBufferBytes int
	// SendBufferBytes sets SO_SNDBUF; 0 leaves it to the kernel.
	SendBufferBytes int
	// NotSentLowatBytes sets TCP_NOTSENT_LOWAT; 16 KiB by default, negative leaves it alone.
	NotSentLowatBytes int
	// MaxMessageBytes is the largest message a spoke may send, compressed or not; 64 KiB by default.
	MaxMessageBytes int
	// Compress says that permessage-deflate is negotiated with the spokes that offer it. They may then
	// compress what they send, and be sent compressed frames.
	Compress bool

	// SpokeCPU is the part of a core that reading from a spoke, and working on what it sends, may take in
	// the long run, listeners included; DefaultSpokeCPU by default, negative sets no limit. What it sends beyond
	// that is read later.
	SpokeCPU float64

	// MaxSpokes bounds the connections; by default what the descriptor limit allows.
	MaxSpokes int
	// MaxSpokesPerIP bounds those from one address, as which the /64 of an IPv6 address counts; 0 sets
	// no limit.
	MaxSpokesPerIP int

	// ConnectRate bounds the handshakes that are let in, in a second, and as many may come at once;
	// ConnectRatePerIP bounds those from one address, of which ConnectBurstPerIP may come at once, 64
	// by default. A rate of 0 sets no limit.
	ConnectRate, ConnectRatePerIP, ConnectBurstPerIP int

	// TrustedProxies are the addresses of proxies in front, which are believed for whom they connect, by
	// a PROXY header (version 1 or 2) or X-Forwarded-For.
	TrustedProxies []netip.Prefix

	// HandshakeTimeout is how long the upgrade may take; 5 s by default.
	HandshakeTimeout time.Duration
	// Ping is how long a spoke may be silent before it is pinged, 25 s by default, and PongTimeout
	// how long it may then stay silent, 10 s by default.
	Ping, PongTimeout time.Duration
	// CloseTimeout is how long a closing handshake may take; 5 s by default.
	CloseTimeout time.Duration
	// DrainTimeout is how long Shutdown may take; 30 s by default.
	DrainTimeout time.Duration

	Logger *slog.Logger // slog.Default by default
}

// ReservedDescriptors are left for what is not a spoke: pollers, listeners, the admin side, and the
// second descriptor that Handler needs for a moment.
const ReservedDescriptors = 64

// DefaultSpokeCPU is the default of Config.SpokeCPU: more than it takes to read the messages that a spoke may send
// (fanout.DefaultSpokeRatePerSec), and ten that do nothing else leave something of a core.
const DefaultSpokeCPU = 0.1

// MaxConnectRate bounds Config.ConnectRate and its like.
const MaxConnectRate = 1_000_000

// maxHeadBytes bounds the head of an HTTP request.
const maxHeadBytes = 8 << 10

// Validate fills in the defaults and returns every mistake there is.
func (c *Config) Validate() error {
	if c.Hub == nil {
		return errors.New("loop: Config.Hub is nil")
	}
	def(&c.Path, "/ws")
	def(&c.TLSHandshakes, 1024)
	def(&c.Pollers, max(1, runtime.GOMAXPROCS(0)/4))
	def(&c.ReadBufferBytes, 64<<10)
	def(&c.NotSentLowatBytes, 16<<10)
	def(&c.MaxMessageBytes, 64<<10)
	def(&c.SpokeCPU, DefaultSpokeCPU)
	def(&c.ConnectBurstPerIP, 64)
	def(&c.HandshakeTimeout, 5*time.Second)
	def(&c.Ping, 25*time.Second)
	def(&c.PongTimeout, 10*time.Second)
	def(&c.CloseTimeout, 5*time.Second)
	def(&c.DrainTimeout, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.MaxSpokes == 0 {
		c.MaxSpokes = max(1, DescriptorLimit()-ReservedDescriptors)
	}
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("loop: "+format, args...))
		}
	}
	bad(strings.HasPrefix(c.Path, "/"), "path %q does not begin with /", c.Path)
	bad(c.Pollers > 0 && c.Pollers <= 1024, "%d pollers, 1 to 1024 are possible", c.Pollers)
	bad(c.ReadBufferBytes >= 1<<10, "read buffer of %d bytes, at least 1024 are needed", c.ReadBufferBytes)
	bad(c.SendBufferBytes >= 0, "send buffer of %d bytes", c.SendBufferBytes)
	bad(c.MaxMessageBytes > 0, "largest message of %d bytes", c.MaxMessageBytes)
	bad(c.SpokeCPU <= 1, "%v of a core for a spoke, at most 1", c.SpokeCPU)
	bad(c.MaxSpokes > 0, "at most %d spokes", c.MaxSpokes)
	bad(c.MaxSpokesPerIP >= 0, "at most %d spokes per address", c.MaxSpokesPerIP)
	for _, rate := range []int{c.ConnectRate, c.ConnectRatePerIP, c.ConnectBurstPerIP - 1} {
		bad(rate >= 0 && rate <= MaxConnectRate, "connect rates of %d, %d and %d at once, at most %d", c.ConnectRate, c.ConnectRatePerIP, c.ConnectBurstPerIP, MaxConnectRate)
	}
	bad(c.TLSHandshakes > 0, "at most %d TLS handshakes", c.TLSHandshakes)
	if t := c.TLS; t != nil {
		bad(len(t.Certificates) > 0 || t.GetCertificate != nil || t.GetConfigForClient != nil, "Config.TLS has no certificate")
		bad(t.MinVersion == 0 || t.MinVersion >= tls.VersionTLS12, "Config.TLS allows %s, 1.2 is the oldest that is spoken", tls.VersionName(t.MinVersion))
		c.TLS = t.Clone()
		def(&c.TLS.MinVersion, tls.VersionTLS12)
		c.TLS.DynamicRecordSizingDisabled = true
		if len(t.NextProtos) == 0 {
			c.TLS.NextProtos = []string{"http/1.1"}
		}
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"handshake timeout", c.HandshakeTimeout}, {"ping", c.Ping}, {"pong timeout", c.PongTimeout},
		{"close timeout", c.CloseTimeout}, {"drain timeout", c.DrainTimeout},
	} {
		bad(d.d > 0 && d.d <= 24*time.Hour, "%s of %v, it must be more than 0 and at most 24h", d.name, d.d)
	}
	for _, p := range c.TrustedProxies {
		bad(p.IsValid() && !p.Addr().Is4In6(), "trusted proxy %v, an IPv4 address looks like 192.0.2.1", p)
	}
	for _, o := range c.Origins {
		if err := CheckOrigin(o); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// CheckOrigin returns what is wrong with a pattern for Config.Origins.
func CheckOrigin(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("loop: origin pattern %q: %w", pattern, err)
	}
	if pattern != "*" && !strings.Contains(pattern, "://") {
		return fmt.Errorf("loop: origin %q has no scheme, it looks like https://example.com", pattern)
	}
	return nil
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// DescriptorLimit returns how many files this process may have open.
func DescriptorLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<30))
}
