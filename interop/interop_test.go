// Package interop runs spokes written by others against a real hub: Node's ws, Python's websockets,
// and the WebSocket of headless Chromium. scripts/interop installs them and runs it.
package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 30 * time.Second

// hub is a running bin/hub.
type hub struct {
	spokes, admin string
	pin           string // of its key, for those who trust nobody else's word on it; "" without TLS
	cmd           *exec.Cmd
	log           chan string
}

var startedLine = regexp.MustCompile(`spokes=(wss?://\S+) admin=(http://\S+)`)

func startHub(t *testing.T, flags ...string) *hub {
	t.Helper()
	h := &hub{log: make(chan string, 10000)}
	h.cmd = exec.Command("../bin/hub", append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, flags...)...)
	stderr, err := h.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, h.cmd.Start())
	t.Cleanup(func() { _ = h.cmd.Process.Kill(); _ = h.cmd.Wait() })
	lines := bufio.NewScanner(stderr)
	var said []string
	for h.spokes == "" {
		require.True(t, lines.Scan(), "the hub ended before it had started: %s", said)
		said = append(said, lines.Text())
		if m := startedLine.FindStringSubmatch(lines.Text()); m != nil {
			h.spokes, h.admin = m[1], m[2]
		}
	}
	go func() {
		for lines.Scan() {
		}
	}()
	return h
}

// startSecureHub starts a hub that speaks TLS, with a certificate of its own that spokes are made to trust: Node
// and Python by their environments.
func startSecureHub(t *testing.T, flags ...string) *hub {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hub.pem")
	key := certify(t, file)
	t.Setenv("NODE_EXTRA_CA_CERTS", file)
	t.Setenv("SSL_CERT_FILE", file)
	h := startHub(t, append(flags, "--tls-cert", file, "--tls-key", file)...)
	require.True(t, strings.HasPrefix(h.spokes, "wss://"), h.spokes)
	spki, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(t, err)
	sum := sha256.Sum256(spki)
	h.pin = base64.StdEncoding.EncodeToString(sum[:])
	return h
}

func (h *hub) publish(t *testing.T, body string) (matched int) {
	t.Helper()
	resp, err := http.Post(h.admin+"/v1/events", "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, "%s", answer)
	var result struct{ Matched int }
	require.NoError(t, json.Unmarshal(answer, &result))
	return result.Matched
}

// metric returns the value of a metric without labels.
func (h *hub) metric(t *testing.T, name string) int {
	t.Helper()
	resp, err := http.Get(h.admin + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(body)
	require.NotNil(t, m, "no %s in %s", name, body)
	value, err := strconv.ParseFloat(string(m[1]), 64)
	require.NoError(t, err)
	return int(value)
}

// waitForAge waits until the one spoke there is has been connected for so long.
func (h *hub) waitForAge(t *testing.T, age time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := http.Get(h.admin + "/v1/spokes")
		require.NoError(t, err)
		defer resp.Body.Close()
		var answer struct {
			Spokes []struct{ ConnectedAt time.Time }
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		require.Len(t, answer.Spokes, 1, "the spoke is gone")
		return time.Since(answer.Spokes[0].ConnectedAt) > age
	}, patience, 50*time.Millisecond)
}

// listen returns what GET /v1/events says, as it comes.
func (h *hub) listen(t *testing.T) <-chan map[string]any {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", h.admin+"/v1/events", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	records := make(chan map[string]any, 1000)
	go func() {
		defer close(records)
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var record map[string]any
			if len(lines.Bytes()) > 0 && json.Unmarshal(lines.Bytes(), &record) == nil {
				records <- record
			}
		}
	}()
	return records
}

// said is one line of a foreign spoke.
type said struct {
	What  string `json:"what"`
	Value any    `json:"value"`
}

// run starts a foreign spoke that prints what happens.
func run(t *testing.T, name string, args ...string) <-chan said {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	out := make(chan said, 1000)
	go func() {
		defer close(out)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var s said
			if json.Unmarshal(lines.Bytes(), &s) == nil {
				out <- s
			}
		}
	}()
	return out
}

// chromium shows the page to a headless browser.
func chromium(t *testing.T, h *hub) <-chan said {
	t.Helper()
	out := make(chan said, 1000)
	page, err := os.ReadFile("spoke.html")
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/say" {
			var s said
			if json.NewDecoder(r.Body).Decode(&s) == nil {
				out <- s
			}
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	}))
	t.Cleanup(server.Close)
	flags := []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir=" + t.TempDir(), "--remote-debugging-port=0"}
	if h.pin != "" {
		flags = append(flags, "--ignore-certificate-errors-spki-list="+h.pin)
	}
	cmd := exec.Command("chromium", append(flags, server.URL+"/?hub="+url.QueryEscape(h.spokes))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	return out
}

// expect waits for what a spoke says; other things may come before, but no error.
func expect(t *testing.T, out <-chan said, what string) any {
	t.Helper()
	return expectWithin(t, out, what, patience)
}

func expectWithin(t *testing.T, out <-chan said, what string, patience time.Duration) any {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case s, ok := <-out:
			require.True(t, ok, "the spoke ended before it said %q", what)
			require.NotEqual(t, "error", s.What, "%v", s.Value)
			if s.What == what {
				return s.Value
			}
		case <-timeout:
			require.Fail(t, "not said in time", what)
		}
	}
}

// heard waits for an event of the given type from a spoke, and returns its payload as sent.
func heard(t *testing.T, records <-chan map[string]any, typ string) any {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case r := <-records:
			if e, ok := r["event"].(map[string]any); ok && e["type"] == typ {
				require.NotEmpty(t, r["spoke"])
				return e["payload"]
			}
		case <-timeout:
			require.Fail(t, "not heard in time", typ)
		}
	}
}

var spokes = map[string]func(t *testing.T, h *hub) <-chan said{
	"node ws":           func(t *testing.T, h *hub) <-chan said { return run(t, "node", "spoke.mjs", h.spokes) },
	"python websockets": func(t *testing.T, h *hub) <-chan said { return run(t, "/usr/bin/python3", "spoke.py", h.spokes) },
	"chromium":          chromium,
}

func TestForeignSpokesTalkToTheHub(t *testing.T) {
	talk(t, startHub, func(delivered int) bool { return delivered > 140_000 })
}

func TestForeignSpokesTalkToTheHubOverTLS(t *testing.T) {
	talk(t, startSecureHub, func(delivered int) bool { return delivered > 140_000 })
}

// All three offer compression by themselves.
func TestForeignSpokesTalkToTheHubCompressed(t *testing.T) {
	talk(t, startHub, func(delivered int) bool { return delivered < 60_000 }, "--compress", "--compress-min", "1KiB")
}

// talk runs the whole conversation. expected says whether the hub should have written so many bytes for
// some 142,000 bytes of frames, 100,000 of them one letter.
func talk(t *testing.T, startHub func(*testing.T, ...string) *hub, expected func(delivered int) bool, flags ...string) {
	for name, start := range spokes {
		t.Run(name, func(t *testing.T) {
			h := startHub(t, append(flags, "--origins", "*", "--ping", "200ms", "--pong-timeout", "5s")...)
			records := h.listen(t)
			out := start(t, h)
			require.Equal(t, "hub.v1", expect(t, out, "protocol"))
			expect(t, out, "__welcome")
			require.Equal(t, "é€😀", heard(t, records, "whole"))
			if name != "chromium" { // it has no say in fragments and pings
				require.Equal(t, "é€😀", heard(t, records, "fragments"))
				require.Equal(t, "between", expect(t, out, "pong"))
			}
			require.Equal(t, 1.5, heard(t, records, "binary"))
			if name == "chromium" {
				require.Len(t, heard(t, records, "large"), 60000)
			}
			var batch bytes.Buffer
			for i := range 1000 {
				fmt.Fprintf(&batch, `{"type":"tick","id":"%d","payload":%d}`+"\n", i, i)
			}
			require.Equal(t, 1000, h.publish(t, batch.String()))
			for i := range 1000 {
				require.EqualValues(t, i, expect(t, out, "tick"))
			}
			require.Equal(t, 1, h.publish(t, `{"type":"large","payload":"`+strings.Repeat("y", 100000)+`"}`))
			require.Len(t, expect(t, out, "large"), 100000)
			require.Eventually(t, func() bool { return expected(h.metric(t, "hub_delivered_bytes_total")) }, patience, 50*time.Millisecond)
			h.waitForAge(t, time.Second) // several pings, which the spoke answers or is closed for
			require.Equal(t, 1, h.publish(t, `{"type":"bye"}`))
			require.Equal(t, "3001 enough", expect(t, out, "close"))
			for r := range records {
				if r["kind"] == "disconnected" {
					require.EqualValues(t, 3001, r["code"])
					require.Equal(t, "peer", r["side"])
					break
				}
			}
		})
	}
}

func TestForeignSpokesAreDrained(t *testing.T) { drain(t, startHub) }

// After close_notify the connection ends without a reset: a spoke that gets one may lose the close frame.
func TestForeignSpokesAreDrainedOverTLS(t *testing.T) { drain(t, startSecureHub) }

func drain(t *testing.T, startHub func(*testing.T, ...string) *hub) {
	for name, start := range spokes {
		t.Run(name, func(t *testing.T) {
			h := startHub(t, "--origins", "*")
			records := h.listen(t)
			out := start(t, h)
			expect(t, out, "__welcome")
			heard(t, records, "binary") // the last thing that it does by itself
			require.Equal(t, 1, h.publish(t, `{"type":"last","payload":1}`))
			require.NoError(t, h.cmd.Process.Signal(syscall.SIGTERM))
			expect(t, out, "last")
			expect(t, out, "__drain")
			require.Equal(t, "1001 the hub drains", expect(t, out, "close"))
			require.NoError(t, h.cmd.Wait())
		})
	}
}
