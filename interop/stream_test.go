package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// stream is what one foreign client of a hub has got, in its order.
type stream struct {
	name  string
	at    int   // the hub's place in its cluster
	kills []int // of each hub, when the stream began

	mu     sync.Mutex
	events []numbered
	marks  map[string]bool
	spoke  string   // its id
	strays []string // what should not have come
}

// numbered is an event of a publisher, or, without one, a __gap.
type numbered struct {
	publisher string
	n         int
}

// take notes one message.
func (s *stream) take(message []byte) {
	var e struct {
		Type    string
		ID      string
		Payload json.RawMessage
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := json.Unmarshal(message, &e); err != nil {
		s.strays = append(s.strays, string(message))
		return
	}
	switch e.Type {
	case "tick":
		var got numbered
		if err := json.Unmarshal(e.Payload, &[]any{&got.publisher, &got.n}); err != nil {
			s.strays = append(s.strays, string(message))
		}
		s.events = append(s.events, got)
	case "__gap":
		var gap struct{ Reason string }
		if json.Unmarshal(e.Payload, &gap) != nil || gap.Reason != "engine" {
			s.strays = append(s.strays, string(message))
		}
		s.events = append(s.events, numbered{})
	case "mark":
		s.marks[e.ID] = true
	case "__welcome":
		var welcome struct{ Spoke string }
		if json.Unmarshal(e.Payload, &welcome) != nil {
			s.strays = append(s.strays, string(message))
		}
		s.spoke = welcome.Spoke
	case "__drain":
	default:
		s.strays = append(s.strays, string(message))
	}
}

func (s *stream) marked(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks[id]
}

// id returns that of the spoke, empty until it is known.
func (s *stream) id() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spoke
}

// count returns how many events of a publisher have come, or gaps.
func (s *stream) count(publisher string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.publisher == publisher {
			n++
		}
	}
	return n
}

// check holds that each publisher's events came once and in order, that what is missing was announced behind the
// last that came before it, and that it is missing only where it may be. It returns how many are missing.
func (s *stream) check(t *testing.T, mayMiss func(publisher string) bool) (missing int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Empty(t, s.strays, s.name)
	lastGap := -1
	for i, e := range s.events {
		if e.publisher == "" {
			lastGap = i
		}
	}
	type last struct{ n, at int }
	lasts := make(map[string]last)
	for i, e := range s.events {
		if e.publisher == "" {
			continue
		}
		if l, ok := lasts[e.publisher]; ok {
			require.Greater(t, e.n, l.n, "%s: %s: once and in order", s.name, e.publisher)
			if hole := e.n - l.n - 1; hole > 0 {
				require.True(t, mayMiss(e.publisher), "%s: %s: %d are missing after %d", s.name, e.publisher, hole, l.n)
				require.Greater(t, lastGap, l.at, "%s: %s: no gap was announced after %d", s.name, e.publisher, l.n)
				missing += hole
			}
		}
		lasts[e.publisher] = last{e.n, i}
	}
	return missing
}

// nodeStream connects Node's ws to a hub.
func nodeStream(t *testing.T, s *stream, url string) {
	t.Helper()
	cmd := exec.Command("node", "stream.mjs", url)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done; _ = cmd.Wait() })
	go func() {
		defer close(done)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			s.take(lines.Bytes())
		}
	}()
}

// goStream connects coder/websocket to a hub.
func goStream(t *testing.T, s *stream, url string) *websocket.Conn {
	t.Helper()
	c, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{"hub.v1"}})
	require.NoError(t, err)
	if resp.Body != nil {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	c.SetReadLimit(1 << 20)
	done := make(chan struct{})
	t.Cleanup(func() { _ = c.CloseNow(); <-done })
	go func() {
		defer close(done)
		for {
			_, message, err := c.Read(context.Background())
			if err != nil {
				return
			}
			s.take(message)
		}
	}()
	return c
}

// tick is the n-th event of a publisher.
func tick(publisher string, n int) string {
	return fmt.Sprintf(`{"type":"tick","id":"1","payload":[%q,%d]}`, publisher, n)
}
