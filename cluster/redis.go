package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// RedisConfig says how to reach Redis. The zero value of every field but Servers is a sensible default.
type RedisConfig struct {
	// Servers are addresses: redis://user:password@host:6379 or rediss://host:6379 for TLS; several are nodes of
	// one Redis Cluster, of which any will do. With redis+sentinel://host:26379/name or rediss+sentinel://... they are
	// sentinels that know the primary of that name.
	Servers []string
	// Name is what the server calls this connection, without spaces.
	Name string
	// Password is for addresses that hold none.
	Password string
	TLS      *tls.Config // nil for the system's

	// PingInterval is how often it is tried whether the server answers; one that has not for two of them
	// counts as lost. 2 s by default.
	PingInterval time.Duration
	// WriteTimeout is how long the server may take to answer what else it is sent; 5 s by default.
	WriteTimeout time.Duration
	// DialTimeout is how long one attempt to connect may take; 2 s by default.
	DialTimeout time.Duration

	Logger *slog.Logger // slog.Default by default
}

const (
	// A batch of messages is as large as what has gathered while the one before was answered, but not larger
	// than this.
	batchMessages = 512
	batchBytes    = 256 << 10
	// batchChannels is how many channels are subscribed to at once.
	batchChannels = 512
	// The buffers of a connection.
	redisReadBytes, redisWriteBytes = 64 << 10, 64 << 10
	// settled is how long a connection has lasted when losing it is not taken for the next failure of the same
	// kind.
	settled = 2 * maxPause
)

// redisEngine implements Engine with one connection, by which it publishes and is subscribed. So the server sees both
// in the order of the calls, and what it sends back of what was published here can be told from the rest.
type redisEngine struct {
	// Set by Redis and Start, read-only afterwards.
	config  RedisConfig
	servers redisServers
	client  rueidis.Client // makes connections; has none of its own
	handler Handler
	dialTCP func(ctx context.Context, address string) (net.Conn, error)
	ctx     context.Context // done with Close
	stop    context.CancelFunc
	running sync.WaitGroup

	// Any goroutine, atomically.
	up     atomic.Bool
	server atomic.Value // string

	// The goroutine of Publish and Flush only.
	gathered      []publication
	gatheredBytes int

	// order is held while the server is sent something and has not answered. It is not a leaf: redisLink.mu may be
	// locked while it is held, and it is held across writes, but for what has a deadline.
	order sync.Mutex
	// +checklocks:order
	wanted map[string]Subject
	// +checklocks:order
	link *redisLink // nil without a connection
}

// publication is a message that is to be published.
type publication struct{ channel, data string }

var errRedisAway = errors.New("redis: there is no connection")

// Redis returns an engine that is not connected yet. The error is about the configuration, and names no secret.
func Redis(c RedisConfig) (Engine, error) {
	servers, err := parseRedisServers(c.Servers, c.Password)
	if err != nil {
		return nil, err
	}
	c.PingInterval = cmp.Or(c.PingInterval, defaultPingInterval)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, defaultWriteTimeout)
	c.DialTimeout = cmp.Or(c.DialTimeout, defaultDialTimeout)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	e := &redisEngine{config: c, servers: servers, wanted: make(map[string]Subject), dialTCP: dialTCP}
	e.server.Store("")
	return e, nil
}

// Kind implements Engine.
func (e *redisEngine) Kind() string { return "redis" }

// Start implements Engine.
func (e *redisEngine) Start(h Handler) error {
	e.handler = h
	e.ctx, e.stop = context.WithCancel(context.Background())
	if err := e.makeClient(); err != nil {
		e.stop()
		return err
	}
	e.running.Go(e.run)
	return nil
}

// run keeps a connection, until Close.
func (e *redisEngine) run() {
	wasUp := true // so that the first failure is told
	last := ""
	for attempt := 1; ; attempt++ {
		began := time.Now()
		l, err := e.connect()
		if err == nil {
			e.server.Store(l.server)
			e.up.Store(true)
			e.handler.Up()
			wasUp = true
			err = e.watch(l)
			e.up.Store(false)
			e.server.Store("")
			e.disconnect(l)
			if time.Since(began) > settled {
				attempt = 1
			}
		}
		if e.ctx.Err() != nil {
			return
		}
		if wasUp {
			wasUp = false
			e.handler.Down(err)
		} else if last != err.Error() { // of several servers each may have its own reason
			e.config.Logger.Warn("no connection to redis", slog.Any("error", err))
		}
		last = err.Error()
		select {
		case <-time.After(Backoff(attempt)):
		case <-e.ctx.Done():
			return
		}
	}
}

// connect makes a connection by which everything that is wanted is asked for.
func (e *redisEngine) connect() (*redisLink, error) {
	l := e.newLink()
	err := l.introduce()
	if err != nil {
		l.close()
		return nil, err
	}
	l.listen()
	e.order.Lock()
	defer e.order.Unlock()
	if err = e.subscribeLocked(l, slices.Collect(maps.Values(e.wanted))); err != nil {
		l.close()
		return nil, err
	}
	e.link = l
	return l, nil
}

func (e *redisEngine) disconnect(l *redisLink) {
	l.cut() // whoever waits for an answer waits no longer
	e.order.Lock()
	e.link = nil
	e.order.Unlock()
	l.close()
}

// watch returns when the connection is lost, with the cause, or with Close.
func (e *redisEngine) watch(l *redisLink) error {
	ticker := time.NewTicker(e.config.PingInterval)
	defer ticker.Stop()
	for {
		select {
		case err := <-l.lostc:
			if err == nil {
				err = errRedisAway
			}
			return l.why(err)
		case <-ticker.C:
			if err := l.ping(2 * e.config.PingInterval); err != nil {
				return l.why(err)
			}
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
	}
}

// Subscribe implements Engine.
func (e *redisEngine) Subscribe(subjects ...Subject) {
	e.order.Lock()
	defer e.order.Unlock()
	var news []Subject
	for _, s := range subjects {
		if _, ok := e.wanted[s.Name]; !ok {
			e.wanted[s.Name] = s
			news = append(news, s)
		}
	}
	if e.link != nil {
		if err := e.subscribeLocked(e.link, news); err != nil {
			e.link.fail(err)
		}
	}
}

// subscribeLocked asks for subjects by a connection, many at a time. What the server refuses is logged: who may not have one
// topic may have the others.
func (e *redisEngine) subscribeLocked(l *redisLink, subjects []Subject) error {
	return e.inBatches(subjects, func(command string, names []string) error {
		refused, err := l.subscribe(command, names)
		if err != nil || refused == nil || len(names) == 1 {
			if refused != nil && err == nil {
				e.config.Logger.Error("redis: subscribe", slog.String("channel", names[0]), slog.Any("error", refused))
			}
			return err
		}
		for _, name := range names {
			refused, err := l.subscribe(command, []string{name})
			if err != nil {
				return err
			}
			if refused != nil {
				e.config.Logger.Error("redis: subscribe", slog.String("channel", name), slog.Any("error", refused))
			}
		}
		return nil
	}, "SUBSCRIBE", "PSUBSCRIBE")
}

// Unsubscribe implements Engine.
func (e *redisEngine) Unsubscribe(subjects ...Subject) {
	e.order.Lock()
	defer e.order.Unlock()
	for _, s := range subjects {
		delete(e.wanted, s.Name)
	}
	if e.link == nil {
		return
	}
	err := e.inBatches(subjects, func(command string, names []string) error {
		_, err := e.link.subscribe(command, names)
		return err
	}, "UNSUBSCRIBE", "PUNSUBSCRIBE")
	if err != nil {
		e.link.fail(err)
	}
}

// inBatches calls do for channels, and for patterns of them, until it fails.
func (e *redisEngine) inBatches(subjects []Subject, do func(command string, names []string) error, channels, patterns string) error {
	var names [2][]string
	for _, s := range subjects {
		if s.Glob {
			names[1] = append(names[1], s.Name)
		} else {
			names[0] = append(names[0], s.Name)
		}
	}
	for i, command := range []string{channels, patterns} {
		for batch := range slices.Chunk(names[i], batchChannels) {
			if err := do(command, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// Publish implements Engine.
func (e *redisEngine) Publish(subject string, data []byte) error {
	if !e.up.Load() {
		return errRedisAway
	}
	e.gathered = append(e.gathered, publication{subject, string(data)})
	if e.gatheredBytes += len(subject) + len(data); len(e.gathered) >= batchMessages || e.gatheredBytes >= batchBytes {
		e.Flush()
	}
	return nil
}

// maxBulkBytes is Redis' proto-max-bulk-len, unless that is changed: it ends a connection by which more comes.
const maxBulkBytes = 512 << 20

// MaxBytes implements Engine.
func (e *redisEngine) MaxBytes() int64 { return maxBulkBytes }

// Flush implements Engine. If it fails the connection is lost, and every hub hears of that.
func (e *redisEngine) Flush() {
	if len(e.gathered) == 0 {
		return
	}
	e.order.Lock()
	if e.link != nil {
		if err := e.link.publish(e.gathered); err != nil {
			e.link.fail(err)
		}
	}
	e.order.Unlock()
	clear(e.gathered)
	e.gathered, e.gatheredBytes = e.gathered[:0], 0
}

// Server implements Engine.
func (e *redisEngine) Server() string { return e.server.Load().(string) }

// Close implements Engine.
func (e *redisEngine) Close() {
	e.Flush()
	e.stop()
	e.running.Wait()
	e.client.Close()
}
