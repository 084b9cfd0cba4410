package embedded

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// refusalEvery is how often the log says that hubs refuse each other, which they try about once a second.
const refusalEvery = time.Minute

// serverLog is what the server says, as the hub's log: at the level that it has for a hub, and in its words
// where an operator has to do something.
type serverLog struct {
	logger   *slog.Logger
	refusals atomic.Uint64

	mu sync.Mutex // a leaf
	// +checklocks:mu
	said map[string]time.Time // when a refusal was last logged, by what was said
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
	case strings.HasPrefix(text, "Error trying to connect to route"), // whoever starts first is alone
		isRoute(text) && strings.Contains(text, "Error flushing"): // and what is lost with a route is told to the spokes
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

// refusal logs that hubs refuse each other: the server tries again and again, the log says it once a while.
func (l *serverLog) refusal(what, text string) {
	l.refusals.Add(1)
	now := time.Now()
	l.mu.Lock()
	last, before := l.said[what]
	due := !before || now.Sub(last) >= refusalEvery
	if due {
		if l.said == nil {
			l.said = make(map[string]time.Time)
		}
		l.said[what] = now
	}
	l.mu.Unlock()
	if !due {
		l.logger.Debug("nats: " + text)
		return
	}
	l.logger.Error(what, slog.String("nats", text))
}

// isRoute reports whether the server speaks of a connection with another hub: its address and the number of the
// route come first.
func isRoute(text string) bool { return strings.Contains(text, " - rid:") }
