package cluster_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/cluster/enginetest"
	"github.com/alkdev/hub/internal/faulty"
)

var quiet = slog.New(slog.DiscardHandler)

// redisServer is a redis-server of the test's own.
type redisServer struct {
	t       *testing.T
	address string
	dir     string
	args    []string
	cmd     *exec.Cmd
}

func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("there is no redis-server on this machine: what needs one is left out")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &redisServer{t: t, address: ln.Addr().String(), dir: t.TempDir(), args: args}
	require.NoError(t, ln.Close())
	t.Cleanup(s.stop)
	s.start()
	return s
}

func (s *redisServer) start() {
	_, port, _ := net.SplitHostPort(s.address)
	s.cmd = exec.Command("redis-server", append([]string{
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir, "--logfile", "log",
	}, s.args...)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = os.Stderr
	require.NoError(s.t, s.cmd.Start())
	require.Eventually(s.t, func() bool {
		conn, err := net.Dial("tcp", s.address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 30*time.Second, 5*time.Millisecond)
}

func (s *redisServer) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *redisServer) signal(sig syscall.Signal) { require.NoError(s.t, s.cmd.Process.Signal(sig)) }

// do sends one inline command by a connection of its own, and returns the first line of the answer.
func (s *redisServer) do(command string) string {
	conn, err := net.Dial("tcp", s.address)
	require.NoError(s.t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, command+"\r\n")
	require.NoError(s.t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(s.t, err)
	return strings.TrimSpace(line)
}

// cutOff returns how many connections the server has ended because too much waited for them.
func (s *redisServer) cutOff() int {
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	require.NoError(s.t, err)
	return bytes.Count(log, []byte("overcoming of output buffer limits"))
}

// faultAfter is how many bytes pass before a fault.
const faultAfter = 100_003

func (s *redisServer) engine(t *testing.T, change ...func(*cluster.RedisConfig)) cluster.Engine {
	t.Helper()
	c := cluster.RedisConfig{
		Servers: []string{"redis://" + s.address}, Name: "hub", Logger: quiet,
		PingInterval: 200 * time.Millisecond, WriteTimeout: time.Second, DialTimeout: time.Second,
	}
	for _, fn := range change {
		fn(&c)
	}
	e, err := cluster.Redis(c)
	require.NoError(t, err)
	return e
}

// throughFaults returns what makes engines whose first connection goes by a faulty proxy; the next are sound.
func throughFaults(s *redisServer, script faulty.Script, change ...func(*cluster.RedisConfig)) func(t *testing.T) cluster.Engine {
	return func(t *testing.T) cluster.Engine {
		p, err := faulty.New(s.address)
		require.NoError(t, err)
		t.Cleanup(p.Close)
		e := s.engine(t, change...)
		var dials atomic.Int64
		cluster.SetRedisDial(e, func(ctx context.Context, address string) (net.Conn, error) {
			if dials.Add(1) == 1 {
				return p.Dial(script)
			}
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		})
		return e
	}
}

// patient makes an engine wait, so that it is not the first to give up.
func patient(c *cluster.RedisConfig) {
	c.PingInterval, c.WriteTimeout = 10*time.Second, 20*time.Second
}

func TestRedisIsAnEngine(t *testing.T) {
	hub, err := cluster.RedisHub("hub")
	require.NoError(t, err)
	yoga, err := cluster.RedisYoga("")
	require.NoError(t, err)
	enginetest.Run(t, func(t *testing.T) enginetest.Bed {
		s := startRedis(t)
		return enginetest.Bed{
			Engine: func(t *testing.T) cluster.Engine { return s.engine(t) },
			Hub:    hub, Yoga: yoga, Exact: true, Stop: s.stop, Start: s.start,
			Faults: map[string]enginetest.Fault{
				"the connections are killed": {Do: func(t *testing.T) {
					require.NotEqual(t, ":0", s.do("CLIENT KILL TYPE pubsub"))
				}},
				"the server stalls": {Do: func(*testing.T) {
					s.signal(syscall.SIGSTOP)
					time.Sleep(1500 * time.Millisecond)
					s.signal(syscall.SIGCONT)
				}},
				"nothing comes any more":             {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.Pause, Pause: time.Hour}}})},
				"nothing goes out any more":          {Engine: throughFaults(s, faulty.Script{Up: []faulty.Step{{After: faultAfter, Fault: faulty.Pause, Pause: time.Hour}}})},
				"a connection ends within a message": {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.Cut}}})},
				"a connection is reset":              {Engine: throughFaults(s, faulty.Script{Up: []faulty.Step{{After: faultAfter, Fault: faulty.Reset}}})},
				"a connection is half closed":        {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.HalfClose}}})},
				"the server cuts off who does not read": {
					Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.Pause, Pause: 5 * time.Second}}}, patient),
					Do: func(t *testing.T) {
						require.Equal(t, "+OK", s.do(`CONFIG SET client-output-buffer-limit "pubsub 65536 0 0"`))
						garbage := "PUBLISH hub:e:garbage " + strings.Repeat("x", 4<<10)
						require.Eventually(t, func() bool {
							s.do(strings.Repeat(garbage+"\r\n", 64))
							return s.cutOff() >= 3 // those of all hubs
						}, 30*time.Second, 10*time.Millisecond)
					},
				},
			},
		}
	})
}
