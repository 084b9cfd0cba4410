package main

import (
	"fmt"
	"strings"
)

// need is what flags have no effect without.
type need struct {
	flags string // with blanks between them
	met   bool
	what  string // would meet it
	// grave: who sets one of them believes in what is then not so, such as other hubs or a check, and the hub does not
	// start. Of limits that nothing is bounded by it only warns.
	grave bool
}

// needs are those of the flags of hub serve.
func (c *config) needs() []need {
	e := &c.engine
	engine := e.engine != engineOff
	embedded := e.engine == engineEmbedded
	servers := engine && !embedded
	tokens := len(c.authKey) > 0 || c.authJWKS != ""
	const anyEngine = "an --engine: embedded, or servers of NATS or Redis"
	return []need{
		{"cluster-listen cluster-peers cluster-advertise cluster-auth cluster-ca cluster-cert cluster-key", embedded, "--engine embedded", true},
		{"cluster-cert", !embedded || e.peerKey != "", "--cluster-key, the file with its key", true},
		{"cluster-key", !embedded || e.peerCert != "", "--cluster-cert, the file with its certificate", true},
		{"engine-creds engine-nkey", servers && !isRedis(e.engine), "servers of NATS, as in --engine nats://host:4222", true},
		{"engine-token engine-ca engine-cert engine-key", servers, "servers of NATS or Redis, as in --engine nats://host:4222 or --engine redis://host:6379", true},
		{"engine-cert", !servers || e.key != "", "--engine-key, the file with its key", true},
		{"engine-key", !servers || e.cert != "", "--engine-cert, the file with its certificate", true},
		{"engine-required", engine, anyEngine, true},
		{"engine-prefix engine-format engine-publish engine-queue engine-linger engine-beat engine-timeout", engine, anyEngine, false},
		{"auth-issuer auth-audience", tokens, "--auth-jwt-key or --auth-jwks", true},
		{"auth-jwks-refresh", c.authJWKS != "", "--auth-jwks", false},
		{"tls-cert", c.tlsKey != "", "--tls-key, the file with its key", true},
		{"tls-key", c.tlsCert != "", "--tls-cert, the file with its certificate", true},
		{"tls-handshakes", c.tlsCert != "", "--tls-cert and --tls-key", false},
		{"spoke-burst", c.spokeRate > 0, "a --spoke-rate above 0", true},
		{"connect-burst-per-ip", c.connectRatePerIP > 0, "a --connect-rate-per-ip above 0", false},
		{"compress-min compress-level", c.compress, "--compress", false},
		{"admin-token admin-max-body pprof", c.admin != "off", "an --admin address, which is off", false},
	}
}

// checkNeeds finds flags that have no effect without others.
func (c *config) checkNeeds(f *flags) (warnings []string) {
	for _, n := range c.needs() {
		var idle []string
		for name := range strings.FieldsSeq(n.flags) {
			if !n.met && f.has(name) {
				idle = append(idle, f.named(name))
			}
		}
		if len(idle) == 0 {
			continue
		}
		text := fmt.Sprintf("%s: no effect without %s; set that, or leave this out", strings.Join(idle, ", "), n.what)
		if n.grave {
			f.problem("%s", text)
		} else {
			warnings = append(warnings, text)
		}
	}
	return warnings
}

// has reports whether a flag was given a value that is not its default.
func (f *flags) has(name string) bool {
	fl := f.set.Lookup(name)
	return f.given[name] != "" && (f.secret[name] && !f.blank[name] || fl.Value.String() != fl.DefValue)
}

// named returns what a flag was given by: itself, or its twin in the environment.
func (f *flags) named(name string) string {
	if f.given[name] == fromEnvironment {
		return envName(name)
	}
	return "--" + name
}
