package loop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/fanout"
)

// Some tests need a process of their own, with a limit on its descriptors: the test binary runs
// itself, and TestMain turns to childMain.

const childVariable = "HUB_LOOP_TEST_CHILD"

// childStats is what a child says when asked.
type childStats struct {
	At       time.Time
	Warnings int
	Refused  map[string]uint64
}

// childMain runs a server in a child process, and reports whether this is one. The child says its
// address, then its statistics for every line that it reads.
func childMain() bool {
	limit, err := strconv.ParseUint(os.Getenv(childVariable), 10, 64)
	if err != nil {
		return false
	}
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
	}
	check(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}))
	warnings := &counting{Handler: slog.DiscardHandler}
	h, err := fanout.New(fanout.Config{})
	check(err)
	s, err := New(Config{Hub: h, MaxSpokes: 1 << 20, Logger: slog.New(warnings)})
	check(err)
	ln, err := Listen("127.0.0.1:0")
	check(err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	fmt.Println(ln.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		st := childStats{At: time.Now(), Warnings: int(warnings.n.Load()), Refused: make(map[string]uint64)}
		for why, n := range s.Stats().Refused {
			st.Refused[why.String()] = n
		}
		check(json.NewEncoder(os.Stdout).Encode(st))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Shutdown(ctx)
	check(<-served)
	h.Close()
	return true
}

// counting counts log records.
type counting struct {
	slog.Handler
	n atomic.Int64
}

func (c *counting) Enabled(context.Context, slog.Level) bool { return true }

func (c *counting) Handle(context.Context, slog.Record) error {
	c.n.Add(1)
	return nil
}

// child is a server in another process.
type child struct {
	t       testing.TB
	cmd     *exec.Cmd
	in      *json.Encoder
	out     *bufio.Reader
	closing func() error
	address string
}

// startChild runs a server in a process that may have so many descriptors.
func startChild(t testing.TB, descriptors int) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childVariable, descriptors))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	c := &child{t: t, cmd: cmd, in: json.NewEncoder(in), out: bufio.NewReader(out), closing: in.Close}
	c.address = c.line()
	return c
}

func (c *child) line() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	require.NoError(c.t, err)
	return line[:len(line)-1]
}

func (c *child) stats() (st childStats) {
	c.t.Helper()
	require.NoError(c.t, c.in.Encode("stats"))
	require.NoError(c.t, json.Unmarshal([]byte(c.line()), &st))
	return st
}

// stop ends the child, which must have nothing to complain about.
func (c *child) stop() {
	c.t.Helper()
	require.NoError(c.t, c.closing())
	require.NoError(c.t, c.cmd.Wait())
}
