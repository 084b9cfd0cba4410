package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/alkdev/hub/codec"
)

// Options says how a client connects and what it reports. The zero Options is ready for use; a zero
// field means its default. They are copied by Dial.
type Options struct {
	// HTTPClient makes the handshakes. Default: one of the client's own that honours the environment's
	// proxy settings. Credentials that change belong into the Transport of a given one.
	HTTPClient *http.Client
	// TLS is for "wss://": whom to believe that it is the hub, and a certificate of one's own. Default:
	// the system's authorities. It is not used with an HTTPClient, which has its own.
	TLS *tls.Config
	// Header is sent with every handshake, for example Authorization or Origin.
	Header http.Header
	// Token returns a token, for every handshake and again before the one in use expires: it is then sent
	// as __auth, and the connection stays. It runs on a goroutine of the client's, with Timeout. With an
	// error the client tries again later. Nil means that Header says all there is to say; then an answer
	// of 401, or a connection closed with 4001, is the end.
	Token func(context.Context) (string, error)
	// Logger gets lost connections, panics in callbacks and what a hub should not have sent. Default:
	// slog.Default().
	Logger *slog.Logger

	// OnEvent is a listener for everything, in place before the first event can arrive.
	OnEvent func(*Client, codec.Envelope)
	// OnStatus is told of every connection made and lost, and of the end. Like every callback with a
	// *Client it may run before Dial has returned that.
	OnStatus func(*Client, Status)
	// OnWelcome gets the __welcome that begins a connection; SpokeID and Node are set by then.
	OnWelcome func(*Client, codec.Welcome)
	// OnGap gets a __gap, at the place in the stream where events are missing.
	OnGap func(*Client, codec.Gap)
	// OnError gets an __error, the hub's answer to an event or subscription that it did not take; id is
	// that of the envelope.
	OnError func(c *Client, id string, err codec.Error)
	// OnDrain gets a __drain: the hub will end the connection.
	OnDrain func(*Client, codec.Drain)
	// OnReserved gets every other event of the hub's own, as it came: __subscribed, __unsubscribed, and
	// what newer hubs may add.
	OnReserved func(*Client, codec.Envelope)

	// SubscribeListeners subscribes to the pattern of every listener added by AddListener, for as long
	// as one has it. OnEvent is not meant.
	SubscribeListeners bool

	// QueueBytes bounds what Dispatch has taken and the connection has not. Default: 1 MiB.
	QueueBytes int
	// ReadLimitBytes bounds a message from the hub; a larger one ends the connection with code 1009.
	// Default: 1 MiB.
	ReadLimitBytes int64

	// BackoffMin is the ceiling of the first random wait. Default: 100 ms.
	BackoffMin time.Duration
	// BackoffMax bounds the ceiling, which doubles with every failure. Default: 30 s.
	BackoffMax time.Duration
	// Ping is how often the client pings the hub. Default: 30 s.
	Ping time.Duration
	// Timeout bounds, each on its own, a handshake, the write of an event, the wait for a pong, and
	// Close. Default: 10 s.
	Timeout time.Duration
}

// complete returns o with the defaults, or an error about a field that makes no sense.
func (o Options) complete() (Options, error) {
	o.QueueBytes = cmp.Or(o.QueueBytes, 1<<20)
	o.ReadLimitBytes = cmp.Or(o.ReadLimitBytes, 1<<20)
	o.BackoffMin = cmp.Or(o.BackoffMin, 100*time.Millisecond)
	o.BackoffMax = cmp.Or(o.BackoffMax, max(o.BackoffMin, 30*time.Second))
	o.Ping = cmp.Or(o.Ping, 30*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.Header = o.Header.Clone()
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"QueueBytes", int64(o.QueueBytes)},
		{"ReadLimitBytes", o.ReadLimitBytes},
		{"BackoffMin", int64(o.BackoffMin)},
		{"Ping", int64(o.Ping)},
		{"Timeout", int64(o.Timeout)},
	} {
		if field.value < 0 {
			return o, fmt.Errorf("client: options: %s is negative", field.name)
		}
	}
	if o.BackoffMax < o.BackoffMin {
		return o, fmt.Errorf("client: options: BackoffMax (%v) is less than BackoffMin (%v)", o.BackoffMax, o.BackoffMin)
	}
	return o, nil
}
