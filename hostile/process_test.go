package hostile

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// await waits until cond is true.
func await(t testing.TB, cond func() bool, what string, args ...any) {
	t.Helper()
	awaitEvery(t, 5*time.Millisecond, cond, what, args...)
}

// awaitEvery looks at such intervals.
func awaitEvery(t testing.TB, interval time.Duration, cond func() bool, what string, args ...any) {
	t.Helper()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for began := time.Now(); !cond(); <-ticker.C {
		if time.Since(began) > patience {
			require.FailNow(t, "never: "+fmt.Sprintf(what, args...))
		}
	}
}

// process is a daemon.
type process struct {
	t             testing.TB
	cmd           *exec.Cmd
	spokes, admin string // addresses
	warnings      atomic.Int64
	logged        chan struct{} // closed at the end of its log
}

// startHub runs hub serve with these flags until the test ends. It must then end in order, and with
// nothing said by the race detector.
func startHub(t testing.TB, flags ...string) *process {
	t.Helper()
	binary, err := build()
	require.NoError(t, err)
	return start(t, exec.Command(binary, serveArgs(flags)...))
}

func serveArgs(flags []string) []string {
	return append([]string{"serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--log-format=json",
		"--pprof", "--drain-timeout=500ms"}, flags...)
}

func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, logged: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	in := bufio.NewScanner(stderr)
	for p.spokes == "" {
		require.True(t, in.Scan(), "the hub ends: %v", in.Err())
		var line struct{ Msg, Spokes, Admin string }
		require.NoError(t, json.Unmarshal(in.Bytes(), &line), in.Text())
		if line.Msg == "hub started" {
			address, _, _ := strings.Cut(strings.TrimPrefix(line.Spokes, "ws://"), "/")
			p.spokes, p.admin = address, strings.TrimPrefix(line.Admin, "http://")
		}
	}
	go func() { // ends with the process
		defer close(p.logged)
		for in.Scan() {
			if strings.Contains(in.Text(), `"level":"WARN"`) {
				p.warnings.Add(1)
			} else if !strings.HasPrefix(in.Text(), "{") {
				fmt.Fprintln(os.Stderr, in.Text()) // of the race detector, or a panic
			}
		}
	}()
	t.Cleanup(p.stop)
	return p
}

func (p *process) stop() {
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.logged
	require.NoError(p.t, p.cmd.Wait(), "the hub ends in order")
	http.DefaultClient.CloseIdleConnections()
}

func (p *process) cpu() time.Duration { return fleet.CPUOf(p.cmd.Process.Pid) }
func (p *process) resident() int64    { return fleet.ResidentBytes(p.cmd.Process.Pid) }

func (p *process) descriptors() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	return len(entries)
}

// get asks the admin side.
func (p *process) get(path string) string {
	p.t.Helper()
	resp, err := http.Get("http://" + p.admin + path)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, resp.StatusCode, "%s: %s", path, body)
	return string(body)
}

// metrics returns all of them, each the sum over its labels.
func (p *process) metrics() map[string]float64 {
	p.t.Helper()
	sums := make(map[string]float64)
	for line := range strings.Lines(p.get("/metrics")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ := strings.Cut(series, "{")
		v, err := strconv.ParseFloat(value, 64)
		require.NoError(p.t, err, line)
		sums[name] += v
	}
	return sums
}

// holdings is what must be back to where it was when an attack is over.
type holdings struct {
	connections, goroutines float64
	descriptors             int
	heap                    float64
}

// holds returns what the hub holds, after a garbage collection.
func (p *process) holds() holdings {
	p.t.Helper()
	p.get("/debug/pprof/heap?gc=1")
	m := p.metrics()
	return holdings{
		connections: m["hub_connections"], goroutines: m["go_goroutines"],
		descriptors: p.descriptors(), heap: m["go_memstats_heap_alloc_bytes"],
	}
}
