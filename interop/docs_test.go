package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// snippets returns the blocks of a language in a page, with the page's default addresses replaced by the hub's.
func snippets(t *testing.T, page, language, spokes, admin string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllSubmatch(text, -1) {
		s := string(m[1])
		s = strings.ReplaceAll(s, "ws://127.0.0.1:8080/ws", spokes)
		s = strings.ReplaceAll(s, "http://127.0.0.1:8081", admin)
		blocks = append(blocks, s)
	}
	return blocks
}

// shell runs a snippet as a newcomer does, at the top of the project.
func shell(t *testing.T, admin, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euc", strings.ReplaceAll(script, "bin/hub publish ", "bin/hub publish --admin "+admin+" "))
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s", script, stderr.Bytes())
	return string(out)
}

// TestGettingStarted does what docs/getting-started.md says.
func TestGettingStarted(t *testing.T) {
	const page = "../docs/getting-started.md"
	flags := regexp.MustCompile(`make run ARGS="(.*)"`).FindStringSubmatch(snippets(t, page, "sh", "", "")[0])
	h := startHub(t, strings.Fields(strings.NewReplacer("'", "", "127.0.0.1:8080", "127.0.0.1:0").Replace(flags[1]))...)
	commands := snippets(t, page, "sh", h.spokes, h.admin)
	require.Len(t, commands, 3)
	pages := snippets(t, page, "html", h.spokes, h.admin)
	require.Len(t, pages, 1)
	file := filepath.Join(t.TempDir(), "prices.html")
	require.NoError(t, os.WriteFile(file, []byte(pages[0]), 0o600))

	out := run(t, "node", "started.mjs", file)
	expectWithin(t, out, "connected", pagePatience)
	shell(t, h.admin, commands[1])
	shown := strings.Split(strings.TrimSpace(snippets(t, page, "text", "", "")[0]), "\n")
	awaitPrices(t, out, strings.Join(shown, ", "))
	require.Contains(t, shell(t, h.admin, commands[2]), `"matched":1`)
	awaitPrices(t, out, strings.Replace(strings.Join(shown, ", "), "20.00", "21.00", 1))
	require.NoError(t, h.cmd.Process.Signal(syscall.SIGTERM))
	expectWithin(t, out, "closed: 1001", pagePatience)
}

// awaitPrices waits until the page shows them.
func awaitPrices(t *testing.T, out <-chan said, prices string) {
	t.Helper()
	for expectWithin(t, out, "prices", pagePatience) != prices {
	}
}

// follow runs a command that goes on, and returns what waits for a line with the given text.
func follow(t *testing.T, script string) (await func(text string)) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = ".."
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, in, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = in, in
	require.NoError(t, cmd.Start())
	require.NoError(t, in.Close())
	linec := make(chan string, 1000)
	go func() {
		defer close(linec)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			linec <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
		for range linec {
		}
		_ = out.Close()
	})
	return func(text string) {
		t.Helper()
		timeout := time.After(patience)
		for {
			select {
			case line, ok := <-linec:
				require.True(t, ok, "%s has ended before it said %q", script, text)
				if strings.Contains(line, text) {
					return
				}
			case <-timeout:
				require.Fail(t, "not said in time", text)
			}
		}
	}
}

// spokeID returns the id of the one spoke.
func spokeID(t *testing.T, h *hub) string {
	t.Helper()
	resp, err := http.Get(h.admin + "/v1/spokes")
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct{ Spokes []struct{ ID string } }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Len(t, answer.Spokes, 1)
	return answer.Spokes[0].ID
}

// labels returns what the lines of a report begin with.
func labels(report string) (labels []string) {
	for line := range strings.Lines(report) {
		label, _, _ := strings.Cut(line, "  ")
		labels = append(labels, strings.TrimSpace(label))
	}
	return labels
}

// TestReadme runs what README.md shows for a shell. Each block is here with what it has to print; those that go on
// are ended by the test.
func TestReadme(t *testing.T) {
	h := startHub(t)
	tail := follow(t, "bin/hub tail --url "+h.spokes)
	tail("connected")
	listening := follow(t, "curl -sN "+h.admin+"/v1/events")
	for _, block := range snippets(t, "../README.md", "sh", h.spokes, h.admin) {
		first, _, _ := strings.Cut(block, "\n")
		switch {
		case strings.HasPrefix(first, "make run"), first == "bin/hub tail", first == "make test":
			// The hub is running, tail is below, and this is one of its tests.
		case strings.HasPrefix(first, "bin/hub publish"):
			require.Contains(t, shell(t, h.admin, block), "matched 1")
			tail(`{"type":"tick","id":"42","payload":{"price":7}}`)
		case strings.HasPrefix(first, "# publish"):
			id := spokeID(t, h)
			block = strings.ReplaceAll(block, "curl -N", "timeout 1 curl -sN") + "\n"
			block = strings.ReplaceAll(strings.ReplaceAll(block, "/v1/events'\n", "/v1/events' || true\n"), "SPOKE-ID", id)
			out := shell(t, h.admin, block)
			require.Contains(t, out, `{"accepted":1,"matched":1}`)
			require.Contains(t, out, `"id":"`+id)
			require.True(t, strings.Contains(out, "\nhub_spokes "), "no metrics")
			tail(`{"type":"tick","id":"42","payload":{"price":7}}`)
			listening(`"disconnected"`)
		case strings.HasPrefix(first, "cd clients/typescript"):
			// Run by the tests of that package.
		case strings.HasPrefix(first, "export HUB_AUTH_JWT_KEY"):
			address := freeAddress(t)
			block = strings.NewReplacer("bin/hub serve &", "bin/hub serve --listen "+address+" --admin off &",
				"bin/hub tail", "bin/hub tail --url ws://"+address+"/ws").Replace(block)
			follow(t, strings.ReplaceAll(block, "bin/hub tail", "trap 'kill %1' EXIT; bin/hub tail"))("connected")
		case strings.HasPrefix(first, "bin/hub doctor"):
			out := shell(t, h.admin, strings.NewReplacer("50000  ", "100  ", "healthcheck", "healthcheck --admin "+h.admin).Replace(block))
			require.Contains(t, out, "descriptors")
			require.Contains(t, out, "spoke-buffer")
		case strings.HasPrefix(first, "bin/hub bench"):
			block = strings.NewReplacer("10000", "500", "10s", "1s", "bench", "bench --url "+h.spokes+" --admin "+h.admin).Replace(block)
			out := shell(t, h.admin, block)
			require.Regexp(t, `(?m)^doubled +0$`, out)
			reports := snippets(t, "../README.md", "text", "", "")
			require.Len(t, reports, 1)
			require.Equal(t, labels(reports[0]), labels(out)[:len(labels(reports[0]))], "the report looks as it is shown")
		default:
			t.Errorf("nothing is known of %q", block)
		}
	}
}
