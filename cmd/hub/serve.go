package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/alkdev/hub/admin"
	"github.com/alkdev/hub/auth"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// adminShutdown is how long admin requests under way may take at the end.
const adminShutdown = 2 * time.Second

func serve(ctx context.Context, args []string) error {
	var c config
	f := serveFlags(&c)
	warnings, err := parseConfig(f, &c, args)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // who reads the log may go; the hub stays
	logger := c.startLog(os.Stderr)
	defer c.log.Close(logFlush)
	slog.SetDefault(logger)
	for _, w := range append(warnings, f.strangers(os.Environ())...) {
		logger.Warn(w)
	}
	c.limitMemory(logger, memlimit.FromCgroup)
	c.placePollers()
	return runHub(ctx, &c, logger, nil)
}

// placePollers gives the pollers places in Go's scheduler beside those of the cores, unless GOMAXPROCS is
// set. A poller waits in a system call and keeps its place meanwhile, until that is found to take long, up to
// 10 ms later: with one core that is what a request to the admin side would wait, and a shard behind a spoke
// that floods. Threads that want the same core are the kernel's to share out, which knows who has had little.
func (c *config) placePollers() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + c.pollers)
	}
}

// runHub runs a hub until ctx is done, then drains it. started, if not nil, is told the addresses.
func runHub(ctx context.Context, c *config, logger *slog.Logger, started func(spokes, admin net.Addr)) error {
	codec.Pretouch()
	verifier, err := c.verifier(logger)
	if err != nil {
		return err
	}
	pair, err := c.certificate(logger)
	if err != nil {
		return err
	}
	fc := c.fanout(logger)
	if verifier != nil {
		defer verifier.Close()
		fc.Renew = verifier.Renew
	}
	member, err := c.engine.member(c.node, c.spokeBuffer, logger)
	if err != nil {
		return err
	}
	if member != nil {
		fc.Cluster = member
	}
	hub, err := fanout.New(fc)
	if err != nil {
		return err
	}
	defer hub.Close()
	if err := join(ctx, member, hub); err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "listen" {
			return explainListen("--cluster-listen", c.engine.listen, err)
		}
		return fmt.Errorf("--engine: %w", err)
	}
	if member != nil {
		defer member.Close() // once the spokes have gone
	}
	if c.relay == "others" {
		if _, err := hub.AddListener("*", func(s *fanout.Spoke, e codec.Envelope) { relay(hub, s, e) }); err != nil {
			return err
		}
	}
	lc := c.loop(hub, logger)
	if verifier != nil {
		lc.Authenticate = verifier.Request
	}
	if pair != nil {
		lc.TLS = pair.config()
		defer pair.start(ctx)()
	}
	server, err := loop.New(lc)
	if err != nil {
		return err
	}
	guard := newMemoryGuard(c.memory, hub, server, logger)
	drained := false
	defer func() {
		if !drained {
			now, cancel := context.WithCancel(context.Background())
			cancel()
			_ = server.Shutdown(now)
		}
	}()
	ln, err := c.listenSpokes()
	if err != nil {
		return explainListen("--listen", c.listen, err)
	}
	operator, adminLn, err := c.startAdmin(hub, server, verifier, pair, guard, logger)
	if err != nil {
		_ = ln.Close()
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(ln) }()
	if operator != nil {
		go func() { failed <- operator.Serve(adminLn) }()
	}
	defer guard.run()()
	c.announce(logger, ln, adminLn, server.Config())
	notify(logger, daemon.SdNotifyReady, "serving")
	defer feedWatchdog(hub, logger)()
	if started != nil {
		var adminAddr net.Addr
		if adminLn != nil {
			adminAddr = adminLn.Addr()
		}
		started(ln.Addr(), adminAddr)
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	logger.Info("draining", slog.Int("spokes", hub.Stats().Spokes), slog.Duration("timeout", c.drainTimeout))
	notify(logger, daemon.SdNotifyStopping, "draining")
	drained = true
	if err := server.Shutdown(context.Background()); err != nil {
		logger.Warn("some spokes did not take their leave in time", slog.Any("error", err))
	}
	if operator != nil {
		deadline, cancel := context.WithTimeout(context.Background(), adminShutdown)
		defer cancel()
		_ = operator.Shutdown(deadline)
	}
	logger.Info("stopped")
	return nil
}

// cause returns what the system said, without the address that the flag has already named.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// explainListen makes the failure to listen at the address that a flag has one that says what to do.
func explainListen(flag, address string, err error) error {
	advice := ""
	switch port := portOf(address); {
	case errors.Is(err, syscall.EADDRINUSE):
		advice = fmt.Sprintf("; ss -ltnp 'sport = :%d' shows by whom: stop that, or take another %s", port, flag)
		if flag == "--listen" {
			advice += "; hubs share an address if all have --reuse-port"
		}
	case errors.Is(err, syscall.EACCES):
		advice = fmt.Sprintf("; port %d is for root and who has CAP_NET_BIND_SERVICE: take a %s with a port of 1024 or more, or give the hub that capability", port, flag)
	}
	return fmt.Errorf("%s %s: %w%s", flag, address, cause(err), advice)
}

// startAdmin returns the operator's side and its listener, both nil if it is off.
func (c *config) startAdmin(hub *fanout.Hub, server *loop.Server, verifier *auth.Verifier, pair *certificate, guard *memoryGuard, logger *slog.Logger) (*admin.Server, net.Listener, error) {
	if c.admin == "off" {
		return nil, nil, nil
	}
	ln, err := net.Listen("tcp", c.admin)
	if err != nil {
		return nil, nil, explainListen("--admin", c.admin, err)
	}
	operator, err := admin.New(c.adminConfig(hub, server, verifier, pair, guard, logger))
	if err != nil {
		_ = ln.Close()
		return nil, nil, err
	}
	return operator, ln, nil
}

// relay sends an event from a spoke to all others.
func relay(hub *fanout.Hub, s *fanout.Spoke, e codec.Envelope) {
	_, err := hub.DispatchExcept(s, e)
	switch {
	case err == nil, errors.Is(err, fanout.ErrClosed):
	case errors.Is(err, fanout.ErrOverloaded):
		s.Refuse(e.ID, codec.CodeOverloaded, codec.Problem(err))
	default:
		s.Refuse(e.ID, codec.CodeTooLarge, codec.Problem(err))
	}
}

// announce logs what the hub listens on and the limits in force.
func (c *config) announce(logger *slog.Logger, ln, adminLn net.Listener, lc loop.Config) {
	adminAddress := "off"
	if adminLn != nil {
		adminAddress = "http://" + adminLn.Addr().String()
	}
	logger.Info("hub started",
		slog.String("spokes", c.scheme()+"://"+ln.Addr().String()+c.path), slog.String("admin", adminAddress),
		slog.Bool("tokens", len(c.authKey) > 0 || c.authJWKS != ""), slog.String("node", c.node), slog.String("version", versionText()), slog.String("go", runtime.Version()))
	logger.Info("limits",
		slog.Int("maxSpokes", lc.MaxSpokes), slog.Int("maxSpokesPerIP", lc.MaxSpokesPerIP),
		slog.Int("connectRate", lc.ConnectRate), slog.Int("connectRatePerIP", lc.ConnectRatePerIP), slog.String("trustedProxies", showPrefixes(c.trustedProxies)),
		slog.Int("descriptors", loop.DescriptorLimit()),
		slog.String("spokeBuffer", showSize(c.spokeBuffer)), slog.Duration("spokeLag", c.spokeLag),
		slog.String("totalBuffer", showSize(c.totalBuffer)), slog.String("slow", c.slow),
		slog.String("slowFor", showPolicies(c.slowFor)), slog.String("maxMessage", showSize(c.maxMessage)),
		slog.Int("spokeRate", c.spokeRate), slog.Int("spokeBurst", c.spokeBurst), slog.String("spokeCPU", showShare(c.spokeCPU)),
		slog.Int("shards", c.shards), slog.Int("pollers", c.pollers))
}

func (c *config) adminConfig(hub *fanout.Hub, server *loop.Server, verifier *auth.Verifier, pair *certificate, guard *memoryGuard, logger *slog.Logger) admin.Config {
	lc := server.Config()
	ac := admin.Config{
		Hub: hub, Token: c.adminToken, Pprof: c.pprof, Version: versionText(),
		MaxBodyBytes: c.adminMaxBody, Logger: logger, Log: c.logStats, Keys: keyStats(verifier),
		Loop: admin.Loop{
			Ready: func() bool { return server.Ready() && c.engine.ready(hub) },
			Stats: func() admin.LoopStats {
				st := server.Stats()
				refused := make(map[string]uint64, len(st.Refused))
				for why, n := range st.Refused {
					refused[why.String()] = n
				}
				return admin.LoopStats{Connections: st.Connections, Suspensions: st.Suspensions, Refused: refused, TLS: pair.stats(st.TLS)}
			},
		},
		Limits: admin.Limits{
			Bytes: map[string]int64{
				"max_message": int64(lc.MaxMessageBytes), "read_buffer": int64(lc.ReadBufferBytes),
				"sndbuf": int64(lc.SendBufferBytes), "notsent_lowat": max(0, int64(lc.NotSentLowatBytes)),
				"log_buffer": c.logBuffer,
			},
			Times: map[string]time.Duration{
				"handshake_timeout": lc.HandshakeTimeout, "ping": lc.Ping, "pong_timeout": lc.PongTimeout,
				"close_timeout": lc.CloseTimeout, "drain_timeout": lc.DrainTimeout,
			},
			Counts: map[string]int{
				"tls_handshakes": lc.TLSHandshakes, "max_spokes": lc.MaxSpokes, "max_spokes_per_ip": lc.MaxSpokesPerIP,
				"connect_rate": lc.ConnectRate, "connect_rate_per_ip": lc.ConnectRatePerIP, "connect_burst_per_ip": lc.ConnectBurstPerIP,
				"bad_envelopes_per_minute": c.badEnvelopes, "descriptors": loop.DescriptorLimit(),
			},
		},
	}
	if guard != nil {
		ac.Memory = guard.stats
	}
	if c.authJWKS != "" {
		ac.Limits.Times["auth_jwks_refresh"] = c.authJWKSRefresh
	}
	c.engine.limits(ac.Limits.Bytes, ac.Limits.Times)
	return ac
}
