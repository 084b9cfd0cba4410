package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/alkdev/hub/fanout"
)

// Config says how the operator's side behaves. The zero value of every field but Hub is a sensible
// default.
type Config struct {
	Hub *fanout.Hub
	// Loop asks the owner of the connections.
	Loop Loop
	// Log returns what became of the program's log; nil leaves its metrics out.
	Log func() LogStats
	// Keys asks for the key set by which spokes are known; nil leaves its metrics out.
	Keys func() KeyStats
	// Memory returns how much the program uses; nil leaves its metrics out.
	Memory func() MemoryStats
	// Limits are those of other parts of the program, to be served as metrics beside the hub's own.
	Limits Limits

	// Token, if not empty, is the bearer token that every request must carry, but those for health and
	// for the page, which asks for it.
	Token string
	// Pprof serves /debug/pprof/.
	Pprof bool
	// Version is the program's, for hub_build_info.
	Version string

	// MaxBodyBytes bounds the body of a request; 8 MiB by default.
	MaxBodyBytes int64
	// MaxStreams bounds the readers of GET /v1/events and /v1/stats at the same time; 32 by default.
	MaxStreams int
	// Heartbeat is how long such a reader may be left without a byte; 15 s by default.
	Heartbeat time.Duration
	// WriteTimeout is how long such a reader may take nothing of what is written to it before it is
	// cut off; 30 s by default.
	WriteTimeout time.Duration
	// SampleEvery is how often readers of GET /v1/stats, as pages are, get a sample; 1 s by default.
	SampleEvery time.Duration
	// Patience is how long the shards may take to answer before they count as stuck; 1 s by default.
	Patience time.Duration

	Logger *slog.Logger // slog.Default by default
}

// Loop is what is asked of the owner of the connections.
type Loop struct {
	// Ready reports whether new connections are welcome; they always are if it is nil.
	Ready func() bool
	// Stats returns what it has counted; nil leaves its metrics out.
	Stats func() LoopStats
}

// LoopStats is what the owner of the connections has counted.
type LoopStats struct {
	Connections int               // open, those not upgraded yet included
	Refused     map[string]uint64 // connections that did not become spokes, by reason
	Suspensions uint64            // how often a spoke was not read from for a while
	TLS         *TLSStats         // nil without TLS
}

// TLSStats is what there is to say of TLS.
type TLSStats struct {
	Handshakes, Failed   uint64 // completed, and not
	Running, InLine      int    // under way, and waiting for their turn
	Broken               uint64 // connections that broke TLS after the handshake
	Loads, FailedReloads uint64 // of the certificate
	NotAfter             time.Time
}

// LogStats is what was lost of the program's log, in lines.
type LogStats struct {
	Dropped uint64 // too much was waiting to be written
	Failed  uint64 // they could not be written
}

// KeyStats is how a key set stands.
type KeyStats struct {
	Age      time.Duration // since it was fetched
	Failures uint64        // fetches that failed
}

// MemoryStats is what the program uses of its memory.
type MemoryStats struct {
	LimitBytes, UsedBytes int64 // no limit is 0
	Tight                 bool  // queues are shed and new connections refused
	Times                 uint64
}

// Limits are limits in force by name, for metrics: lower case, words joined by '_'.
type Limits struct {
	Bytes  map[string]int64
	Times  map[string]time.Duration
	Counts map[string]int
}

func (c *Config) setDefaults() error {
	if c.Hub == nil {
		return errors.New("admin: Config.Hub is nil")
	}
	if c.MaxBodyBytes < 0 || c.MaxStreams < 0 || c.Heartbeat < 0 || c.WriteTimeout < 0 || c.SampleEvery < 0 || c.Patience < 0 {
		return fmt.Errorf("admin: negative limit: body %d, streams %d, heartbeat %v, write timeout %v, sample every %v, patience %v",
			c.MaxBodyBytes, c.MaxStreams, c.Heartbeat, c.WriteTimeout, c.SampleEvery, c.Patience)
	}
	def(&c.MaxBodyBytes, 8<<20)
	def(&c.MaxStreams, 32)
	def(&c.Heartbeat, 15*time.Second)
	def(&c.WriteTimeout, 30*time.Second)
	def(&c.SampleEvery, time.Second)
	def(&c.Patience, time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
