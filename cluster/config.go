package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Config says how a Member behaves. The zero value of every field but Engine and Format is a sensible
// default.
type Config struct {
	Engine Engine
	Format Format

	// Node is the hub's name, told to the others.
	Node string
	// ID is the hub's among the others: up to 32 lower case letters and digits, another one after
	// every start. A random one by default.
	ID string
	// Refuse makes what is dispatched while the engine is away fail with fanout.ErrNotForwarded, instead of
	// reaching the spokes of this hub alone.
	Refuse bool
	// QueueBytes bounds what waits for the engine, and again what has come from it and waits for the
	// hub; 64 MiB by default.
	QueueBytes int64
	// Linger is for how long a hub goes on asking for a topic after its last taker has gone; 2 s by
	// default.
	Linger time.Duration
	// Beat is how often a hub tells the others that it is there; 1 s by default. One that has been silent
	// for three beats counts as lost.
	Beat time.Duration
	// Timeout is how long another hub may take to answer; 2 s by default.
	Timeout time.Duration

	Logger *slog.Logger // slog.Default by default
}

// Defaults of Config.
const (
	DefaultQueueBytes = 64 << 20
	DefaultLinger     = 2 * time.Second
	DefaultBeat       = time.Second
	DefaultTimeout    = 2 * time.Second
)

// The defaults of a connection to a server, NATS or Redis.
const (
	defaultPingInterval = 2 * time.Second
	defaultWriteTimeout = 5 * time.Second
	defaultDialTimeout  = 2 * time.Second
)

// missedBeats is after how many beats a hub counts as lost.
const missedBeats = 3

func (c *Config) setDefaults() error {
	if c.Engine == nil || c.Format == nil {
		return errors.New("cluster: Config.Engine or Config.Format is nil")
	}
	if c.ID == "" {
		c.ID = NewID()
	}
	if !validID(c.ID) {
		return fmt.Errorf("cluster: id %.100q is not one of up to %d lower case letters and digits", c.ID, maxIDBytes)
	}
	if c.QueueBytes < 0 || c.Linger < 0 || c.Beat < 0 || c.Timeout < 0 {
		return fmt.Errorf("cluster: negative limit: queue %d, linger %v, beat %v, timeout %v", c.QueueBytes, c.Linger, c.Beat, c.Timeout)
	}
	c.QueueBytes = cmp.Or(c.QueueBytes, DefaultQueueBytes)
	c.Linger = cmp.Or(c.Linger, DefaultLinger)
	c.Beat = cmp.Or(c.Beat, DefaultBeat)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return nil
}

// NewID returns a random Config.ID, for whoever has to know it before.
func NewID() string { return fmt.Sprintf("%08x", rand.Uint32()) }
