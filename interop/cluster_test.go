package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

const clusterHubs = 3

// cluster is three hub processes that act as one, each with a client on Node's ws and one on coder/websocket, which
// publishes as well, and a publisher by HTTP.
type cluster struct {
	sites   [clusterHubs]*site
	streams []*stream // all there have been
}

// site is where a hub runs, and runs again.
type site struct {
	flags []string
	kills int

	mu      sync.Mutex
	hub     *hub
	spoke   *websocket.Conn
	current []*stream // of the hub that runs
	sent    map[string]int
}

// startCluster starts hubs with the flags that each gets, and waits until events of each reach all.
func startCluster(t *testing.T, flags func(i int) []string) *cluster {
	t.Helper()
	c := &cluster{}
	for i := range c.sites {
		c.sites[i] = &site{
			flags: append(flags(i), "--relay", "others", "--engine-beat", "200ms", "--drain-timeout", "200ms", "--node", fmt.Sprint("hub-", i)),
			sent:  make(map[string]int),
		}
		c.start(t, i)
	}
	c.reach(t)
	return c
}

// start starts a hub and connects clients to it.
func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	h := startHub(t, c.sites[i].flags...)
	var kills []int
	for _, s := range c.sites {
		if s != nil {
			kills = append(kills, s.kills)
		}
	}
	kills = append(kills, make([]int, clusterHubs-len(kills))...)
	streams := make([]*stream, 2)
	for k, name := range []string{"node ws", "coder/websocket"} {
		streams[k] = &stream{name: fmt.Sprintf("%s at %d", name, i), at: i, kills: kills, marks: make(map[string]bool)}
	}
	nodeStream(t, streams[0], h.spokes)
	spoke := goStream(t, streams[1], h.spokes)
	for _, s := range streams {
		require.Eventually(t, func() bool { return s.id() != "" }, patience, 5*time.Millisecond, s.name)
	}
	c.streams = append(c.streams, streams...)
	site := c.sites[i]
	site.mu.Lock()
	defer site.mu.Unlock()
	site.hub, site.spoke, site.current = h, spoke, streams
}

// kill ends a hub as a crash would, and waits for what clients of the others are told.
func (c *cluster) kill(t *testing.T, i int) {
	t.Helper()
	before := make(map[*stream]int)
	for k := range c.sites {
		for _, s := range c.current(k) {
			before[s] = s.count("")
		}
	}
	site := c.sites[i]
	site.kills++
	require.NoError(t, site.hub.cmd.Process.Kill())
	_ = site.hub.cmd.Wait()
	for s, gaps := range before {
		if s.at != i {
			require.Eventually(t, func() bool { return s.count("") > gaps }, patience, 5*time.Millisecond, "%s: no gap", s.name)
		}
	}
}

func (c *cluster) current(i int) []*stream {
	c.sites[i].mu.Lock()
	defer c.sites[i].mu.Unlock()
	return c.sites[i].current
}

// reach waits until what is published at any hub arrives at all.
func (c *cluster) reach(t *testing.T) {
	t.Helper()
	for from, site := range c.sites {
		mark := fmt.Sprint("from ", from, " ", rand.Uint64())
		for at := range c.sites {
			for _, s := range c.current(at) {
				require.Eventually(t, func() bool {
					site.hub.publish(t, fmt.Sprintf(`{"type":"mark","id":%q}`, mark))
					return s.marked(mark)
				}, patience, 10*time.Millisecond, "from hub %d to %s", from, s.name)
			}
		}
	}
}

// publish publishes at a site by HTTP and by its spoke until told otherwise. What fails, for the hub is being killed,
// may have been published nevertheless, so its number is not used again.
func (c *cluster) publish(i int, publishing *sync.WaitGroup, more func(n int) bool) {
	site := c.sites[i]
	client := &http.Client{Timeout: 5 * time.Second}
	publishers := map[string]func(event string){
		"http": func(event string) {
			site.mu.Lock()
			admin := site.hub.admin
			site.mu.Unlock()
			if resp, err := client.Post(admin+"/v1/events", "application/json", strings.NewReader(event)); err == nil {
				_ = resp.Body.Close()
			}
		},
		"spoke": func(event string) {
			site.mu.Lock()
			spoke := site.spoke
			site.mu.Unlock()
			_ = spoke.Write(context.Background(), websocket.MessageText, []byte(event))
		},
	}
	for name, send := range publishers {
		name = fmt.Sprint(name, "-", i)
		publishing.Go(func() {
			site.mu.Lock()
			n := site.sent[name]
			site.mu.Unlock()
			for k := 0; more(k); k++ {
				send(tick(name, n))
				n++
				time.Sleep(2 * time.Millisecond)
			}
			site.mu.Lock()
			site.sent[name] = n
			site.mu.Unlock()
		})
	}
}

// everything publishes a number of events at each hub and holds that each stream has got all of them and no gap.
func (c *cluster) everything(t *testing.T, events int) {
	t.Helper()
	var publishing sync.WaitGroup
	for i := range c.sites {
		c.publish(i, &publishing, func(n int) bool { return n < events })
	}
	publishing.Wait()
	for _, s := range c.streams {
		for i := range c.sites {
			for _, publisher := range []string{"http-", "spoke-"} {
				publisher = fmt.Sprint(publisher, i)
				want := events
				if s.at == i && publisher[0] == 's' && s.name[0] == 'c' {
					want = 0 // its own
				}
				require.Eventually(t, func() bool { return s.count(publisher) >= want }, patience, 5*time.Millisecond, "%s: %s", s.name, publisher)
				require.Equal(t, want, s.count(publisher), "%s: %s", s.name, publisher)
			}
		}
		require.Zero(t, s.check(t, func(string) bool { return false }))
		require.Zero(t, s.count(""), "%s: gaps", s.name)
	}
}

var allHubs = []int{0, 1, 2}

// during publishes at some hubs while something happens, and then checks all streams.
func (c *cluster) during(t *testing.T, at []int, what func(), mayMiss func(s *stream, hub int) bool) {
	t.Helper()
	var publishing sync.WaitGroup
	stopc := make(chan struct{})
	stop := sync.OnceFunc(func() { close(stopc); publishing.Wait() })
	defer stop()
	for _, i := range at {
		c.publish(i, &publishing, func(int) bool {
			select {
			case <-stopc:
				return false
			default:
				return true
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	what()
	time.Sleep(200 * time.Millisecond)
	stop()
	c.reach(t)
	missing, events, gaps := 0, 0, 0
	for _, s := range c.streams {
		missing += s.check(t, func(publisher string) bool {
			hub, err := strconv.Atoi(publisher[strings.IndexByte(publisher, '-')+1:])
			require.NoError(t, err)
			return mayMiss(s, hub)
		})
		events += len(s.events)
		gaps += s.count("")
	}
	require.Greater(t, events, 1000)
	t.Logf("%d streams: %d events came, %d are missing, %d gaps", len(c.streams), events-gaps, missing, gaps)
}

// comesAndGoes has a hub take its leave, and another one come in its place, while the others publish: their clients
// miss nothing.
func (c *cluster) comesAndGoes(t *testing.T, i int) {
	t.Helper()
	others := slices.Delete(slices.Clone(allHubs), i, i+1)
	c.during(t, others, func() {
		leaves := c.sites[i].hub.cmd
		require.NoError(t, leaves.Process.Signal(syscall.SIGTERM))
		require.NoError(t, leaves.Wait())
		time.Sleep(100 * time.Millisecond)
		c.start(t, i)
		c.reach(t)
	}, func(*stream, int) bool { return false })
}

// publisherWasKilled reports whether a stream may miss events of a hub because that hub has been killed meanwhile.
func (c *cluster) publisherWasKilled(s *stream, hub int) bool {
	return c.sites[hub].kills > s.kills[hub]
}

// freePorts returns addresses with ports that the kernel gives to nobody by itself: they have to be free again after
// a crash.
func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for len(addresses) < n {
		address := fmt.Sprint("127.0.0.1:", 20000+rand.IntN(12000))
		ln, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		defer ln.Close() // only then, so that they differ
		addresses = append(addresses, address)
	}
	return addresses
}

func TestHubsActAsOneWhileTheyAreKilled(t *testing.T) {
	t.Parallel() // much of it is waiting
	addresses := freePorts(t, clusterHubs)
	c := startCluster(t, func(i int) []string {
		return []string{
			"--engine", "embedded", "--cluster-auth", "hub:secret",
			"--cluster-listen", addresses[i], "--cluster-peers", strings.Join(addresses, ","),
		}
	})
	c.everything(t, 300)
	c.comesAndGoes(t, 2)
	c.during(t, allHubs, func() {
		for _, i := range []int{0, 1} {
			c.kill(t, i)
			c.start(t, i)
			c.reach(t)
		}
	}, c.publisherWasKilled)
}

// engineServer is a server of an engine in a process of its own.
type engineServer struct {
	scheme, address string
	command         []string
	cmd             *exec.Cmd
}

// startNATS builds the server of the version that go.mod names, and starts it.
func startNATS(t *testing.T) *engineServer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats-server")
	out, err := exec.Command("go", "build", "-C", "..", "-o", file, "github.com/nats-io/nats-server/v2").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return startEngine(t, "nats", func(host, port string) []string { return []string{file, "-a", host, "-p", port} })
}

// startRedis starts Debian's server.
func startRedis(t *testing.T) *engineServer {
	t.Helper()
	dir := t.TempDir()
	return startEngine(t, "redis", func(host, port string) []string {
		return []string{"redis-server", "--bind", host, "--port", port, "--save", "", "--dir", dir}
	})
}

func startEngine(t *testing.T, scheme string, command func(host, port string) []string) *engineServer {
	t.Helper()
	e := &engineServer{scheme: scheme, address: freePorts(t, 1)[0]}
	host, port, err := net.SplitHostPort(e.address)
	require.NoError(t, err)
	e.command = command(host, port)
	e.start(t)
	t.Cleanup(func() { e.kill(t) })
	return e
}

func (e *engineServer) start(t *testing.T) {
	t.Helper()
	e.cmd = exec.Command(e.command[0], e.command[1:]...)
	require.NoError(t, e.cmd.Start())
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", e.address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, 5*time.Millisecond)
}

func (e *engineServer) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, e.cmd.Process.Signal(syscall.SIGKILL))
	_ = e.cmd.Wait()
}

func (e *engineServer) url() string { return e.scheme + "://" + e.address }

func TestHubsActAsOneOverAnEngineWhileItAndTheyAreKilled(t *testing.T) {
	for name, startEngine := range map[string]func(*testing.T) *engineServer{"NATS": startNATS, "Redis": startRedis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // much of it is waiting
			engine := startEngine(t)
			c := startCluster(t, func(int) []string { return []string{"--engine", engine.url()} })
			c.everything(t, 300)
			c.comesAndGoes(t, 2)
			for _, s := range c.streams { // over embedded servers one may be announced though nothing is missing
				require.True(t, s.at == 2 || s.count("") == 0, "%s: gaps", s.name)
			}
			c.during(t, allHubs, func() {
				c.kill(t, 0)
				c.start(t, 0)
				c.reach(t)
			}, c.publisherWasKilled)
			c.during(t, allHubs, func() {
				engine.kill(t)
				time.Sleep(100 * time.Millisecond) // some events fall into it
				engine.start(t)
				c.reach(t)
			}, func(s *stream, hub int) bool { return s.at != hub || c.publisherWasKilled(s, hub) })
		})
	}
}
