package loadgen

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"time"
)

// Bounds and defaults of Config.
const (
	MinPayloadBytes = 96 // what the run, the number and the time need

	DefaultPatience         = 5 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
)

// Config says what to connect to and what to publish. Zero fields that have a default mean it.
type Config struct {
	URL   string      // of the hub's WebSocket, ws:// or wss://
	Token string      // bearer token, sent with the handshake; none if empty
	TLS   *tls.Config // for wss:// and for an Admin with https://

	Spokes        int
	StalledShare  float64      // of the spokes, which stop reading after the welcome: 0 to below 1
	ConnectPerSec int          // 0: as fast as the hub takes them
	Topics        int          // the spokes are spread over so many; 0: none subscribes to anything
	Sources       []netip.Addr // local addresses, used in turn; empty: the kernel chooses

	// Admin is the hub's admin address, http:// or https://, at which events are published. If it is
	// empty they are published by one more spoke, which takes a hub that relays: --relay others.
	Admin      string
	AdminToken string

	EventsPerSec int // 0: as fast as WindowEvents allows
	WindowEvents int // events that may be under way, counted in deliveries; 0: any number
	PayloadBytes int
	Duration     time.Duration // of publishing

	// Patience is how long nothing may arrive while something is under way. Default: DefaultPatience.
	Patience time.Duration
	// HandshakeTimeout bounds each connection's handshake. Default: DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// Readers is the number of reading threads. Default: one for every two cores, at most four.
	Readers int
}

// complete returns c with its defaults, or an error about a field that makes no sense.
func (c Config) complete() (Config, error) {
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, DefaultHandshakeTimeout)
	c.Readers = cmp.Or(c.Readers, min(4, max(1, cores()/2)))
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "":
		return c, fmt.Errorf("loadgen: %q is not an address like ws://127.0.0.1:8080/ws", c.URL)
	case c.Spokes < 1:
		return c, fmt.Errorf("loadgen: %d spokes, at least one is needed", c.Spokes)
	case c.StalledShare < 0 || c.stalled() >= c.Spokes:
		return c, fmt.Errorf("loadgen: %d of %d spokes stalled, at least one has to read", c.stalled(), c.Spokes)
	case c.Topics < 0 || c.Topics > c.reading():
		return c, fmt.Errorf("loadgen: %d topics for %d spokes that read, each topic needs one", c.Topics, c.reading())
	case c.PayloadBytes < MinPayloadBytes:
		return c, fmt.Errorf("loadgen: payload of %d bytes, at least %d are needed", c.PayloadBytes, MinPayloadBytes)
	case c.EventsPerSec < 0 || c.WindowEvents < 0 || c.EventsPerSec+c.WindowEvents == 0:
		return c, fmt.Errorf("loadgen: neither a rate nor a window bounds publishing")
	case c.Duration <= 0 || c.ConnectPerSec < 0 || c.Readers < 0 || c.Patience < 0 || c.HandshakeTimeout < 0:
		return c, fmt.Errorf("loadgen: negative durations or rates, or nothing to do")
	}
	return c, nil
}

func (c *Config) stalled() int { return int(float64(c.Spokes)*c.StalledShare + 0.5) }
func (c *Config) reading() int { return c.Spokes - c.stalled() }

// topicCount is the number of sequences of events.
func (c *Config) topicCount() int { return max(1, c.Topics) }

// overTLS reports whether spokes connect by wss.
func (c *Config) overTLS() bool { return len(c.URL) > 3 && c.URL[:4] == "wss:" }

// Check returns an error about what makes no sense, as Run does.
func (c Config) Check() error {
	_, err := c.complete()
	return err
}
