package main

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/bytedance/sonic"
	"github.com/stretchr/testify/require"
)

// showConfigOf runs hub config.
func showConfigOf(t *testing.T, args ...string) (out, log string) {
	t.Helper()
	var o, l strings.Builder
	require.NoError(t, runShowConfig(args, &o, &l))
	return o.String(), l.String()
}

func TestConfigSaysWhereEachFlagComesFrom(t *testing.T) {
	t.Setenv("HUB_SPOKE_LAG", "20s")
	t.Setenv("HUB_PING", "30s")
	t.Setenv("HUB_SPOKE_BUFER", "1MiB")
	out, log := showConfigOf(t, "--ping=40s", "--compress")
	fields := make(map[string]string)
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		fields[f[0]] = strings.Join(f[1:], " ")
	}
	require.Equal(t, "20s environment, HUB_SPOKE_LAG", fields["--spoke-lag"])
	require.Equal(t, "40s command line", fields["--ping"], "the command line overrules")
	require.Equal(t, "true command line", fields["--compress"])
	require.Equal(t, "10s default", fields["--pong-timeout"])
	require.Contains(t, log, "HUB_SPOKE_BUFER: no flag of hub serve has this twin; did you mean HUB_SPOKE_BUFFER?\n")
	require.NotContains(t, log, "HUB_PING")

	var c config
	serveFlags(&c).set.VisitAll(func(fl *flag.Flag) { require.Contains(t, fields, "--"+fl.Name) })
	require.NotContains(t, fields, "--json")
}

func TestVariablesThatMeanNothing(t *testing.T) {
	f := serveFlags(new(config))
	require.Equal(t, []string{
		"HUB_AUTH_JWT_KYE: no flag of hub serve has this twin; did you mean HUB_AUTH_JWT_KEY?",
		"HUB_PORTS: no flag of hub serve has this twin",
		"HUB_SOMETHING_ELSE: no flag of hub serve has this twin",
	}, f.strangers([]string{
		"HUB_SOMETHING_ELSE=1", "HUB_AUTH_JWT_KYE=s3cret", "HUB_AUTH_JWT_KEY=s3cret", "HUBBUB=1", "PATH=/bin", "HUB_PORTS=1", "HUB_VERIFY=1",
		// Of Kubernetes, for a service that is named hub.
		"HUB_SERVICE_HOST=10.0.0.1", "HUB_SERVICE_PORT=80", "HUB_SERVICE_PORT_SPOKES=80", "HUB_PORT=tcp://10.0.0.1:80",
		"HUB_PORT_80_TCP=tcp://10.0.0.1:80", "HUB_PORT_80_TCP_ADDR=10.0.0.1",
	}))
}

// The hub ends by itself: its address is taken.
func TestServeWarnsOfVariablesThatMeanNothing(t *testing.T) {
	spokes, _, _ := startHub(t)
	taken := strings.TrimSuffix(strings.TrimPrefix(spokes, "ws://"), "/ws")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=serve --admin=off --listen="+taken, "HUB_PIGN=30s", "HUB_SERVICE_HOST=10.0.0.1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitError, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), "level=WARN msg=\"HUB_PIGN: no flag of hub serve has this twin; did you mean HUB_PING?\"")
	require.Equal(t, 1, strings.Count(string(out), "has this twin"), "%s", out)
}

func TestConfigShowsNoSecret(t *testing.T) {
	key := strings.Repeat("s3cret-", 5)
	t.Setenv("HUB_ADMIN_TOKEN", "s3cret-of-the-admin")
	for _, args := range [][]string{
		{"--auth-jwt-key=" + key}, {"--auth-jwt-key=" + key, "--json"}, {"--engine=nats://a:s3cret@h:1,tls://b:s3cret@i:2"},
		{"--engine=rediss://a:s3cret@h:1,rediss://b:s3cret@i:2"}, {"--engine=redis+sentinel://:s3cret@h:1/main?sentinel-user=x&sentinel-password=s3cret"},
		{"--engine=nats://h:1", "--engine-token=s3cret"}, {"--engine=embedded", "--cluster-auth=a:s3cret"}, {"--auth-jwks=https://a:s3cret@keys.example/set"},
		{"--engine=nats://s3cret@h:1,nats://s3cret@i:2"},
	} {
		out, log := showConfigOf(t, args...)
		require.NotContains(t, out+log, "s3cret")
	}
	out, _ := showConfigOf(t, "--engine=nats://a:s3cret@h:1,nats://i:2")
	require.Contains(t, out, " nats://a:xxxxx@h:1,nats://i:2 ")
	out, _ = showConfigOf(t, "--auth-jwt-key="+key)
	require.Regexp(t, `--admin-token +\(hidden\) +environment, HUB_ADMIN_TOKEN`, out)
	require.Regexp(t, `--auth-jwt-key +\(hidden\) +command line`, out)

	require.NoError(t, os.Unsetenv("HUB_ADMIN_TOKEN"))
	out, _ = showConfigOf(t, "--json", "--max-spokes=7")
	var settings []setting
	require.NoError(t, sonic.UnmarshalString(out, &settings))
	require.Contains(t, settings, setting{Flag: "--admin-token", Environment: "HUB_ADMIN_TOKEN", From: "default", Secret: true})
	require.Contains(t, settings, setting{Flag: "--max-spokes", Environment: "HUB_MAX_SPOKES", Value: "7", From: "command line", Set: true})
}

func TestConfigReportsMistakesAsServeDoes(t *testing.T) {
	var mistake *usageError
	require.ErrorAs(t, runShowConfig([]string{"--ping=soon", "--spoke-buffer=1GiB"}, os.Stdout, os.Stderr), &mistake)
}
