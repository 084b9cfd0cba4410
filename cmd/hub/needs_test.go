package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// needyValues are flags that need another, each with a value that is not its default, and what meets the need.
var needyValues = map[string][2]string{
	"cluster-listen":       {":6333", "--engine=embedded"},
	"cluster-peers":        {"a:6222", "--engine=embedded"},
	"cluster-advertise":    {"a:6222", "--engine=embedded"},
	"cluster-auth":         {"a:s3cret", "--engine=embedded"},
	"cluster-ca":           {"ca.pem", "--engine=embedded"},
	"cluster-cert":         {"cert.pem", "--engine=embedded --cluster-key=key.pem"},
	"cluster-key":          {"key.pem", "--engine=embedded --cluster-cert=cert.pem"},
	"engine-creds":         {"hub.creds", "--engine=nats://a:4222"},
	"engine-nkey":          {"hub.nk", "--engine=nats://a:4222"},
	"engine-token":         {"s3cret", "--engine=redis://a:6379"},
	"engine-ca":            {"ca.pem", "--engine=redis://a:6379"},
	"engine-cert":          {"cert.pem", "--engine=nats://a:4222 --engine-key=key.pem"},
	"engine-key":           {"key.pem", "--engine=nats://a:4222 --engine-cert=cert.pem"},
	"engine-required":      {"true", "--engine=embedded"},
	"engine-prefix":        {"other", "--engine=embedded"},
	"engine-format":        {"yoga", "--engine=nats://a:4222"},
	"engine-publish":       {"refuse", "--engine=embedded"},
	"engine-queue":         {"1MiB", "--engine=embedded"},
	"engine-linger":        {"7s", "--engine=embedded"},
	"engine-beat":          {"7s", "--engine=embedded"},
	"engine-timeout":       {"7s", "--engine=embedded"},
	"auth-issuer":          {"us", "--auth-jwks=https://keys.example/"},
	"auth-audience":        {"us", "--auth-jwks=https://keys.example/"},
	"auth-jwks-refresh":    {"7s", "--auth-jwks=https://keys.example/"},
	"tls-cert":             {"cert.pem", "--tls-key=key.pem"},
	"tls-key":              {"key.pem", "--tls-cert=cert.pem"},
	"tls-handshakes":       {"7", "--tls-cert=cert.pem --tls-key=key.pem"},
	"spoke-burst":          {"7", "--spoke-rate=7"},
	"connect-burst-per-ip": {"7", "--connect-rate-per-ip=7"},
	"compress-min":         {"7", "--compress"},
	"compress-level":       {"7", "--compress"},
	"admin-token":          {"a s3cret of 16 bytes", "--admin=127.0.0.1:8081"},
	"admin-max-body":       {"1MiB", "--admin=127.0.0.1:8081"},
	"pprof":                {"true", "--admin=127.0.0.1:8081"},
}

// A flag that does nothing without another is a mistake or warned of, by the name that it was given by; with the
// other, or with its default, it is not.
func TestAFlagThatNeedsAnotherSaysSo(t *testing.T) {
	unmet := []string{"--listen=127.0.0.1:0", "--admin=off", "--spoke-rate=0"}
	said := func(name string, args ...string) (text string, grave bool) {
		warnings, err := parseConfigOf(t, append(unmet, args...)...)
		text = strings.Join(warnings, "\n")
		if err != nil {
			text, grave = err.Error()+"\n"+text, true
		}
		require.NotContains(t, text, "s3cret")
		return text, grave
	}
	var c config
	f := serveFlags(&c)
	c.spokeRate, c.admin = 0, "off" // as in unmet
	for _, n := range c.needs() {
		if n.met { // a pair, which is of interest once there is an engine
			continue
		}
		for name := range strings.FieldsSeq(n.flags) {
			require.NotNil(t, f.set.Lookup(name), name)
			values, ok := needyValues[name]
			require.True(t, ok, "no value to try for --%s", name)

			text, grave := said(name, "--"+name+"="+values[0])
			require.Contains(t, text, "no effect without "+n.what, name)
			require.Contains(t, text, "--"+name, name)
			require.Equal(t, n.grave, grave, name)

			text, _ = said(name, append(strings.Fields(values[1]), "--"+name+"="+values[0])...)
			require.NotContains(t, text, "no effect", name)

			if def := f.set.Lookup(name).DefValue; def != "" || f.secret[name] {
				text, _ = said(name, "--"+name+"="+def)
				require.NotContains(t, text, "no effect", name)
			}
		}
	}
	text, _ := said("", "--cluster-peers=a:6222", "--cluster-auth=a:s3cret")
	require.Contains(t, text, "--cluster-peers, --cluster-auth: no effect without --engine embedded; set that, or leave this out", "in one message")
	for have, lack := range map[string]string{"cluster-cert": "cluster-key", "cluster-key": "cluster-cert"} {
		text, _ = said("", "--engine=embedded", "--"+have+"=x.pem")
		require.Contains(t, text, "--"+have+": no effect without --"+lack)
	}
	for have, lack := range map[string]string{"engine-cert": "engine-key", "engine-key": "engine-cert"} {
		text, _ = said("", "--engine=nats://a:4222", "--"+have+"=x.pem")
		require.Contains(t, text, "--"+have+": no effect without --"+lack)
		text, _ = said("", "--"+have+"=x.pem")
		require.Equal(t, 1, strings.Count(text, "no effect"), "one reason is enough: %s", text)
	}
	t.Setenv("HUB_CLUSTER_PEERS", "a:6222")
	text, _ = said("")
	require.Contains(t, text, "HUB_CLUSTER_PEERS: no effect without --engine embedded")
	t.Setenv("HUB_CLUSTER_PEERS", "")
	text, _ = said("")
	require.NotContains(t, text, "no effect")
}

func parseConfigOf(t *testing.T, args ...string) (warnings []string, err error) {
	t.Helper()
	var c config
	return parseConfig(serveFlags(&c), &c, args)
}
