package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// parseServe parses the flags of hub serve without the environment of the machine that tests.
func parseServe(t *testing.T, args ...string) (config, error) {
	t.Helper()
	var c config
	f := serveFlags(&c)
	_, err := parseFlags(f, args, 0)
	if err == nil {
		c.check(f)
		err = f.result()
	}
	return c, err
}

func TestFlagsAreRead(t *testing.T) {
	c, err := parseServe(t, "--spoke-buffer", "1MiB", "--spoke-lag=0", "--slow", "conflate",
		"--slow-for", "tick=conflate, order=disconnect", "--total-buffer", "1.5GB", "--pprof", "--ping", "1m30s",
		"-slow-close-code", "4321", "--origins", "https://a.example,https://b.example")
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, c.spokeBuffer)
	require.Zero(t, c.spokeLag)
	require.Equal(t, "conflate", c.slow)
	require.Equal(t, map[string]fanout.Policy{"tick": fanout.Conflate, "order": fanout.Disconnect}, c.slowFor)
	require.EqualValues(t, 1_500_000_000, c.totalBuffer)
	require.True(t, c.pprof)
	require.Equal(t, 90*time.Second, c.ping)
	require.EqualValues(t, 4321, c.slowCloseCode)
	require.Equal(t, []string{"https://a.example", "https://b.example"}, c.origins)
}

func TestTrustedProxiesAreReadAndShown(t *testing.T) {
	c, err := parseServe(t)
	require.NoError(t, err)
	require.Empty(t, c.loop(nil, nil).TrustedProxies, "nobody is believed by default")
	c, err = parseServe(t, "--trusted-proxies", "10.1.2.3/8, 192.0.2.1,2001:db8::/32,::1,::ffff:192.0.2.2")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.0/8,192.0.2.1,2001:db8::/32,::1,192.0.2.2", showPrefixes(c.loop(nil, nil).TrustedProxies))
}

func TestCompressionIsOffByDefault(t *testing.T) {
	c, err := parseServe(t, "--compress-level=9")
	require.NoError(t, err)
	require.Nil(t, c.deflater())
	require.False(t, c.loop(nil, nil).Compress)
	c, err = parseServe(t, "--compress")
	require.NoError(t, err)
	require.True(t, c.loop(nil, nil).Compress)
	frame := func(length int) *codec.Frame {
		e, err := codec.NewEnvelope("tick", "1", strings.Repeat("x", length))
		require.NoError(t, err)
		f, err := codec.NewFrame(e, codec.Text)
		require.NoError(t, err)
		return f
	}
	require.Nil(t, frame(400).Compressed(c.deflater()), "below --compress-min")
	require.NotNil(t, frame(600).Compressed(c.deflater()))
}

func TestTheRateOfASpokeCanBeSetAndLifted(t *testing.T) {
	for _, test := range []struct {
		args          []string
		perSec, burst int
	}{
		{nil, 10_000, 20_000},
		{[]string{"--spoke-rate=50"}, 50, 100},
		{[]string{"--spoke-rate=50", "--spoke-burst=5"}, 50, 5},
		{[]string{"--spoke-rate=0"}, 0, 0},
	} {
		c, err := parseServe(t, test.args...)
		require.NoError(t, err)
		hub, err := fanout.New(c.fanout(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		defer hub.Close()
		perSec, burst := hub.SpokeRate()
		require.Equal(t, []int{test.perSec, test.burst}, []int{perSec, burst}, "%q", test.args)
	}
}

func TestTheShareOfACoreForASpokeCanBeSetAndLifted(t *testing.T) {
	for args, want := range map[string]float64{"--pprof": 0.1, "--spoke-cpu=2.5%": 0.025, "--spoke-cpu=0": -1, "--echo": -1} {
		c, err := parseServe(t, args)
		require.NoError(t, err)
		require.InDelta(t, want, c.loop(nil, nil).SpokeCPU, 1e-9, args)
	}
}

func TestTheBoundsOfSubscriptionsCanBeSetAndLifted(t *testing.T) {
	for _, test := range []struct {
		args   []string
		topics int
		bytes  int64
	}{
		{nil, 1024, 256 << 20},
		{[]string{"--max-topics=7", "--max-topic-memory=1GiB"}, 7, 1 << 30},
		{[]string{"--max-topic-memory=0"}, 1024, 0},
	} {
		c, err := parseServe(t, test.args...)
		require.NoError(t, err)
		hub, err := fanout.New(c.fanout(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		defer hub.Close()
		topics, bytes := hub.TopicLimits()
		require.Equal(t, test.topics, topics)
		require.Equal(t, test.bytes, bytes)
	}
}

func TestEveryFlagHasAnEnvironmentTwinThatFlagsOverrule(t *testing.T) {
	t.Setenv("HUB_SPOKE_BUFFER", "2MiB")
	t.Setenv("HUB_MAX_SPOKES_PER_IP", "7")
	t.Setenv("HUB_PPROF", "true")
	c, err := parseServe(t, "--max-spokes-per-ip", "8")
	require.NoError(t, err)
	require.EqualValues(t, 2<<20, c.spokeBuffer)
	require.Equal(t, 8, c.maxPerIP)
	require.True(t, c.pprof)
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	t.Setenv("HUB_PING", "soon")
	_, err := parseServe(t, "--spoke-bufer", "12", "--slow=maybe", "--shards", "0", "---x", "--relay=everybody", "--max-message")
	require.Error(t, err)
	for _, part := range []string{
		"7 mistakes",
		`HUB_PING: "soon" is not a duration from 10ms to 24h0m0s`,
		"--spoke-bufer: there is no such flag; did you mean --spoke-buffer?\n",
		`--slow: "maybe" is not a policy, it is one of disconnect, drop-oldest, drop-newest, conflate`,
		`--shards: "0" is not a number from 1 to 256`,
		"---x",
		`--relay: "everybody" is not one of off, others`,
		"--max-message: needs a value",
	} {
		require.ErrorContains(t, err, part)
	}
}

func TestAnUnknownFlagIsAnsweredWithTheOneThatWasMeant(t *testing.T) {
	for flag, want := range map[string]string{
		"--spoke-bufer=1": "did you mean --spoke-buffer?", "--origin=x": "did you mean --origins?", "--tls-crt=x": "did you mean --tls-cert?",
		"--shard=2": "did you mean --shards?", "--frobnicate": "", "--z": "",
	} {
		_, err := parseServe(t, flag)
		name, _, _ := strings.Cut(flag, "=")
		if want != "" {
			want = "; " + want
		}
		require.EqualError(t, err, name+": there is no such flag"+want)
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"relay", "relay", 0}, {"lay", "relay", 2}} {
		require.Equal(t, c.want, distance(c.a, c.b), "%q %q", c.a, c.b)
	}
}

func TestMistakesNameWhatIsAllowed(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"--spoke-buffer=1", "is not a size from 1KiB to 4GiB"},
		{"--spoke-buffer=many", "sizes look like"},
		{"--total-buffer=64KiB", "--total-buffer: 64KiB is less than --spoke-buffer, 256KiB"},
		{"--slow-for=tick", "is not type=policy"},
		{"--slow-for=tick=never", `"never" is not a policy`},
		{"--slow-for=a:b=conflate", "contains ':'"},
		{"--slow-close-code=1006", "is not a close code that may be sent"},
		{"--listen=8080", "is not an address, addresses look like"},
		{"--listen=127.0.0.1:80000", `--listen: "127.0.0.1:80000": 80000 is not a port, ports are 0 to 65535`},
		{"--admin=:-1", `--admin: ":-1": -1 is not a port`},
		{"--engine=foo", `--engine: "foo" is no engine: an engine is off, embedded, or`},
		{"--path=ws", "it begins with /"},
		{"--origins=https://a.example,b.example", "\"b.example\" is not an origin"},
		{"--origins=https://a.example/path", "is not an origin"},
		{"--path=/readyz", "is not /readyz"},
		{"--trusted-proxies=10.0.0.0/8,proxy.example", "\"proxy.example\" is neither an IP address nor a network"},
		{"--trusted-proxies=10.0.0.0/33", "is neither"},
		{"--trusted-proxies=::ffff:10.0.0.0/104", "is neither"},
		{"--trusted-proxies=fe80::1%lo", "is neither"},
		{"--connect-rate=-1", "is not a number from 0 to 1000000"},
		{"--connect-burst-per-ip=0", "is not a number from 1"},
		{"--compress-level=0", "is not a number from 1 to 9"},
		{"--compress-min=-1", "is not a size from 0"},
		{"--max-topics=0", "is not a number from 1 to 1048576"},
		{"--max-topic-memory=-1", "is not a size from 0"},
		{"--spoke-rate=1000001", "is not a number from 0 to 1000000"},
		{"--spoke-burst=-1", "is not a number from 0"},
		{"--spoke-cpu=2", "shares look like 10%"},
		{"--frames=jpeg", "is not one of text, binary"},
		{"--log-level=loud", "is not one of debug, info, warn, error"},
		{"--pprof=perhaps", "is neither true nor false"},
		{"--spoke-lag=10", "durations look like 500ms, 10s or 1m30s"},
		{"--admin=:8081", "--admin: :8081 can be reached from elsewhere, which needs an --admin-token"},
		{"--admin=192.0.2.1:8081", "can be reached from elsewhere"},
		{"--auth-jwt-key=short", "a secret of 5 bytes, HS256 needs at least 32"},
		{"--auth-jwt-key=flags_test.go", "there is a file of that name; file:PATH reads it"},
		{"--auth-jwt-key=file:none.pem", `"file:none.pem": no such file`},
		{"--auth-jwt-key=file:/proc/sys/net/core/somaxconn", `--auth-jwt-key: "file:/proc/sys/net/core/somaxconn": a secret of`},
		{"--admin-token=file:/nowhere/token", `--admin-token: "file:/nowhere/token": no such file`},
		{"--admin-token=file:/dev/null", `"file:/dev/null": the file is empty`},
		{"--admin-token=./flags_test.go", "--admin-token: there is a file of that name; file:PATH reads it"},
		{"--engine-token=file:/", `--engine-token: "file:/": is a directory`},
		{"--cluster-auth=file:/proc/sys/net/core/somaxconn", `--cluster-auth: "file:/proc/sys/net/core/somaxconn": it is like`},
		{"--auth-issuer=us", "--auth-issuer: no effect without --auth-jwt-key or --auth-jwks"},
		{"--auth-jwks-refresh=0", "is not a duration from 1s"},
		{"extra", `"extra": not expected here`},
	} {
		_, err := parseServe(t, c.arg)
		require.ErrorContains(t, err, c.want, c.arg)
	}
	_, err := parseServe(t, "--relay=others", "--max-message=1MiB")
	require.ErrorContains(t, err, "--max-message: 1MiB is more than --spoke-buffer, 256KiB; with --relay others")
	_, err = parseServe(t, "--spoke-rate=0", "--spoke-burst=5")
	require.ErrorContains(t, err, "--spoke-burst: no effect without a --spoke-rate above 0")
}

func TestUnwiseFlagsAreWarnedOf(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--max-spokes=16000000"}, "the descriptor limit is"},
		{nil, "whoever reaches :8080 may receive every event: --auth-jwt-key"},
		{[]string{"--listen=192.0.2.1:80", "--relay=others"}, "whoever reaches 192.0.2.1:80 may receive every event and send to all spokes: "},
	} {
		var conf config
		f := serveFlags(&conf)
		_, err := parseFlags(f, c.args, 0)
		require.NoError(t, err)
		require.Contains(t, strings.Join(conf.check(f), "\n"), c.want)
	}
	for _, args := range [][]string{
		{"--admin=:8081", "--admin-token=0123456789abcdef", "--listen=127.0.0.1:8080"},
		{"--listen=localhost:8080", "--relay=others"},
		{"--auth-jwt-key=" + strings.Repeat("k", 32)},
	} {
		var conf config
		f := serveFlags(&conf)
		_, err := parseFlags(f, args, 0)
		require.NoError(t, err)
		require.Empty(t, conf.check(f), "%q", args)
	}
}

// Every flag whose value is not shown reads a file, and so does its twin in the environment.
func TestEverySecretReadsAFile(t *testing.T) {
	const secret = "hub:0123456789abcdef0123456789abcdef"
	name := file(t, []byte(secret+"\r\n"))
	for _, twin := range []bool{false, true} {
		var c config
		f := serveFlags(&c)
		var args []string
		for flag := range f.secret {
			if twin {
				t.Setenv(envName(flag), "file:"+name)
			} else {
				args = append(args, "--"+flag+"=file:"+name)
			}
		}
		_, err := parseFlags(f, args, 0)
		require.NoError(t, err)
		require.Equal(t, []string{secret, secret, secret, secret}, []string{c.adminToken, string(c.authKey), c.engine.token, c.engine.auth})
		require.Len(t, f.secret, 4, "one that is not looked at here")
	}
	t.Setenv("HUB_ADMIN_TOKEN", "file:/nowhere/token")
	_, err := parseFlags(serveFlags(new(config)), nil, 0)
	require.EqualError(t, err, `HUB_ADMIN_TOKEN: "file:/nowhere/token": no such file or directory`)
}

func TestAShortAdminTokenIsForThisMachineAlone(t *testing.T) {
	for _, args := range [][]string{
		{"--admin-token=secret"}, {"--admin=[::1]:8081", "--admin-token=secret"}, {"--admin=off", "--admin-token=secret"},
		{"--admin=:8081", "--admin-token=0123456789abcdef"},
	} {
		_, err := parseServe(t, args...)
		require.NoError(t, err, "%q", args)
	}
	for _, address := range []string{":8081", "0.0.0.0:8081", "192.0.2.1:8081", "hub.example:8081"} {
		_, err := parseServe(t, "--admin="+address, "--admin-token=0123456789abcde")
		require.EqualError(t, err, "--admin-token: it has 15 bytes, and --admin "+address+" can be reached from elsewhere, which needs 16 or more, as from openssl rand -hex 32")
	}
}

// A secret shows in no message and no usage.
func TestTheAuthKeyIsNotShown(t *testing.T) {
	secret := strings.Repeat("s3cret-", 5)
	t.Setenv("HUB_AUTH_JWT_KEY", secret)
	var c config
	f := serveFlags(&c)
	_, err := parseFlags(f, []string{"--auth-jwks=keys.json", "--auth-jwt-key=" + secret}, 0)
	require.NoError(t, err)
	require.Equal(t, secret, string(c.authKey))
	require.Empty(t, c.check(f))
	err = f.result()
	require.ErrorContains(t, err, "--auth-jwt-key and --auth-jwks: one of them")
	var usage strings.Builder
	f.usage(&usage)
	require.NotContains(t, err.Error()+usage.String(), "s3cret")
	_, err = parseServe(t, "--auth-jwt-key=s3cret")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cret")
}

func TestPageListsEveryFlag(t *testing.T) {
	var c config
	f := serveFlags(&c)
	c.node = "host name"
	c.shards, c.pollers = 0, 0
	var table strings.Builder
	table.WriteString("| flag | default | |\n|---|---|---|\n")
	f.set.VisitAll(func(fl *flag.Flag) {
		value := fl.Value.String()
		switch fl.Name { // these depend on the machine
		case "shards":
			value = "CPUs"
		case "pollers":
			value = "a quarter of them"
		}
		if value != "" && fl.Name != "node" && fl.Name != "shards" && fl.Name != "pollers" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&table, "| `--%s` | %s | %s |\n", fl.Name, value, fl.Usage)
	})
	page, err := os.ReadFile("../../docs/flags.md")
	require.NoError(t, err)
	require.Contains(t, string(page), table.String())
}
