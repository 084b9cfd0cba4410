package fanout

import (
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/alkdev/hub/codec"
)

// Config says how a hub behaves. The zero value of every field is a sensible default.
type Config struct {
	// Node is the hub's name, told to every spoke.
	Node string
	// Shards is how many goroutines write, 1 to 256; GOMAXPROCS by default.
	Shards int
	// Limits bound what slow spokes may hold.
	Limits Limits
	// Policy is what happens to the slow, PolicyFor the same by the type of the event.
	Policy    Policy
	PolicyFor map[string]Policy
	// SlowCloseCode closes spokes under the policy Disconnect; codec.CloseSlow by default.
	SlowCloseCode codec.CloseCode
	// CloseTimeout is how long an orderly close waits for a spoke to take what is queued; 5 s by
	// default.
	CloseTimeout time.Duration
	// Explicit starts spokes with no events instead of all.
	Explicit bool
	// Opcode is codec.Text, the default, or codec.Binary.
	Opcode codec.Opcode
	// Deflater compresses what goes to spokes that take it; nil compresses nothing. An event is
	// compressed at most once, and only if a spoke is there that takes it so.
	Deflater *codec.Deflater
	// Echo makes the hub send every message back to the spoke that sent it and nothing else: no
	// events, none of its own either. It is for testing; see Spoke.Echo.
	Echo bool
	// BadEnvelopesPerMin is how many messages that are no envelopes a spoke may send before it is
	// closed; 16 by default.
	BadEnvelopesPerMin int
	// MaxTopics is how many patterns a spoke may subscribe to; 1024 by default. Those that it is given by its
	// claims, as long as it subscribes to nothing, do not count.
	MaxTopics int
	// MaxTopicBytes is what the subscriptions of all spokes may take; 256 MiB by default, negative for any.
	MaxTopicBytes int64
	// SpokeRatePerSec is how many messages a second a spoke may send, of any kind, and SpokeBurst how many
	// at once after a pause; 10,000 and twice the rate by default, a negative rate sets no limit. What is
	// beyond is refused, counted and told, and a spoke that goes on is closed: see admit.
	SpokeRatePerSec, SpokeBurst int

	// Renew returns what a spoke may do that has sent a fresh token in __auth. It runs on the goroutine
	// that reads the connection and must not block; ErrAuthUnavailable lets the spoke try again. The
	// text of the error is told to the spoke. Nil takes no tokens.
	Renew func(token string) (Claims, error)

	// Cluster joins the hub with others; nil for a hub that is alone.
	Cluster Cluster

	// OnConnection runs when a spoke has connected, before its first event reaches a listener.
	// OnDisconnection runs once, after its last. Both run on the goroutine of the connection's
	// owner: they must not block, but may call anything on the hub. A panic is contained.
	OnConnection    func(*Spoke)
	OnDisconnection func(*Spoke, Cause)

	Logger *slog.Logger // slog.Default by default
}

// DefaultCloseTimeout is the default of Config.CloseTimeout.
const DefaultCloseTimeout = 5 * time.Second

func (c *Config) setDefaults() error {
	if c.Shards == 0 {
		c.Shards = min(runtime.GOMAXPROCS(0), maxShards)
	}
	if c.Shards < 1 || c.Shards > maxShards {
		return fmt.Errorf("fanout: %d shards, 1 to %d are possible", c.Shards, maxShards)
	}
	if c.Limits.SpokeBytes == 0 {
		c.Limits.SpokeBytes = DefaultSpokeBytes
	}
	if c.Limits.TotalBytes == 0 {
		c.Limits.TotalBytes = DefaultTotalBytes
	}
	c.PolicyFor = maps.Clone(c.PolicyFor)
	for _, p := range append(slices.Collect(maps.Values(c.PolicyFor)), c.Policy) {
		if p >= numPolicies {
			return fmt.Errorf("fanout: there is no policy %d", p)
		}
	}
	if !utf8.ValidString(c.Node) {
		return fmt.Errorf("fanout: node name %q is not valid UTF-8", c.Node)
	}
	if c.Limits.SpokeBytes < 0 || c.Limits.TotalBytes < 0 || c.Limits.SpokeLag < 0 {
		return fmt.Errorf("fanout: negative limit in %+v", c.Limits)
	}
	if c.SlowCloseCode == 0 {
		c.SlowCloseCode = codec.CloseSlow
	}
	if !c.SlowCloseCode.Sendable() {
		return fmt.Errorf("fanout: close code %d may not be sent", c.SlowCloseCode)
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = DefaultCloseTimeout
	}
	if c.Opcode == 0 {
		c.Opcode = codec.Text
	}
	if c.MaxTopics == 0 {
		c.MaxTopics = DefaultMaxTopics
	}
	if c.MaxTopics < 0 {
		return fmt.Errorf("fanout: at most %d topics", c.MaxTopics)
	}
	if c.MaxTopicBytes == 0 {
		c.MaxTopicBytes = DefaultMaxTopicBytes
	}
	if c.BadEnvelopesPerMin == 0 {
		c.BadEnvelopesPerMin = 16
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}
