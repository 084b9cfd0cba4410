package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sayEvery is how often the log says that hubs refuse each other, or that one cannot be reached: the server tries
// about once a second, for as long as it takes.
const sayEvery = time.Minute

// serverLog is what the server says, as the hub's log: at the level that it has for a hub, and in its words
// where an operator has to do something.
type serverLog struct {
	logger   *slog.Logger
	refusals atomic.Uint64

	mu sync.Mutex // a leaf
	// +checklocks:mu
	said map[string]time.Time // when something was last logged that is not to be said at every attempt
}

// Noticef is about the server's own start and end, of no interest here.
func (l *serverLog) Noticef(format string, v ...any) {
	l.logger.Debug("nats: " + fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.HasPrefix(text, "Plaintext passwords detected") {
		return // one is made for this process alone, the other is --cluster-auth, which is no file of users
	}
	l.logger.Warn("nats: " + text)
}

func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	switch {
	case strings.Contains(text, "Route Error") && strings.Contains(text, "Authorization Violation"):
		l.refusal("another hub refuses this one: --cluster-auth is not the same at both", text)
	case isRoute(text) && strings.Contains(text, "authentication error"):
		l.refusal("this hub refuses another one: --cluster-auth is not the same at both", text)
	case strings.Contains(text, "TLS route handshake error"):
		l.refusal("hubs refuse each other's certificates: see --cluster-cert, --cluster-key and --cluster-ca", text)
	case strings.HasPrefix(text, unreachable): // whoever starts first is alone
		_, why, _ := strings.Cut(text, "): ") // behind the number of the attempt
		l.seldom(slog.LevelWarn, "another hub cannot be reached; it is tried again and again", why, why)
	case isRoute(text) && strings.Contains(text, "Error flushing"): // what is lost with a route is told to the spokes
		l.logger.Warn("nats: " + text)
	default:
		l.logger.Error("nats: " + text)
	}
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.logger.Error("nats: " + fmt.Sprintf(format, v...))
}

func (*serverLog) Debugf(string, ...any) {}
func (*serverLog) Tracef(string, ...any) {}

// unreachable is how the server begins when it has tried to connect to another hub, in vain.
const unreachable = "Error trying to connect to route"

// refusal logs that hubs refuse each other.
func (l *serverLog) refusal(what, text string) {
	l.refusals.Add(1)
	l.seldom(slog.LevelError, what, what, text)
}

// seldom logs what the server says at each of its attempts, once a while for each key.
func (l *serverLog) seldom(level slog.Level, what, key, text string) {
	now := time.Now()
	l.mu.Lock()
	last, before := l.said[key]
	due := !before || now.Sub(last) >= sayEvery
	if due {
		if l.said == nil {
			l.said = make(map[string]time.Time)
		}
		maps.DeleteFunc(l.said, func(_ string, at time.Time) bool { return now.Sub(at) >= sayEvery })
		l.said[key] = now
	}
	l.mu.Unlock()
	if !due {
		l.logger.Debug("nats: " + text)
		return
	}
	l.logger.Log(context.Background(), level, what, slog.String("nats", text))
}

// isRoute reports whether the server speaks of a connection with another hub: its address and the number of the
// route come first.
func isRoute(text string) bool { return strings.Contains(text, " - rid:") }
