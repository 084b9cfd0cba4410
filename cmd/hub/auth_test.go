package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/auth"
	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
)

const authSecret = "a secret of more than thirty-two bytes"

func mint(t *testing.T, ttl time.Duration, topics, publish []string) string {
	t.Helper()
	token, err := auth.Mint([]byte(authSecret), auth.Token{Subject: "ada", Topics: topics, Publish: publish, Expires: time.Now().Add(ttl)})
	require.NoError(t, err)
	return token
}

// TestASpokeNeedsAToken is what a foreign client sees of --auth-jwt-key.
func TestASpokeNeedsAToken(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte(authSecret+"\n"), 0o600))
	spokes, admin, _ := startHub(t, "--auth-jwt-key=file:"+key, "--relay=others")
	token := mint(t, time.Hour, []string{"tick:*"}, []string{"ask:*"})
	bearer := func(token string) *websocket.DialOptions {
		return &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}}
	}
	for name, test := range map[string]struct {
		url    string
		opts   *websocket.DialOptions
		status int
	}{
		"none":           {spokes, nil, 401},
		"wrong":          {spokes, bearer(token + "x"), 401},
		"expired":        {spokes, bearer(mint(t, -time.Minute, nil, nil)), 401},
		"twice":          {spokes + "?token=" + token, bearer(token), 401},
		"beyond":         {spokes + "?topic=order:1", bearer(token), 403},
		"header":         {spokes, bearer(token), 101},
		"query":          {spokes + "?token=" + token + "&topic=tick:1", nil, 101},
		"subprotocol":    {spokes, &websocket.DialOptions{Subprotocols: []string{"hub.v1", "bearer." + token}}, 101},
		"the other way":  {spokes, &websocket.DialOptions{Subprotocols: []string{"bearer." + token, "hub.v1"}}, 101},
		"without hub.v1": {spokes, &websocket.DialOptions{Subprotocols: []string{"bearer." + token}}, 101},
	} {
		c, resp, err := websocket.Dial(t.Context(), test.url, test.opts)
		require.NotNil(t, resp, "%s: %v", name, err)
		require.Equal(t, test.status, resp.StatusCode, name)
		for _, values := range resp.Header {
			require.NotContains(t, strings.Join(values, ","), token, name)
		}
		if test.status != 101 {
			continue
		}
		require.NoError(t, err, name)
		if test.opts != nil && len(test.opts.Subprotocols) == 2 {
			require.Equal(t, "hub.v1", c.Subprotocol(), name)
		}
		_, b, err := c.Read(t.Context())
		require.NoError(t, err, name)
		require.Contains(t, string(b), `"expiresInMs":`, name)
		require.NoError(t, c.Close(websocket.StatusNormalClosure, ""))
	}
	connected(t, admin, 0)

	c, _, err := websocket.Dial(t.Context(), spokes, bearer(token))
	require.NoError(t, err)
	defer c.CloseNow()
	other, _, err := websocket.Dial(t.Context(), spokes, bearer(mint(t, time.Hour, nil, []string{"*"})))
	require.NoError(t, err)
	defer other.CloseNow()
	connected(t, admin, 2)
	next := func(c *websocket.Conn) string {
		t.Helper()
		_, b, err := c.Read(t.Context())
		require.NoError(t, err)
		return string(b)
	}
	next(c)
	next(other)
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"tick","id":"1"}`)))
	require.Contains(t, next(c), `"code":"forbidden"`)
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"ask","id":"1"}`)))
	require.Equal(t, `{"type":"ask","id":"1","payload":null}`, next(other), "the other event was not relayed")
	for _, topic := range []string{"order:1", "tick:1"} {
		require.NoError(t, other.Write(t.Context(), websocket.MessageText, []byte(`{"type":"`+strings.ReplaceAll(topic, ":", `","id":"`)+`"}`)))
	}
	require.Equal(t, `{"type":"tick","id":"1","payload":null}`, next(c), "order:1 is beyond its topics")

	resp, err := http.Get(admin + "/v1/spokes")
	require.NoError(t, err)
	defer resp.Body.Close()
	var list struct{ Spokes []struct{ Sub string } }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&list))
	require.Equal(t, "ada", list.Spokes[0].Sub)
	metrics, err := http.Get(admin + "/metrics")
	require.NoError(t, err)
	defer metrics.Body.Close()
	text, err := io.ReadAll(metrics.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `hub_forbidden_total{what="event"} 1`)
	require.Contains(t, string(text), `hub_refused_connections_total{reason="unauthenticated"} 4`)
	require.Contains(t, string(text), `hub_refused_connections_total{reason="forbidden"} 1`)
}

func TestMetricsSayHowTheKeySetStands(t *testing.T) {
	metrics := func(args ...string) string {
		_, admin, _ := startHub(t, args...)
		resp, err := http.Get(admin + "/metrics")
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(b)
	}
	got := metrics("--auth-jwks=http://127.0.0.1:1/keys")
	require.Contains(t, got, "\nhub_auth_key_fetch_failures_total 1\n")
	require.Contains(t, got, "\nhub_auth_keys_age_seconds ")
	require.NotContains(t, metrics("--auth-jwt-key="+authSecret), "hub_auth_key")
	require.NotContains(t, metrics(), "hub_auth_key")
}

func TestATokenThatExpiresClosesTheSpoke(t *testing.T) {
	t.Setenv("HUB_AUTH_JWT_KEY", authSecret)
	spokes, _, _ := startHub(t)
	c, _, err := websocket.Dial(t.Context(), spokes+"?token="+mint(t, 2*time.Second, nil, nil), nil)
	require.NoError(t, err)
	defer c.CloseNow()
	for err == nil {
		_, _, err = c.Read(t.Context())
	}
	require.EqualValues(t, codec.CloseUnauthenticated, websocket.CloseStatus(err))
}

// The client outlives the token that it has connected with.
func TestTheClientRenewsItsToken(t *testing.T) {
	t.Setenv("HUB_AUTH_JWT_KEY", authSecret)
	spokes, _, _ := startHub(t)
	authed := make(chan string, 10)
	var asked atomic.Int32
	c, err := client.Dial(t.Context(), spokes, client.Options{
		Logger: slog.New(slog.DiscardHandler),
		Token: func(context.Context) (string, error) {
			if asked.Add(1) == 1 {
				return mint(t, 2*time.Second, nil, nil), nil
			}
			return mint(t, time.Hour, nil, nil), nil
		},
		OnReserved: func(_ *client.Client, e codec.Envelope) { authed <- e.Type },
	})
	require.NoError(t, err)
	require.Equal(t, codec.TypeAuthed, <-authed)
	require.NoError(t, c.Close(codec.CloseNormal, ""))
	require.EqualValues(t, 2, asked.Load())
}

func TestNothingLogsAToken(t *testing.T) {
	t.Setenv("HUB_AUTH_JWT_KEY", authSecret)
	log := newLines()
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	previous := slog.Default()
	slog.SetDefault(logger)
	defer slog.SetDefault(previous)
	spokes, admin, stop := startHubLogging(t, logger, "--admin-token=adminsecret")
	token := mint(t, time.Hour, nil, nil)
	for _, target := range []string{"?token=" + token, "?token=" + token + "x", "?token=" + token + "&token=" + token, "?topic=%zz&token=" + token, "/elsewhere?token=" + token} {
		for _, header := range []http.Header{nil, {"Authorization": {"Bearer " + token}}, {"Origin": {"https://evil.example/" + token}}} {
			c, resp, err := websocket.Dial(t.Context(), spokes+target, &websocket.DialOptions{HTTPHeader: header})
			if err == nil {
				require.NoError(t, c.Close(websocket.StatusNormalClosure, ""))
				continue
			}
			if header["Origin"] == nil && resp != nil {
				body, _ := io.ReadAll(resp.Body)
				require.NotContains(t, string(body), token)
			}
		}
	}
	for _, url := range []string{admin + "/v1/spokes?token=" + token, admin + "/v1/spokes?sort=" + token} {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer adminsecret")
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	require.NoError(t, stop())
	require.Contains(t, log.String(), "admin: request", "the log has lines at all")
	for _, secret := range []string{token, token[:40], authSecret, "adminsecret"} {
		require.NotContains(t, log.String(), secret)
	}
}

func TestTokensAreMadeOnTheCommandLine(t *testing.T) {
	t.Setenv("HUB_AUTH_JWT_KEY", authSecret)
	out := captured(t, func() error {
		return token(t.Context(), []string{"--sub=ada", "--topics=tick:*,order:1", "--publish=ask:*", "--ttl=1m"})
	})
	v, err := auth.New(auth.Config{Key: []byte(authSecret)})
	require.NoError(t, err)
	c, err := v.Renew(strings.TrimSpace(out))
	require.NoError(t, err)
	require.Equal(t, "ada", c.Subject)
	require.Len(t, c.Topics, 2)
	require.Len(t, c.Publish, 1)
	for _, flag := range []string{"--topics", "--publish"} { // the hub would refuse the token
		require.EqualError(t, token(t.Context(), []string{flag + "=order:1,tick"}), flag+`: topic "tick" has no ':', it is type:id, type:* or *`)
	}
	t.Setenv("HUB_AUTH_JWT_KEY", "")
	require.NoError(t, os.Unsetenv("HUB_AUTH_JWT_KEY"))
	require.ErrorContains(t, token(t.Context(), nil), "--auth-jwt-key is needed, or HUB_AUTH_JWT_KEY")
}

func TestAStarInsideOfATopicIsWarnedOf(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": false, "tick:*": false, "tick:": false, "tick:42": false, "tick:4*": true, "ti*:*": true, "*:1": true, "tick:*:*": true,
	} {
		require.Equal(t, want, starsInside(pattern), pattern)
	}
	for name, args := range map[string][]string{"tail": {"tail", "--once", "--url=ws://127.0.0.1:1/ws", "tick:4*"}, "token": {"token", "--topics=tick:4*"}} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+strings.Join(args, " "), "HUB_AUTH_JWT_KEY="+authSecret)
		var log strings.Builder
		cmd.Stderr = &log
		_ = cmd.Run() // hub tail finds no hub
		require.Contains(t, log.String(), "hub "+name+": warning: tick:4* is one topic with a literal * in it")
	}
}

// captured returns what fn prints.
func captured(t *testing.T, fn func() error) string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = w
	err = fn()
	os.Stdout = stdout
	require.NoError(t, w.Close())
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	require.NoError(t, err)
	return b.String()
}
