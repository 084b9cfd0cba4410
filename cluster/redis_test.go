package cluster_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	t       testing.TB
	address string
	dir     string
	args    []string
	cmd     *exec.Cmd
	// Where engines connect to, if it is not address: see startSecureRedis.
	secure string
	tls    *tls.Config
}

func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	return startRedisFrom(t, append([]string{"--save", "", "--appendonly", "no"}, args...))
}

func startRedisFrom(t testing.TB, args []string) *redisServer {
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
	s.cmd = exec.Command("redis-server", append(slices.Clone(s.args), "--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--logfile", "log")...)
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

func (s *redisServer) engine(t testing.TB, change ...func(*cluster.RedisConfig)) cluster.Engine {
	t.Helper()
	c := cluster.RedisConfig{
		Servers: []string{"redis://" + s.address}, Name: "hub", Logger: quiet,
		PingInterval: 500 * time.Millisecond, WriteTimeout: 2 * time.Second,
	}
	if s.secure != "" {
		c.Servers, c.TLS = []string{"rediss://" + s.secure}, s.tls
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
		p, err := faulty.New(cmp.Or(s.secure, s.address))
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
	c.PingInterval, c.WriteTimeout = 10*time.Second, 8*time.Second
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
					time.Sleep(2500 * time.Millisecond)
					s.signal(syscall.SIGCONT)
				}},
				"nothing comes any more":             {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.Pause, Pause: time.Hour}}})},
				"nothing goes out any more":          {Engine: throughFaults(s, faulty.Script{Up: []faulty.Step{{After: faultAfter, Fault: faulty.Pause, Pause: time.Hour}}})},
				"a connection ends within a message": {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.Cut}}})},
				"a connection is reset":              {Engine: throughFaults(s, faulty.Script{Up: []faulty.Step{{After: faultAfter, Fault: faulty.Reset}}})},
				"a connection is half closed":        {Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.HalfClose}}})},
				"the server cuts off who does not read": {
					Engine: throughFaults(s, faulty.Script{Down: []faulty.Step{{After: faultAfter, Fault: faulty.Pause, Pause: time.Hour}}}, patient),
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

// states is a cluster.Handler that keeps the last cause of being away, and whether it is there.
type states struct {
	mu    sync.Mutex
	up    bool
	cause string
	got   []string
}

func (s *states) Receive(_, subject string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, subject+" "+string(data))
}

func (s *states) Up() { s.mu.Lock(); defer s.mu.Unlock(); s.up = true }
func (s *states) Down(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.cause = false, cause.Error()
}
func (s *states) Lost(uint64, string) {}
func (s *states) Met()                {}

func (s *states) isUp() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.up }

func (s *states) why() string { s.mu.Lock(); defer s.mu.Unlock(); return s.cause }

func startStates(t *testing.T, e cluster.Engine) *states {
	t.Helper()
	s := &states{}
	require.NoError(t, e.Start(s))
	t.Cleanup(e.Close)
	return s
}

const patience = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 5*time.Millisecond, what)
}

func TestRedisKnowsWhoAsks(t *testing.T) {
	s := startRedis(t, "--requirepass", "s3cret", "--user", "hub", "on", ">s3cret2", "&hub:*", "+@all")
	servers := func(list ...string) func(*cluster.RedisConfig) {
		return func(c *cluster.RedisConfig) { c.Servers = list }
	}
	for _, c := range []struct {
		name   string
		change func(*cluster.RedisConfig)
		why    string // "" for let in
	}{
		{"nobody", servers("redis://" + s.address), "NOAUTH"},
		{"wrong", servers("redis://:s3cret3@" + s.address), "WRONGPASS"},
		{"in the address", servers("redis://:s3cret@" + s.address), ""},
		{"beside it", func(c *cluster.RedisConfig) { c.Password = "s3cret" }, ""},
		{"a user", servers("redis://hub:s3cret2@" + s.address), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := s.engine(t, c.change)
			h := startStates(t, e)
			if c.why == "" {
				eventually(t, "it is let in", h.isUp)
				require.Equal(t, s.address, e.Server())
				return
			}
			eventually(t, "it is told why", func() bool { return h.why() != "" })
			require.Contains(t, h.why(), c.why)
			require.NotContains(t, h.why(), "s3cret")
			require.Error(t, e.Publish("hub:e:tick:1", nil))
		})
	}
	t.Run("who may not publish is not there", func(t *testing.T) {
		e := s.engine(t, servers("redis://hub:s3cret2@"+s.address))
		h := startStates(t, e)
		eventually(t, "it is let in", h.isUp)
		require.NoError(t, e.Publish("other:1", []byte("1")))
		e.Flush()
		eventually(t, "the refusal counts as a loss", func() bool { return strings.Contains(h.why(), "NOPERM") })
	})
}

func TestAReplicaIsNoEngine(t *testing.T) {
	primary := startRedis(t)
	_, port, _ := net.SplitHostPort(primary.address)
	replica := startRedis(t, "--replicaof", "127.0.0.1", port)
	h := startStates(t, replica.engine(t))
	eventually(t, "it says why not", func() bool { return strings.Contains(h.why(), "replica") })
	several := startStates(t, primary.engine(t, func(c *cluster.RedisConfig) { c.Servers = append(c.Servers, c.Servers...) }))
	eventually(t, "two servers are no cluster", func() bool { return strings.Contains(several.why(), "Redis Cluster") })
}

// TestASentinelIsAskedForThePrimary: what a hub publishes at the one that is named reaches another hub, also
// when the first sentinel is not there and after the primary has changed.
func TestASentinelIsAskedForThePrimary(t *testing.T) {
	first, second := startRedis(t), startRedis(t)
	sentinel := startSentinel(t, first.address)
	servers := func(c *cluster.RedisConfig) {
		c.Servers = []string{"redis+sentinel://127.0.0.1:1/main", "redis+sentinel://" + sentinel.address + "/main"}
	}
	a, b := first.engine(t, servers), first.engine(t, servers)
	ofA, ofB := startStates(t, a), startStates(t, b)
	b.Subscribe(cluster.Subject{Name: "c"})
	both := func() bool { return ofA.isUp() && ofB.isUp() }
	eventually(t, "both are there", both)
	require.Equal(t, first.address, a.Server())
	first.stop()
	host, port, _ := net.SplitHostPort(second.address)
	require.Equal(t, "+OK", sentinel.do("SENTINEL REMOVE main"))
	require.Equal(t, "+OK", sentinel.do("SENTINEL MONITOR main "+host+" "+port+" 1"))
	eventually(t, "both are at the other", func() bool { return both() && a.Server() == second.address && b.Server() == second.address })
	eventually(t, "it arrives", func() bool {
		if a.Publish("c", []byte("1")) == nil {
			a.Flush()
		}
		ofB.mu.Lock()
		defer ofB.mu.Unlock()
		return len(ofB.got) > 0
	})
}

func startSentinel(t *testing.T, primary string, args ...string) *redisServer {
	t.Helper()
	host, port, _ := net.SplitHostPort(primary)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	require.NoError(t, os.WriteFile(file, []byte("sentinel monitor main "+host+" "+port+" 1\n"), 0o600))
	return startRedisFrom(t, append([]string{file, "--sentinel"}, args...))
}
