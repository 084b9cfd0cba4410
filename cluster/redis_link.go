package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// redisLink is one connection to Redis, until it breaks.
//
// The server sends a message once for each subscription that selects its channel, one right after the other, and
// says in the same stream from where on a subscription holds. So the link always knows which copies are to come, and takes
// one of them: that of the channel itself, or else that of the widest pattern.
//
// It sends back what was published by the same connection too, in that order. The link expects that, and takes it
// out. (A message of another hub that is the same to the byte may be taken out in its place, and then its own takes the
// other's.)
type redisLink struct {
	// Set by newLink, read-only afterwards.
	engine *redisEngine
	wire   rueidis.DedicatedClient
	conn   net.Conn // nil if none could be made
	server string   // its address
	// lostc says why the connection has broken, and is closed then: by package rueidis, when it reads no more. Set by listen.
	lostc <-chan error

	mu sync.Mutex // a leaf
	// +checklocks:mu
	held held
	// +checklocks:mu
	expected echoes
	// +checklocks:mu
	cause error // why it was given up
}

func (e *redisEngine) newLink() *redisLink {
	l := &redisLink{engine: e}
	l.held.init()
	e.servers.dialled = nil
	l.wire, _ = e.client.Dedicate() // dials
	if made := e.servers.dialled; made != nil {
		l.conn, l.server = made, e.servers.last
	}
	return l
}

// listen begins to take what comes unasked.
func (l *redisLink) listen() {
	l.lostc = l.wire.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: l.onMessage, OnSubscription: l.onSubscription})
}

// onMessage takes a message. It runs on the goroutine that reads the connection.
func (l *redisLink) onMessage(m rueidis.PubSubMessage) {
	came := m.Pattern
	if came == "" {
		came = m.Channel
	}
	l.mu.Lock()
	source, ok := l.held.source(m.Channel)
	ours := ok && source == came && l.expected.take(m.Channel, m.Message)
	l.mu.Unlock()
	if ok && source == came && !ours {
		l.engine.handler.Receive(source, m.Channel, []byte(m.Message))
	}
}

// onSubscription notes what holds from here on. It runs on the goroutine that reads the connection.
func (l *redisLink) onSubscription(s rueidis.PubSubSubscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s.Kind {
	case "subscribe":
		l.held.channels[s.Channel] = struct{}{}
	case "unsubscribe":
		delete(l.held.channels, s.Channel)
	case "psubscribe":
		l.held.addPattern(s.Channel)
	case "punsubscribe":
		l.held.removePattern(s.Channel)
	}
}

// introduce finds out whether the server is one that this engine can do with.
func (l *redisLink) introduce() error {
	answers, err := l.do(l.engine.config.DialTimeout, l.command("HELLO"))
	if err != nil {
		return l.why(err)
	}
	about, err := answers[0].ToMap()
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	text := func(key string) string { m := about[key]; s, _ := m.ToString(); return s }
	proto := about["proto"]
	version, _ := proto.AsInt64()
	switch mode, role := text("mode"), text("role"); {
	case version < 3:
		return errors.New("redis: the server does not speak RESP3, which comes with Redis 6")
	case mode == "sentinel":
		return errors.New("redis: the server is a sentinel: its address begins with redis+sentinel:// or rediss+sentinel://")
	case mode != "cluster" && role != "master" && role != "":
		return errors.New("redis: the server is a replica, what is published there reaches nobody else")
	case mode != "cluster" && l.engine.servers.several():
		return errors.New("redis: several addresses are nodes of one Redis Cluster, and the server is in none")
	}
	return nil
}

// ping returns an error if the server does not answer in time.
func (l *redisLink) ping(timeout time.Duration) error {
	_, err := l.do(timeout, l.command("PING"))
	return err
}

// subscribe sends one of the four commands that change subscriptions. When it returns the change holds, or was
// refused.
func (l *redisLink) subscribe(command string, names []string) (refused, err error) {
	// The answer to the second comes when all of the first has been done.
	answers, err := l.do(l.engine.config.WriteTimeout, l.subscription(command, names), l.command("PING"))
	if err != nil {
		return nil, err
	}
	return answers[0].Error(), nil
}

// publish sends messages, and waits until the server has them.
func (l *redisLink) publish(messages []publication) error {
	commands := make([]rueidis.Completed, len(messages))
	l.mu.Lock()
	batch := l.expected.begin()
	for i, m := range messages {
		commands[i] = l.wire.B().Publish().Channel(m.channel).Message(m.data).Build()
		if _, ok := l.held.source(m.channel); ok {
			l.expected.add(m)
		}
	}
	l.mu.Unlock()
	answers, err := l.do(l.engine.config.WriteTimeout, commands...)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.expected.forgetBefore(batch)
	l.mu.Unlock()
	for i, a := range answers {
		if err := a.Error(); err != nil {
			return fmt.Errorf("publish to %.100q: %w", messages[i].channel, err)
		}
	}
	return nil
}

func (l *redisLink) command(words ...string) rueidis.Completed {
	return l.wire.B().Arbitrary(words...).Build()
}

// subscription returns one of the four commands that change subscriptions: package rueidis has to know them, for they
// have no answer of their own.
func (l *redisLink) subscription(command string, names []string) rueidis.Completed {
	switch b := l.wire.B(); command {
	case "SUBSCRIBE":
		return b.Subscribe().Channel(names...).Build()
	case "PSUBSCRIBE":
		return b.Psubscribe().Pattern(names...).Build()
	case "UNSUBSCRIBE":
		return b.Unsubscribe().Channel(names...).Build()
	default:
		return b.Punsubscribe().Pattern(names...).Build()
	}
}

// do sends commands, and returns the answers. The error says that the connection is of no use any more.
func (l *redisLink) do(timeout time.Duration, commands ...rueidis.Completed) ([]rueidis.RedisResult, error) {
	ctx, cancel := context.WithTimeout(l.engine.ctx, timeout)
	defer cancel()
	answers := l.wire.DoMulti(ctx, commands...)
	for _, a := range answers {
		if err := a.NonRedisError(); err != nil {
			if ctx.Err() != nil && l.engine.ctx.Err() == nil {
				err = fmt.Errorf("the server has not answered for %v", timeout)
			}
			return nil, err
		}
	}
	return answers, nil
}

// fail gives the connection up, for a reason that Handler.Down is told.
func (l *redisLink) fail(cause error) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = cause
	}
	l.mu.Unlock()
	l.cut()
}

// why returns the reason for which the connection was given up, or else the one given.
func (l *redisLink) why(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		err = l.cause
	}
	return fmt.Errorf("redis: %w", withoutPrefix{err})
}

// withoutPrefix is an error of package rueidis without its name, for operators know Redis.
type withoutPrefix struct{ error }

func (e withoutPrefix) Error() string { return strings.TrimPrefix(e.error.Error(), "rueidis ") }
func (e withoutPrefix) Unwrap() error { return e.error }

// cut closes the socket, which ends all that waits for it.
func (l *redisLink) cut() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// close returns when nothing is read any more.
func (l *redisLink) close() {
	l.cut()
	if l.lostc != nil {
		for range l.lostc {
		}
	}
	l.wire.Close() // and gives it back to the client's pool, which throws it away
}
