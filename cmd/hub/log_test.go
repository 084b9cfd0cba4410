package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/client"
	"github.com/alkdev/hub/codec"
)

// fullPipe returns a pipe in which there is no room.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	const pipeBytes = 4 << 10
	_, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeBytes)
	require.NoError(t, err)
	_, err = w.Write(bytes.Repeat([]byte(" "), pipeBytes-1))
	require.NoError(t, err)
	_, err = w.WriteString("\n")
	require.NoError(t, err)
	return r, w
}

// Nobody reads the pipe, and it is full before the hub begins.
func TestALogThatNobodyReadsStopsNothing(t *testing.T) {
	r, w := fullPipe(t)
	address, admin := freeAddress(t), freeAddress(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=serve --listen="+address+" --admin="+admin+" --log-level=debug --log-buffer=4KiB --log-format=json")
	cmd.Stderr = w
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	ended := false
	defer func() {
		if !ended {
			kill(cmd)
		}
	}()
	got := make(chan string, 1)
	var c *client.Client
	var err error
	require.Eventually(t, func() bool {
		c, err = client.Dial(t.Context(), "ws://"+address+"/ws", client.Options{
			OnEvent: func(_ *client.Client, e codec.Envelope) { got <- e.Topic() },
		})
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	defer func() { _ = c.Close(codec.CloseNormal, "") }()
	for dropped := 0.0; dropped < 100; { // each request is a line
		require.NoError(t, publish(t.Context(), []string{"--admin", "http://" + admin, "--quiet", "tick:1"}))
		select {
		case topic := <-got:
			require.Equal(t, "tick:1", topic)
		case <-time.After(time.Minute):
			require.FailNow(t, "no event")
		}
		dropped = metric(t, admin, `hub_log_lines_dropped_total{reason="buffer"}`)
	}
	http.DefaultClient.CloseIdleConnections()

	// It is read again: what was waiting comes, and how much is missing, then what is logged from now on.
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var log []string
	for in := bufio.NewScanner(r); in.Scan(); {
		log = append(log, in.Text())
	}
	require.NoError(t, cmd.Wait())
	ended = true
	text := strings.Join(log, "\n")
	require.Contains(t, text, `"msg":"hub started"`)
	require.Contains(t, text, `lines of this log are missing here: it could not be written","lines":1`) // a hundred and some
	require.Contains(t, log[len(log)-1], `"msg":"stopped"`)
}

// A hub that cannot begin, or that is asked for what there is not, says so to a full pipe, and ends all the same.
func TestAHubThatFailsEndsThoughNobodyReadsWhy(t *testing.T) {
	for args, code := range map[string]int{
		"serve --listen=192.0.2.1:1 --admin=off": exitError, // an address of nobody's, once the log has begun
		"serve --listen=nonsense":                exitUsage,
		"nonsense":                               exitUsage,
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			_, w := fullPipe(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"="+args)
			cmd.Stderr = w
			require.NoError(t, cmd.Start())
			require.NoError(t, w.Close())
			giveUp := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
			defer giveUp.Stop()
			var ended *exec.ExitError
			require.ErrorAs(t, cmd.Wait(), &ended)
			require.Equal(t, code, ended.ExitCode(), "-1 if it had to be killed")
		})
	}
}

// metric returns a series of what the hub serves.
func metric(t *testing.T, admin, series string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			return v
		}
	}
	require.FailNow(t, "there is no such metric", series)
	return 0
}

// Who reads the log goes away altogether.
func TestAHubOutlivesTheReaderOfItsLog(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=serve --listen="+address+" --admin="+admin+" --log-level=debug")
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	cmd.Stderr = w
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	defer kill(cmd)
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + admin + "/livez")
		if err != nil {
			return false
		}
		require.NoError(t, resp.Body.Close())
		return true
	}, time.Minute, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		return metric(t, admin, `hub_log_lines_dropped_total{reason="error"}`) >= 3
	}, time.Minute, 20*time.Millisecond)
	http.DefaultClient.CloseIdleConnections()
}
