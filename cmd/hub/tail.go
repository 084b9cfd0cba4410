package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
)

const tailSynopsis = `hub tail [TOPIC...]: show what a spoke receives, an envelope a line.

Topics are type:id, type:* or *; without any the hub decides. What is not an event, such as the
connection's ups and downs, goes to standard error. Where events are missing there is a line of type
__gap: the hub's own, or, after a connection that was lost and made again, this one, with the time in
between, whose events nobody has counted:

  {"type":"__gap","id":"","payload":{"dropped":0,"conflated":0,"reason":"reconnect","awayMs":3212}}`

func tail(ctx context.Context, args []string) error {
	address, token := "ws://127.0.0.1:8080/ws", ""
	count, once := 0, false
	var whom trust
	f := newFlags("tail", tailSynopsis)
	add(f, &address, "url", "WebSocket address of the hub", parseWebSocketURL, showText)
	addSecret(f, &token, "token", "bearer token, sent with the handshake", parseText)
	addTrust(f, &whom)
	add(f, &count, "count", "end after so many events; 0 for never", number(0, 1<<62), func(n int) string { return fmt.Sprint(n) })
	addSwitch(f, &once, "once", "end when the connection ends, instead of connecting again")
	topics, err := parseFlags(f, args, 1<<20)
	if err != nil {
		return err
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	query := u.Query()
	for _, topic := range topics {
		if _, err := codec.ParsePattern(topic); err != nil {
			return &usageError{err}
		}
		warnOfStars("tail", topic)
		query.Add("topic", topic)
	}
	u.RawQuery = query.Encode()
	return runTail(ctx, u.String(), token, whom.config(), count, once, os.Stdout)
}

// starsInside reports whether a pattern has a * that stands for nothing but itself.
func starsInside(pattern string) bool {
	return pattern != "*" && strings.Contains(strings.TrimSuffix(pattern, ":*"), "*")
}

// warnOfStars says so, if it has.
func warnOfStars(command, pattern string) {
	if starsInside(pattern) {
		fmt.Fprintf(os.Stderr, "hub %s: warning: %s is one topic with a literal * in it, not a pattern; patterns are type:* and *\n", command, pattern)
	}
}

// runTail prints events to w until ctx is done, count of them have come, or the hub is gone.
func runTail(ctx context.Context, address, token string, secure *tls.Config, count int, once bool, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errDone := errors.New("done")
	out := bufio.NewWriter(w)
	seen := 0
	ups := upsAndDowns{now: time.Now}
	print := func(e codec.Envelope) {
		line, err := codec.AppendEnvelope(nil, e)
		if err != nil {
			fmt.Fprintln(os.Stderr, "hub tail:", codec.Problem(err))
			return
		}
		_, _ = out.Write(append(line, '\n'))
		if err := out.Flush(); err != nil {
			cancel(err)
		}
	}
	opts := client.Options{
		Header:         http.Header{},
		Logger:         slog.New(slog.DiscardHandler),
		ReadLimitBytes: 1 << 30,
		TLS:            secure,
		OnEvent: func(_ *client.Client, e codec.Envelope) {
			if count > 0 && seen == count {
				return
			}
			print(e)
			if seen++; seen == count {
				cancel(errDone)
			}
		},
		OnGap: func(_ *client.Client, g codec.Gap) { print(codec.Control(codec.TypeGap, "", g)) },
		OnError: func(_ *client.Client, id string, e codec.Error) {
			fmt.Fprintf(os.Stderr, "hub tail: %s: %s\n", e.Code, e.Message)
		},
		OnDrain: func(_ *client.Client, d codec.Drain) {
			fmt.Fprintf(os.Stderr, "hub tail: the hub goes away, reconnecting in %v\n", time.Duration(d.ReconnectAfterMs)*time.Millisecond)
		},
		OnStatus: func(_ *client.Client, s client.Status) {
			// Why it ends is what runTail returns. A hub that is not trusted at first will not be by trying again.
			why := explainTrust(s.Err)
			switch {
			case s.State == client.Closed:
			case s.State == client.Waiting && (once || why != s.Err && !ups.everConnected):
				cancel(explainURL(why, address))
			default:
				s.Err = explainURL(s.Err, address)
				said, gap := ups.next(s)
				if said != "" {
					fmt.Fprintln(os.Stderr, "hub tail:", said)
				}
				if gap != nil {
					print(codec.Control(codec.TypeGap, "", gap))
				}
			}
		},
	}
	if token != "" {
		opts.Header.Set("Authorization", "Bearer "+token)
	}
	c, err := client.Dial(ctx, address, opts)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if err != nil && ctx.Err() != nil { // why there was none has been said
		return errors.New("ended before there was a connection")
	}
	if err != nil {
		return explainToken(err, token)
	}
	select {
	case <-ctx.Done():
	case <-c.Done():
	}
	_ = c.Close(codec.CloseNormal, "")
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errDone) && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if err := c.Err(); ctx.Err() == nil && err != nil {
		return explainToken(err, token)
	}
	return nil
}

// explainURL makes the end of an attempt at a connection that nobody has answered one that says what to do.
func explainURL(err error, address string) error {
	u, parseErr := url.Parse(address)
	if parseErr != nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return explainDial(err, u.Scheme+"://"+u.Host, "--url")
}

// explainToken names the flag for the token that a hub wants.
func explainToken(err error, token string) error {
	if refused := (*client.RefusedError)(nil); token == "" && errors.As(err, &refused) && refused.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("%w; here it is --token TOKEN, as hub token makes one", err)
	}
	return err
}

// upsAndDowns follows the state of a connection, and says what is new about it.
type upsAndDowns struct {
	now           func() time.Time
	everConnected bool
	lostAt        time.Time // zero while there is a connection, and before the first
	said          string
}

// awayGap is the payload of __gap for the time without a connection. What was dispatched then is not known.
type awayGap struct {
	codec.Gap
	AwayMs int64 `json:"awayMs"`
}

// next returns what is to be said of s, nothing if that was said before, and the gap that a connection made again
// comes after.
func (u *upsAndDowns) next(s client.Status) (said string, gap *awayGap) {
	said = s.State.String()
	switch {
	case s.State == client.Waiting:
		said += ": " + codec.Problem(s.Err)
		if u.everConnected && u.lostAt.IsZero() {
			u.lostAt = u.now()
		}
	case !u.lostAt.IsZero():
		away := u.now().Sub(u.lostAt).Round(time.Millisecond)
		said = fmt.Sprintf("connected again after %v: what was published meanwhile is missing", away)
		gap = &awayGap{codec.Gap{Reason: "reconnect"}, away.Milliseconds()}
		u.lostAt = time.Time{}
	}
	u.everConnected = u.everConnected || s.State == client.Connected
	if said == u.said {
		return "", gap
	}
	u.said = said
	return said, gap
}

func parseWebSocketURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return "", fmt.Errorf("%q is not a WebSocket address, which looks like ws://127.0.0.1:8080/ws", s)
	}
	return s, nil
}
