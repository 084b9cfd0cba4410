package cluster

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// NATSConfig says how to reach NATS. The zero value of every field but Servers is a sensible default.
type NATSConfig struct {
	// Servers are addresses of one cluster of servers, such as nats://user:password@host:4222 or
	// tls://host:4222. They are tried in turn.
	Servers []string
	// InProcess is a server in this process, in place of Servers.
	InProcess nats.InProcessConnProvider
	// Name is what the server calls this connection.
	Name string

	// How the hub says who it is: a file of credentials, a file with the seed of an nkey, a token, or a
	// user and password, which may also be in the addresses.
	CredentialsFile, NKeyFile string
	Token                     string
	User, Password            string
	TLS                       *tls.Config // nil for the system's

	// Dialer makes the connections, if a plain one is not what is wanted.
	Dialer nats.CustomDialer

	// PingInterval is how often a silent connection is tried; after two pings unanswered it counts as
	// lost. 2 s by default.
	PingInterval time.Duration
	// WriteTimeout is how long the connection may take nothing of what is written before it counts as lost; 5 s by
	// default.
	WriteTimeout time.Duration
	// DialTimeout is how long one attempt to connect may take; 2 s by default.
	DialTimeout time.Duration

	Logger *slog.Logger // slog.Default by default
}

// inboxMessages is how many messages may have been read from the connection and not yet been queued by
// Handler.Receive, which is quick.
const inboxMessages = 16 << 10

// natsEngine implements Engine.
type natsEngine struct {
	// Set by NATS and Start, read-only afterwards.
	config  NATSConfig
	options []nats.Option
	conn    *nats.Conn
	handler Handler
	inboxc  chan *nats.Msg // closed by Close
	passedc chan struct{}  // receive has come to a message that is none
	donec   chan struct{}  // closed by receive
	down    atomic.Bool    // Handler.Down has been called and Up has not, or neither
	server  atomic.Value   // string
	// maxBytes is the server's max_payload.
	maxBytes atomic.Int64

	mu sync.Mutex // a leaf, but for those of package nats
	// +checklocks:mu
	subs map[string]*nats.Subscription
	// +checklocks:mu
	dropped map[*nats.Subscription]int // as far as Handler.Lost has been told
	// +checklocks:mu
	reason string // why the last attempt to connect has failed
}

// NATS returns an engine that is not connected yet. The error is about the configuration, and names no secret.
func NATS(c NATSConfig) (Engine, error) {
	if len(c.Servers) == 0 && c.InProcess == nil {
		return nil, errors.New("cluster: no NATS server is named")
	}
	for _, s := range c.Servers {
		if u, err := url.Parse(s); err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return nil, errors.New("cluster: a NATS address is not like nats://host:4222 or tls://host:4222")
		}
	}
	c.PingInterval = cmp.Or(c.PingInterval, defaultPingInterval)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, defaultWriteTimeout)
	c.DialTimeout = cmp.Or(c.DialTimeout, defaultDialTimeout)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	e := &natsEngine{
		config: c, subs: make(map[string]*nats.Subscription), dropped: make(map[*nats.Subscription]int),
		inboxc: make(chan *nats.Msg, inboxMessages), donec: make(chan struct{}), passedc: make(chan struct{}),
	}
	e.server.Store("")
	e.options = []nats.Option{
		nats.Name(c.Name), nats.NoEcho(),
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(Backoff), nats.ReconnectBufSize(-1),
		nats.PingInterval(c.PingInterval), nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(c.WriteTimeout), nats.Timeout(c.DialTimeout),
		nats.ConnectHandler(e.up), nats.ReconnectHandler(e.up),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { e.lostConnection(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { e.notConnected(err) }),
		nats.ErrorHandler(e.failed), nats.SkipSubjectValidation(),
	}
	if c.Dialer != nil {
		e.options = append(e.options, nats.SetCustomDialer(c.Dialer))
	}
	if c.InProcess != nil {
		e.options = append(e.options, nats.InProcessServer(c.InProcess))
	}
	if c.TLS != nil {
		e.options = append(e.options, nats.Secure(c.TLS))
	}
	return e, e.authenticate()
}

func (e *natsEngine) authenticate() error {
	c := &e.config
	ways := 0
	if c.CredentialsFile != "" {
		ways++
		e.options = append(e.options, nats.UserCredentials(c.CredentialsFile))
	}
	if c.NKeyFile != "" {
		ways++
		option, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil {
			return fmt.Errorf("cluster: the file of the nkey: %w", err)
		}
		e.options = append(e.options, option)
	}
	if c.Token != "" {
		ways++
		e.options = append(e.options, nats.Token(c.Token))
	}
	if c.User != "" {
		ways++
		e.options = append(e.options, nats.UserInfo(c.User, c.Password))
	}
	if ways > 1 {
		return errors.New("cluster: credentials, nkey, token, user: one of them")
	}
	return nil
}

// Kind implements Engine.
func (e *natsEngine) Kind() string { return "nats" }

// Start implements Engine.
func (e *natsEngine) Start(h Handler) error {
	e.handler = h
	e.down.Store(true)
	conn, err := nats.Connect(strings.Join(e.config.Servers, ","), e.options...)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	e.conn = conn
	go e.receive() // ends with inboxc
	return nil
}

// up says that there is a connection. Package nats has asked again for everything by then; once the server has answered
// it has done as it was asked, and what it was sent before has been missed by nobody whom Handler.Up does not tell.
func (e *natsEngine) up(conn *nats.Conn) {
	if err := conn.FlushTimeout(e.config.WriteTimeout); err != nil && !conn.IsConnected() {
		return // it is lost again, and up is called for the next
	}
	e.maxBytes.Store(conn.MaxPayload())
	e.server.Store(withoutUser(conn.ConnectedUrl()))
	e.mu.Lock()
	e.reason = ""
	e.mu.Unlock()
	if e.down.CompareAndSwap(true, false) {
		e.handler.Up()
	}
}

// lostConnection says that there is none; once, however many attempts fail.
func (e *natsEngine) lostConnection(cause error) {
	if cause == nil { // Close, or a server that has said it will go away
		cause = errors.New("the server has closed the connection")
	}
	if e.down.CompareAndSwap(false, true) {
		e.server.Store("")
		e.handler.Down(cause)
	}
}

// notConnected takes why an attempt to connect has failed, and says so unless it has just said the same: a hub that
// is refused from the start has nothing else to tell it.
func (e *natsEngine) notConnected(cause error) {
	e.lostConnection(cause)
	if cause == nil {
		return
	}
	e.mu.Lock()
	same := e.reason == cause.Error()
	e.reason = cause.Error()
	e.mu.Unlock()
	if !same {
		e.config.Logger.Warn("nats: not connected, and trying again", slog.String("error", cause.Error()))
	}
}

// withoutUser returns a server's address without who the hub is there: a name alone is a token.
func withoutUser(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}

// failed takes what package nats finds out beside: above all that it had to drop messages.
func (e *natsEngine) failed(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
		e.countDropped(sub)
		return
	}
	e.config.Logger.Error("nats", slog.Any("error", err))
}

// dropsSettle is how long no message may have been dropped before that is taken for the end of it.
const dropsSettle = 200 * time.Millisecond

// countDropped tells how many messages a subscription has dropped, and looks again until it drops no more: package
// nats reports the first of them only.
func (e *natsEngine) countDropped(sub *nats.Subscription) {
	total, err := sub.Dropped()
	if err != nil { // it has been given up
		return
	}
	e.mu.Lock()
	more := total - e.dropped[sub]
	e.dropped[sub] = total
	e.mu.Unlock()
	if more > 0 {
		e.handler.Lost(uint64(more), "")
		time.AfterFunc(dropsSettle, func() { e.countDropped(sub) })
	}
}

// Subscribe implements Engine.
func (e *natsEngine) Subscribe(subjects ...Subject) {
	for _, s := range subjects {
		e.mu.Lock()
		known := e.subs[s.Name] != nil
		e.mu.Unlock()
		if known {
			continue
		}
		sub, err := e.conn.ChanSubscribe(s.Name, e.inboxc)
		if err != nil {
			e.config.Logger.Error("nats: subscribe", slog.String("subject", s.Name), slog.Any("error", err))
			continue
		}
		e.mu.Lock()
		e.subs[s.Name] = sub
		e.mu.Unlock()
	}
}

// Unsubscribe implements Engine. Package nats throws away what comes for a subscription that is given up: so the
// server is first made to answer, for then it has sent all that it had for it alone.
func (e *natsEngine) Unsubscribe(subjects ...Subject) {
	e.flush() // without a connection nothing is on its way
	for _, s := range subjects {
		e.mu.Lock()
		sub := e.subs[s.Name]
		delete(e.subs, s.Name)
		delete(e.dropped, sub)
		e.mu.Unlock()
		if sub != nil {
			_ = sub.Unsubscribe() // an error says that it is not there
		}
	}
	// What has come by them is received before anything is asked for again: by then numbers may be missing.
	e.inboxc <- &nats.Msg{}
	<-e.passedc
}

// Publish implements Engine.
func (e *natsEngine) Publish(subject string, data []byte) error { return e.conn.Publish(subject, data) }

// MaxBytes implements Engine.
func (e *natsEngine) MaxBytes() int64 { return e.maxBytes.Load() }

// Flush implements Engine. Package nats has a goroutine for that.
func (e *natsEngine) Flush() {}

// Server implements Engine.
func (e *natsEngine) Server() string { return e.server.Load().(string) }

// flush waits until the server has taken what it was given, if it is there: package nats would wait for it to come
// back.
func (e *natsEngine) flush() {
	if e.conn.IsConnected() {
		_ = e.conn.FlushTimeout(e.config.WriteTimeout)
	}
}

// receive gives the handler what arrives, until Close.
func (e *natsEngine) receive() {
	defer close(e.donec)
	for m := range e.inboxc {
		if m.Sub == nil { // from Unsubscribe
			e.passedc <- struct{}{}
			continue
		}
		e.handler.Receive(m.Sub.Subject, m.Subject, m.Data)
	}
}

// Close implements Engine.
func (e *natsEngine) Close() {
	e.flush()          // what was published last; without a connection it is lost
	e.down.Store(true) // not to be called an outage
	e.conn.Close()
	close(e.inboxc)
	<-e.donec
}
