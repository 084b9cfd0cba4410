// Package embedded is the engine that a cluster of hubs brings along: a NATS server within each hub, routed
// to those of the others and reached without a socket. It is a package of its own because that server
// is large: a program that does not import it does not contain it.
package embedded

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/alkdev/hub/cluster"
)

// Config says where the other hubs are. The zero value of every field but ID is a sensible default.
type Config struct {
	// ID is that of the cluster.Member.
	ID string
	// Listen is the address for the other hubs, ":6222" by default; with port 0 any that is free.
	Listen string
	// Advertise is the address under which they reach it, if Listen is not.
	Advertise string
	// Peers are addresses of other hubs, some of them or all, possibly this one's too: what one knows
	// it tells the others.
	Peers []string
	// User and Password are what hubs have to show each other; none by default.
	User, Password string
	// TLS is what hubs speak to each other, as servers and as clients; nil for plain TCP.
	TLS *tls.Config
	// MaxEventBytes is the largest message that is carried; 1 MiB by default.
	MaxEventBytes int

	Logger *slog.Logger // slog.Default by default
}

const (
	clusterName = "hub"
	clientUser  = "hub"
	// Routes are tried more often than by default: two pings without an answer end one.
	routePing  = 2 * time.Second
	routeWrite = 5 * time.Second
	startup    = 10 * time.Second
	// watchEvery is how often it is looked whether a route has been lost.
	watchEvery = 250 * time.Millisecond
	// maxAway bounds how many hubs are remembered that had a route and have none.
	maxAway = 1024
)

// Engine implements cluster.Engine.
type Engine struct {
	cluster.Engine // the connection to the server

	// Set by New and Start, read-only afterwards.
	listen   string
	server   *server.Server
	log      *serverLog
	stopc    chan struct{} // closed by Close
	watching sync.WaitGroup
}

// New returns an engine whose server does not run yet.
func New(c Config) (*Engine, error) {
	if c.Listen == "" {
		c.Listen = ":6222"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	password := rand.Text()
	options, err := c.options(password)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	log := &serverLog{logger: c.Logger}
	s.SetLoggerV2(log, false, false, false)
	client, err := cluster.NATS(cluster.NATSConfig{InProcess: s, Name: c.ID, User: clientUser, Password: password, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	return &Engine{Engine: client, listen: c.Listen, server: s, log: log, stopc: make(chan struct{})}, nil
}

// options returns those of the server. Its routes begin only once it listens for clients as well: it does so on the
// loopback interface, and takes only who knows a password that never leaves this process.
func (c *Config) options(password string) (*server.Options, error) {
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	payload := int32(min(max(c.MaxEventBytes, server.MAX_PAYLOAD_SIZE), math.MaxInt32))
	o := &server.Options{
		ServerName: c.ID, NoSigs: true, NoLog: true,
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: clientUser, Password: password,
		MaxPayload: payload, MaxPending: max(server.MAX_PENDING_SIZE, 2*int64(payload)), // the server holds that it is no less
		Cluster: server.ClusterOpts{
			Name: clusterName, Host: host, Port: port, Advertise: c.Advertise, NoAdvertise: true,
			Username: c.User, Password: c.Password, TLSConfig: c.TLS, TLSTimeout: routeWrite.Seconds(),
			PoolSize:     1, // all that one hub has for another goes one way: its order is that of the events
			PingInterval: routePing, MaxPingsOut: 2, WriteDeadline: routeWrite,
			Compression: server.CompressionOpts{Mode: server.CompressionOff},
		},
	}
	for _, peer := range c.Peers {
		host, port, err := splitAddress(peer)
		if err != nil {
			return nil, err
		}
		u := &url.URL{Scheme: "nats-route", Host: net.JoinHostPort(host, strconv.Itoa(port))}
		if c.User != "" {
			u.User = url.UserPassword(c.User, c.Password)
		}
		o.Routes = append(o.Routes, u)
	}
	return o, nil
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 1<<16-1 {
		return "", 0, fmt.Errorf("embedded: %.200q is not an address like host:6222", address)
	}
	return host, port, nil
}

// Kind implements cluster.Engine.
func (e *Engine) Kind() string { return "embedded" }

// Server implements cluster.Engine.
func (e *Engine) Server() string {
	if a := e.Addr(); a != nil {
		return a.String()
	}
	return ""
}

// Addr returns where the other hubs reach this one, nil before Start.
func (e *Engine) Addr() net.Addr {
	if a := e.server.ClusterAddr(); a != nil {
		return a
	}
	return nil
}

// Refusals is how often another hub has refused this one, or this one another, for what it has to show.
func (e *Engine) Refusals() uint64 { return e.log.refusals.Load() }

// Start implements cluster.Engine.
func (e *Engine) Start(h cluster.Handler) error {
	ln, err := net.Listen("tcp", e.listen) // the server's own complaint comes late
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	_ = ln.Close()
	e.server.Start()
	if !e.server.ReadyForConnections(startup) {
		e.shutdown()
		return errors.New("embedded: the server for the other hubs has not started, see its log")
	}
	if err := e.Engine.Start(h); err != nil {
		e.shutdown()
		return err
	}
	e.watching.Go(func() { e.watch(h) })
	return nil
}

// watch tells the handler of routes that are new, and of those that have been lost, until Close. What was on its way through one is
// lost with it, and the connection to the server within knows nothing of that. What is dispatched until there is
// another one is lost as well, so that is told once more.
func (e *Engine) watch(h cluster.Handler) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	before, missing, away := map[uint64]string{}, map[string]bool{}, map[string]bool{}
	met := 0 // times to say so: at once, and when it is sure that the other asks for what is said
	for {
		select {
		case <-ticker.C:
		case <-e.stopc:
			return
		}
		routes, err := e.server.Routez(nil)
		if err != nil {
			continue // it is shutting down
		}
		for hub := range missing { // a moment later: who takes its leave says so first
			h.Lost(0, hub)
		}
		clear(missing)
		now, reached := make(map[uint64]string, len(routes.Routes)), make(map[string]bool)
		for _, r := range routes.Routes {
			now[r.Rid], reached[r.RemoteName] = r.RemoteName, true
			if _, ok := before[r.Rid]; !ok {
				met = 2
			}
			if away[r.RemoteName] {
				missing[r.RemoteName] = true
				delete(away, r.RemoteName)
			}
		}
		for id, hub := range before {
			if _, ok := now[id]; !ok {
				missing[hub] = true
				if len(away) >= maxAway {
					clear(away) // most have left, and do not come back
				}
				if !reached[hub] {
					away[hub] = true
				}
			}
		}
		before = now
		if met > 0 {
			met--
			h.Met()
		}
	}
}

// Close implements cluster.Engine.
func (e *Engine) Close() {
	close(e.stopc)
	e.watching.Wait()
	e.Engine.Close()
	e.shutdown()
}

func (e *Engine) shutdown() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
}
