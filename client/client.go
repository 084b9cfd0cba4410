package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkdev/hub/codec"
)

// Client is one spoke of a hub. It is made by Dial. All methods may be called from any goroutine, in
// callbacks too.
type Client struct {
	// Set by Dial, read-only afterwards.
	url     string
	opts    Options
	http    *http.Client
	ctx     context.Context // done from the moment at which no further connection will be made
	cancel  context.CancelFunc
	readyc  chan struct{}      // closed by run with the first connection
	donec   chan struct{}      // closed by run, when nothing is left
	wakec   chan struct{}      // one slot, never closed: there may be something to write
	expiryc chan time.Duration // one slot, never closed: what is left of the token in use

	inCallback atomic.Bool // set by the reading goroutine

	// The goroutine of run only, which is the reading goroutine; Dial reads lastErr after donec.
	backoff backoff
	ready   bool
	lastErr error         // of the latest connection or attempt
	drain   time.Duration // to wait, from the latest connection's __drain; else noDrain
	matched []*listener   // scratch

	// mu is a leaf lock: nothing is locked, written or called while holding it.
	mu sync.Mutex
	// +checklocks:mu
	listeners listeners
	// +checklocks:mu
	subs subscriptions
	// +checklocks:mu
	queue queue
	// +checklocks:mu
	auth []byte // an __auth to be sent ahead of all else, nil if there is none
	// +checklocks:mu
	conn *conn // nil while there is none
	// +checklocks:mu
	welcome codec.Welcome
	// +checklocks:mu
	err error // why there will be no further connection, nil while there may be one
	// +checklocks:mu
	closeCode codec.CloseCode // set together with err
	// +checklocks:mu
	closeReason string
}

// Dial connects to a hub: "ws://" or "wss://" with host and path, and topics to begin with as
// "?topic=tick:42&topic=order:*". It returns when the hub has taken the connection, and goes on trying
// until then. It fails with a *RefusedError that is Permanent, with the context's error, or at once on
// an argument that makes no sense.
//
// ctx belongs to the client, not to this call: cancelling it closes the client like Close, with code
// 1001. To bound only the first connection, cancel from a timer that is stopped when Dial has returned.
func Dial(ctx context.Context, url string, opts Options) (*Client, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	topics, err := checkURL(url)
	if err != nil {
		return nil, err
	}
	c := newClient(ctx, url, topics, opts)
	disarm := context.AfterFunc(ctx, func() { c.stop(codec.CloseGoingAway, "", context.Cause(ctx)) })
	go func() {
		defer disarm()
		c.run()
	}()

	select {
	case <-c.readyc:
	case <-c.donec:
	}
	select {
	case <-c.readyc:
		return c, nil
	default:
	}
	err = c.Err()
	switch {
	case c.permanent(err):
		return nil, err
	case c.lastErr != nil:
		return nil, fmt.Errorf("client: dial: %w; the last attempt gave: %w", err, c.lastErr)
	}
	return nil, fmt.Errorf("client: dial: %w", err)
}

// newClient returns a client that does not run yet.
func newClient(ctx context.Context, url string, topics []codec.Pattern, opts Options) *Client {
	c := &Client{
		url:     url,
		opts:    opts,
		http:    opts.HTTPClient,
		readyc:  make(chan struct{}),
		donec:   make(chan struct{}),
		wakec:   make(chan struct{}, 1),
		expiryc: make(chan time.Duration, 1),
		backoff: newBackoff(opts.BackoffMin, opts.BackoffMax),
		subs:    newSubscriptions(topics),
		queue:   queue{limit: opts.QueueBytes},
	}
	if c.http == nil {
		// Without keep-alive, a refused handshake leaves no connection and no goroutine behind.
		c.http = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: opts.TLS}}
	}
	if opts.OnEvent != nil {
		c.listeners.add(codec.Everything, func(e codec.Envelope) { opts.OnEvent(c, e) })
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return c
}

// checkURL returns the topics that the URL names.
func checkURL(text string) ([]codec.Pattern, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("client: dial: %w", err)
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
	default:
		return nil, fmt.Errorf("client: dial: scheme %q, it is ws or wss", u.Scheme)
	}
	if u.Host == "" {
		return nil, errors.New("client: dial: the URL has no host")
	}
	return parsePatterns(u.Query()["topic"])
}

func parsePatterns(texts []string) ([]codec.Pattern, error) {
	patterns := make([]codec.Pattern, 0, len(texts))
	for _, text := range texts {
		p, err := codec.ParsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// Dispatch queues an event for the hub and returns without waiting for it to leave. The event is
// copied. Errors: ErrClosed, ErrQueueFull, a *codec.EnvelopeError for what is not an envelope, and
// another one for a type that is reserved for the hub.
func (c *Client) Dispatch(event codec.Envelope) error {
	if event.Reserved() {
		return fmt.Errorf("client: dispatch: type %.300q is reserved for the hub", event.Type)
	}
	encoded, err := codec.AppendEnvelope(nil, event)
	if err != nil {
		return fmt.Errorf("client: dispatch: %w", err)
	}
	c.mu.Lock()
	closed := c.err != nil
	taken := !closed && c.queue.push(encoded)
	c.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case !taken:
		return ErrQueueFull
	}
	c.wake()
	return nil
}

// AddListener calls fn for every event that matches pattern ("type:id", "type:" or "type:*", "*"). It
// does not subscribe, see the package comment and Options.SubscribeListeners. The hub's own events do
// not come here but to the callbacks in Options. Listeners of one event are called in the order in
// which they were added.
//
// The event's bytes are shared by all listeners and may be kept, not changed. Calling remove more than
// once is harmless; when it has returned no further call begins, except that one may be under way if it
// was called outside a callback.
func (c *Client) AddListener(pattern string, fn func(codec.Envelope)) (remove func(), err error) {
	p, err := codec.ParsePattern(pattern)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c.mu.Lock()
	l := c.listeners.add(p, fn)
	c.listenLocked(p, +1)
	c.mu.Unlock()
	c.wake()
	return func() {
		c.mu.Lock()
		if c.listeners.remove(l) {
			c.listenLocked(p, -1)
		}
		c.mu.Unlock()
		c.wake()
	}, nil
}

// listenLocked lets the subscriptions follow the listeners.
func (c *Client) listenLocked(p codec.Pattern, by int) {
	if c.opts.SubscribeListeners {
		c.subs.listen(p, by)
	}
}

// Subscribe asks the hub for the topics of the patterns, now and on every later connection. What is
// dispatched afterwards leaves after the subscription. The hub answers with __subscribed
// (Options.OnReserved) or __error. Errors: ErrClosed, and a pattern that is none, in which case nothing
// is subscribed to.
func (c *Client) Subscribe(patterns ...string) error {
	return c.subscribe(patterns, (*subscriptions).subscribe)
}

// Unsubscribe takes back what Subscribe or the URL asked for; other patterns are ignored. A spoke that
// has taken back everything gets nothing, also on later connections. Errors as for Subscribe.
func (c *Client) Unsubscribe(patterns ...string) error {
	return c.subscribe(patterns, (*subscriptions).unsubscribe)
}

func (c *Client) subscribe(texts []string, change func(*subscriptions, codec.Pattern)) error {
	patterns, err := parsePatterns(texts)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return ErrClosed
	}
	for _, p := range patterns {
		change(&c.subs, p)
	}
	c.mu.Unlock()
	c.wake()
	return nil
}

// wake has the writing goroutine look for something to write.
func (c *Client) wake() {
	select {
	case c.wakec <- struct{}{}:
	default: // it will look anyway
	}
}

// SpokeID returns the id that the hub gave this spoke in its latest __welcome, "" before the first.
func (c *Client) SpokeID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.welcome.Spoke
}

// Node returns the name of the hub from its latest __welcome, "" before the first.
func (c *Client) Node() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.welcome.Node
}

// Done returns a channel that is closed when the client has ended: nothing of it runs any more.
func (c *Client) Done() <-chan struct{} { return c.donec }

// Err returns why the client ends or has ended: ErrClosed, the cause of Dial's context, or the refusal
// that made it give up (*RefusedError or *CloseError). It is nil until then.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
