package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkdev/hub/admin"
	"github.com/alkdev/hub/loop"
)

// certificate is the pair of --tls-cert and --tls-key, which is read again when the files change.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	current              atomic.Pointer[tls.Certificate]
	loads, failedReloads atomic.Uint64

	tried string // the stamp that was last tried; watch's
}

// certificate returns the pair, nil if the hub has none.
func (c *config) certificate(logger *slog.Logger) (*certificate, error) {
	if c.tlsCert == "" {
		return nil, nil
	}
	p := &certificate{certFile: c.tlsCert, keyFile: c.tlsKey, logger: logger}
	p.tried = p.stamp()
	if err := p.load(); err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", c.tlsCert, c.tlsKey, err)
	}
	return p, nil
}

// config is what loop.Config.TLS is to be.
func (p *certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current.Load(), nil }}
}

func (p *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	p.current.Store(&pair)
	p.loads.Add(1)
	return nil
}

// notAfter is when the certificate ends.
func (p *certificate) notAfter() time.Time { return p.current.Load().Leaf.NotAfter }

// stamp is different once a file has changed.
func (p *certificate) stamp() (stamp string) {
	for _, name := range []string{p.certFile, p.keyFile} {
		if info, err := os.Stat(name); err != nil {
			stamp += err.Error()
		} else {
			stamp += fmt.Sprintf("%d %d;", info.ModTime().UnixNano(), info.Size())
		}
	}
	return stamp
}

// certificateLook is how often the files are looked at.
const certificateLook = time.Second

// watch loads the pair again when its files have changed, and have been as they are for one look: both may be being
// written. A pair that does not load leaves the one before in force. watch returns when ctx is done.
func (p *certificate) watch(ctx context.Context) {
	ticker := time.NewTicker(certificateLook)
	defer ticker.Stop()
	for seen := p.tried; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		before := seen
		if seen = p.stamp(); seen == before && seen != p.tried {
			p.reload(seen)
		}
	}
}

func (p *certificate) reload(stamp string) {
	p.tried = stamp
	if err := p.load(); err != nil {
		p.failedReloads.Add(1)
		p.logger.Error("the certificate has changed and cannot be used; the one before stays in force", slog.Any("error", err))
		return
	}
	p.logger.Info("the certificate has changed", slog.Time("notAfter", p.notAfter()))
}

// start looks after the pair until the function that it returns is called.
func (p *certificate) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { p.watch(ctx) })
	return func() { cancel(); watching.Wait() }
}

// stats returns what the operator's side has to say of TLS, nil if there is none.
func (p *certificate) stats(st loop.TLSStats) *admin.TLSStats {
	if p == nil {
		return nil
	}
	return &admin.TLSStats{
		Handshakes: st.Handshakes, Failed: st.Failed, Running: st.Running, InLine: st.InLine, Broken: st.Broken,
		Loads: p.loads.Load(), FailedReloads: p.failedReloads.Load(), NotAfter: p.notAfter(),
	}
}

// scheme is what the addresses of spokes begin with.
func (c *config) scheme() string {
	if c.tlsCert != "" {
		return "wss"
	}
	return "ws"
}
