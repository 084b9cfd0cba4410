package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// TestOperatingGuide runs what docs/operating.md shows for a shell, and holds what it prints against the block behind it.
func TestOperatingGuide(t *testing.T) {
	guide := blocks(documents(t, "docs/operating.md"))
	printed := func(i int) string {
		t.Helper()
		require.Less(t, i+1, len(guide))
		require.Equal(t, "text", guide[i+1].language)
		return guide[i+1].text
	}
	outputs := 0
	for i, b := range guide {
		first, _, _ := strings.Cut(b.text, "\n")
		switch {
		case b.language == "text":
			outputs--
		case first == "hub doctor --max-spokes 50000":
			outputs++
			m := sound()
			m.soft, m.hard = 20_000, 20_000 // as the page says
			var out strings.Builder
			require.ErrorIs(t, runDoctor(strings.Fields(first)[2:], m, &out), errUnwell)
			shown, more := strings.CutSuffix(printed(i), "...\n")
			require.True(t, more)
			require.True(t, strings.HasPrefix(out.String(), shown), "%s\nis shown, this is said:\n%s", shown, out.String())
		case strings.HasPrefix(first, "HUB_PING="):
			outputs++
			require.Equal(t, columns(printed(i)), columns(shell(t, b.text)))
		case strings.HasPrefix(first, "hub serve --reuse-port"):
			replaceAsShown(t, b.text)
		case strings.HasPrefix(first, "echo HUB_ADMIN"), strings.HasPrefix(first, "install -m 755"),
			strings.HasPrefix(first, "docker "), strings.HasPrefix(first, "kubectl "):
			// Neither systemd, Docker nor a cluster is here: TestCommandsOfTheDocuments holds it against the files in deploy/.
		default:
			require.Fail(t, "nothing is known of it", "%s", b.text)
		}
	}
	require.Zero(t, outputs, "each output stands behind its command")
}

// TestTokensAreGivenAsThePageShows connects with a token in each of the places that docs/tokens.md has.
func TestTokensAreGivenAsThePageShows(t *testing.T) {
	spokes, _, _ := startHub(t, "--auth-jwt-key="+authSecret)
	token := mint(t, time.Hour, nil, nil)
	places := 0
	for _, span := range spans(documents(t, "docs/tokens.md")["docs/tokens.md"]) {
		address, options := spokes, &websocket.DialOptions{HTTPHeader: http.Header{}}
		if script := regexp.MustCompile(`^new WebSocket\(url, \['([\w.]+)', '([\w.]+)' \+ token\]\)$`).FindStringSubmatch(span); script != nil {
			options.Subprotocols = []string{script[1], script[2] + token}
		} else if name, value, is := strings.Cut(span, ": "); is && strings.HasSuffix(value, " TOKEN") {
			options.HTTPHeader.Set(name, strings.Replace(value, "TOKEN", token, 1))
		} else if strings.HasSuffix(span, "=TOKEN") {
			address += strings.Replace(span, "TOKEN", token, 1)
		} else {
			continue
		}
		places++
		c, _, err := websocket.Dial(t.Context(), address, options)
		require.NoError(t, err, span)
		require.NoError(t, c.CloseNow())
	}
	require.Equal(t, 3, places)
	_, _, err := websocket.Dial(t.Context(), spokes, nil)
	require.Error(t, err, "without one")
}

// TestTokenOfTheDocuments runs the program of docs/tokens.md: a hub with the same secret, in a file, takes its token.
func TestTokenOfTheDocuments(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is needed")
	}
	programs := blocks(documents(t, "docs/tokens.md"))
	require.Len(t, programs, 1)
	require.Equal(t, "python", programs[0].language)
	const secret = "0123456789abcdef0123456789abcdef" // would be 16 bytes, and refused, if hex were decoded
	cmd := exec.CommandContext(t.Context(), "python3", "-c", programs[0].text)
	cmd.Env = append(os.Environ(), "HUB_AUTH_JWT_KEY="+secret)
	token, err := cmd.Output()
	require.NoError(t, err)
	for _, end := range []string{"", "\n", "\r\n"} {
		key := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(key, []byte(secret+end), 0o600))
		spokes, _, _ := startHub(t, "--auth-jwt-key=file:"+key)
		c, _, err := websocket.Dial(t.Context(), spokes+"?topic=tick:42&token="+strings.TrimSpace(string(token)), nil)
		require.NoError(t, err, "%q", end)
		require.NoError(t, c.CloseNow())
	}
	spokes, _, _ := startHub(t, "--auth-jwt-key="+secret+" ") // a space is part of it
	_, refused, err := websocket.Dial(t.Context(), spokes+"?token="+strings.TrimSpace(string(token)), nil)
	require.Error(t, err)
	require.Equal(t, http.StatusUnauthorized, refused.StatusCode)
}

// columns makes the spaces between columns one: how many there are depends on the host's name, which is among the values.
func columns(text string) string { return regexp.MustCompile(` +`).ReplaceAllString(text, " ") }

// shell runs a script for which hub is this program, and returns what it prints.
func shell(t *testing.T, script string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	self, err := filepath.Abs(os.Args[0])
	require.NoError(t, err)
	program := fmt.Sprintf("#!/bin/sh\n%s=\"$*\" exec %s\n", childVariable, self)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hub"), []byte(program), 0o700))
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, envPrefix) {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(append(cmd.Env, env...), "PATH="+dir+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // for those it has left behind, if it fails
	out, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	require.NoError(t, err, "%s: %s", script, out)
	return string(out)
}

// replaceAsShown replaces a hub by another one at the same port, and looks that the old one has ended and the new one serves.
func replaceAsShown(t *testing.T, script string) {
	t.Helper()
	spokes, first, second := freeAddress(t), freeAddress(t), freeAddress(t)
	script = strings.NewReplacer("127.0.0.1:8081", first, "127.0.0.1:8082", second,
		"old=$!\n", "old=$!\nuntil hub healthcheck --admin "+first+"; do sleep 0.1; done\n").Replace(script) // it has been there for long
	out := shell(t, script+`
new=$!
trap 'kill -TERM $new; wait $new' EXIT
wait $old && echo "the old one has ended in order"
hub healthcheck --admin `+second+` && echo "the new one is ready"
hub healthcheck --admin `+first+` || echo "at the old address there is nobody"
`, "HUB_LISTEN="+spokes)
	for _, said := range []string{"the old one has ended in order", "the new one is ready", "at the old address there is nobody"} {
		require.Contains(t, out, said)
	}
	_, err := http.Get("http://" + spokes + "/readyz")
	require.Error(t, err, "both have ended")
}
