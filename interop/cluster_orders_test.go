package interop

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ask sends a request to a hub's admin side.
func (h *hub) ask(t *testing.T, method, path, body string) (status int, code string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.admin+path, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var problem struct{ Error struct{ Code string } }
	_ = json.NewDecoder(resp.Body).Decode(&problem)
	return resp.StatusCode, problem.Error.Code
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 10*time.Millisecond, what)
}

// A spoke is reached and kicked through another hub. That it is gone is known if its hub says so or has taken its
// leave (404); if the hub is silent nobody knows (504), and once it goes on the spoke is reached again.
func TestASpokeIsReachedThroughAnotherHubProcess(t *testing.T) {
	addresses := freePorts(t, clusterHubs)
	c := startCluster(t, func(i int) []string {
		return []string{
			"--engine", "embedded", "--cluster-listen", addresses[i], "--cluster-peers", strings.Join(addresses, ","),
			"--engine-timeout", "300ms",
		}
	})
	asked := c.sites[0].hub
	send := func(s *stream, mark string) int {
		status, _ := asked.ask(t, "POST", "/v1/spokes/"+s.id()+"/events", `{"type":"mark","id":"`+mark+`"}`)
		return status
	}
	kick := func(s *stream) int {
		status, _ := asked.ask(t, "DELETE", "/v1/spokes/"+s.id(), "")
		return status
	}
	node, other := c.sites[2].current[0], c.sites[2].current[1]
	require.Equal(t, 200, send(node, "own"))
	eventually(t, "it arrives", func() bool { return node.marked("own") })
	for _, s := range c.streams {
		require.Equal(t, s == node, s.marked("own"), s.name)
	}
	kicked := c.sites[1].current[0]
	require.Equal(t, 202, kick(kicked))
	eventually(t, "it has gone", func() bool { return send(kicked, "late") == 404 })
	require.Equal(t, 404, kick(kicked))
	require.False(t, kicked.marked("late"))
	eventually(t, "no hub has such spokes, as is known four beats after the start", func() bool {
		status, _ := asked.ask(t, "DELETE", "/v1/spokes/0000000000000000-nobody", "")
		return status == 404
	})

	stopped := c.sites[2].hub.cmd.Process
	require.NoError(t, stopped.Signal(syscall.SIGSTOP))
	var state syscall.WaitStatus
	_, err := syscall.Wait4(stopped.Pid, &state, syscall.WUNTRACED, nil) // all its threads, which takes a moment
	require.NoError(t, err)
	require.True(t, state.Stopped())
	defer func() { _ = stopped.Signal(syscall.SIGCONT) }()
	status, code := asked.ask(t, "POST", "/v1/spokes/"+node.id()+"/events", `{"type":"mark","id":"unsure"}`)
	require.Equal(t, 504, status)
	require.Equal(t, "unanswered", code)
	require.Equal(t, 504, kick(other))
	eventually(t, "it is lost", func() bool {
		var info struct{ Hubs []struct{ State string } }
		resp, err := http.Get(asked.admin + "/v1/cluster")
		require.NoError(t, err)
		defer resp.Body.Close()
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&info))
		for _, h := range info.Hubs {
			if h.State == "lost" {
				return true
			}
		}
		return false
	})
	require.Equal(t, 504, send(node, "unsure"), "it may be there still")
	require.Equal(t, 504, kick(node))
	require.NoError(t, stopped.Signal(syscall.SIGCONT))
	eventually(t, "it is back", func() bool { return send(node, "back") == 200 })
	eventually(t, "it arrives", func() bool { return node.marked("back") })

	leaves := c.sites[1].hub.cmd
	require.NoError(t, leaves.Process.Signal(syscall.SIGTERM))
	require.NoError(t, leaves.Wait())
	eventually(t, "its spokes are known to be gone", func() bool { return send(c.sites[1].current[1], "late") == 404 })
	require.NoError(t, c.sites[2].hub.cmd.Process.Kill())
	eventually(t, "nobody knows of those of a hub that was killed", func() bool { return send(node, "late") == 504 })
}

// Without --engine-required a hub is ready whatever happens to the engine, and with it only while it is there.
func TestReadinessOfHubProcessesWhileTheEngineIsAway(t *testing.T) {
	nats := startNATS(t)
	flags := []string{"--engine", nats.url(), "--node", "hub-1"}
	needs, goesOn := startHub(t, append(flags, "--engine-required")...), startHub(t, flags...)
	ready := func(h *hub) int {
		alive, _ := h.ask(t, "GET", "/livez", "")
		require.Equal(t, 200, alive, "it is no reason to start the hub again")
		status, _ := h.ask(t, "GET", "/readyz", "")
		return status
	}
	require.Equal(t, []int{200, 200}, []int{ready(needs), ready(goesOn)})
	nats.kill(t)
	eventually(t, "the hub is not ready", func() bool { return ready(needs) == 503 })
	late := startHub(t, append(flags, "--engine-required")...)
	require.Equal(t, []int{503, 503}, []int{ready(needs), ready(late)})
	eventually(t, "the other knows, too", func() bool { return goesOn.publishLocally(t) })
	require.Equal(t, 200, ready(goesOn))
	nats.start(t)
	eventually(t, "all are ready again", func() bool { return ready(needs)+ready(goesOn)+ready(late) == 600 })
}

// publishLocally reports whether an event was said to stay on its hub.
func (h *hub) publishLocally(t *testing.T) bool {
	t.Helper()
	resp, err := http.Post(h.admin+"/v1/events", "application/json", strings.NewReader(`{"type":"tick"}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	var answer struct{ NotForwarded bool }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	return answer.NotForwarded
}
