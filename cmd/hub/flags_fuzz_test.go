package main

import (
	"flag"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// FuzzFlags looks for arguments of hub serve that are taken and yet make no configuration, that are
// refused without saying which flag is meant, or that are not shown as they would be written again.
func FuzzFlags(f *testing.F) {
	for _, args := range []string{
		"--spoke-buffer=1MiB\n--spoke-lag=0\n--slow=conflate", "--slow-for=tick=conflate, order=disconnect",
		"--total-buffer\n1.5GB", "--pprof\n--compress=true\n--compress-level=9\n--compress-min=0", "--listen=[::1]:0\n--admin=off",
		"--origins=https://a.example,*", "--relay=others\n--max-message=1MiB", "--ping=1h\n--pong-timeout=10ms",
		"--slow-close-code=4999", "--node=\xff", "--path=/readyz", "--log-level=warn+2", "--", "-", "--=", "---x", "--spoke-buffer=1e3",
		"--max-spokes=+7\n--shards=0x1", "extra", "--help=no",
		"--trusted-proxies=10.0.0.0/8,::1\n--connect-rate=5\n--connect-rate-per-ip=1\n--connect-burst-per-ip=2",
	} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\n")
		for _, arg := range args {
			if name := strings.TrimLeft(arg, "-"); name == "h" || name == "help" || strings.HasPrefix(name, "h=") || strings.HasPrefix(name, "help=") {
				return // prints the usage
			}
		}
		c, err := parseServe(t, args...)
		if err != nil {
			require.NotEmpty(t, strings.TrimSpace(err.Error()))
			return
		}
		require.NoError(t, validated(&c))
		again, err := parseServe(t, shown(&c)...)
		require.NoError(t, err, "%q", shown(&c))
		require.Equal(t, shown(&c), shown(&again))
	})
}

// validated returns what the packages that the flags are for have against them.
func validated(c *config) error {
	logger := slog.New(slog.DiscardHandler)
	hub, err := fanout.New(c.fanout(logger))
	if err != nil {
		return err
	}
	defer hub.Close()
	lc := c.loop(hub, logger)
	return lc.Validate()
}

// shown returns the flags with which c would be written again.
func shown(c *config) (args []string) {
	var again config
	f := serveFlags(&again)
	again = *c
	f.set.VisitAll(func(fl *flag.Flag) {
		if value := fl.Value.String(); fl.Name != "auth-jwt-key" || value != "" { // an empty secret is a mistake
			args = append(args, "--"+fl.Name+"="+value)
		}
	})
	return args
}
