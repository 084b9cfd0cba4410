package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"
)

const healthSynopsis = `hub healthcheck: ask a hub on this machine how it is; exit code 0 if it is well, 1 if not.

The admin address comes from --admin or HUB_ADMIN, as for hub serve, so a container's check needs no
arguments. If it is off, the spokes' address is asked, which knows /readyz only.`

// patient is where and how a hub is asked.
type patient struct {
	admin, listen, token string
	live, tls            bool
	timeout              time.Duration
}

func healthcheck(ctx context.Context, args []string) error {
	var c config
	serveFlags(&c) // the defaults
	p := patient{admin: defaultAdmin, listen: c.listen, timeout: 2 * time.Second}
	certificate := ""
	f := newFlags("healthcheck", healthSynopsis)
	addOperator(f, &p.admin, &p.token, "admin address that hub serve has, host:port or http://host:port; off to ask at --listen")
	add(f, &p.listen, "listen", "address for spokes that hub serve has, asked if --admin is off", parseAddress, showText)
	add(f, &certificate, "tls-cert", "what hub serve has: the address for spokes then speaks TLS", parseText, showText)
	addSwitch(f, &p.live, "live", "ask whether it is alive (/livez), not whether it is ready for new spokes (/readyz)")
	add(f, &p.timeout, "timeout", "time for the answer", duration(time.Millisecond, time.Hour), showDuration)
	if _, err := parseFlags(f, args, 0); err != nil {
		return err
	}
	p.tls = certificate != ""
	return p.ask(ctx)
}

// ask returns nil if the hub says that it is well.
func (p *patient) ask(ctx context.Context) error {
	address, flag, path := p.admin, "--admin", "/readyz"
	if p.live {
		path = "/livez"
	}
	if address == "" {
		if p.live {
			return &usageError{fmt.Errorf("--live: only the admin side knows, and it is off")}
		}
		address, flag = "http://"+nearby(p.listen), "--listen"
		if p.tls {
			address = "https://" + nearby(p.listen)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	url := address + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	authorize(req, p.token)
	// No proxy, and no connection left behind. The certificate has other names than that of the loopback
	// address, and whether it is good is the peers' to say.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(req)
	if err != nil {
		return explainDial(err, address, flag)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %s: %s", url, resp.Status, bytes.TrimSpace(answer))
	}
	return nil
}
