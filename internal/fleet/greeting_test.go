package fleet

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// greeter is a server that talks before it sends events: it greets, waits for the hello, and answers
// it. Its frames are never twice the same.
type greeter struct {
	t     *testing.T
	hello []byte
	mu    sync.Mutex
	conns []net.Conn
	paths []string
}

func (g *greeter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = conn.Write(appendAnswer(nil, []byte(r.Header.Get("Sec-WebSocket-Key"))))
	_, _ = conn.Write(serverFrame("welcome"))
	hello := make([]byte, len(g.hello))
	if _, err := io.ReadFull(rw, hello); err != nil || !bytes.Equal(hello, g.hello) {
		g.t.Errorf("hello is %q: %v", hello, err)
	}
	g.mu.Lock()
	g.conns = append(g.conns, conn)
	g.paths = append(g.paths, r.URL.String()+" "+r.Header.Get("Sec-WebSocket-Protocol")+" "+r.Header.Get("Origin"))
	g.mu.Unlock()
	_, _ = conn.Write(serverFrame("something"))
	_, _ = conn.Write(serverFrame("go ahead"))
}

func (g *greeter) close() {
	for _, c := range g.conns {
		_ = c.Close()
	}
}

func serverFrame(payload string) []byte {
	return append([]byte{0x80 | Text, byte(len(payload))}, payload...)
}

func TestCountingBeginsBehindTheGreeting(t *testing.T) {
	g := &greeter{t: t, hello: Message(Text, "hello "+strings.Repeat("x", 200))}
	server := httptest.NewServer(g)
	defer server.Close()
	defer g.close()
	f := Launch(t)
	_, err := f.Connect(Clients{
		Address: server.Listener.Addr().String(), Path: "/some/" + GroupMark, Subprotocol: "some.v1", Header: "Origin: http://here\r\n",
		Hello: g.hello, Until: "ahead", Reading: 4, Groups: 2,
	})
	require.NoError(t, err)
	for _, group := range []uint64{0, 1} {
		require.Contains(t, g.paths, "/some/"+Number(group)+" some.v1 http://here")
	}
	group := map[net.Conn]bool{}
	for i, c := range g.conns {
		group[c] = strings.Contains(g.paths[i], Number(1))
	}
	var cpu time.Duration
	s := Source{
		Fleet: f, CPU: func() time.Duration { cpu += time.Millisecond; return cpu },
		Publish: func(n uint64) error {
			for _, c := range g.conns {
				if group[c] != (n%2 == 1) {
					continue
				}
				if _, err := c.Write(serverFrame(fmt.Sprintf("%d: >%s", n*n, Number(n)))); err != nil {
					return err
				}
			}
			return nil
		},
	}
	n, err := s.Measure(Load{Event: Event{Marker: ": >"}, Window: 3, Events: 100})
	require.NoError(t, err)
	require.EqualValues(t, 200, n.Deliveries)
	require.Equal(t, time.Millisecond, n.CPU)
}

func TestGreetingInPieces(t *testing.T) {
	answer := string(appendAnswer(nil, []byte(exampleKey)))
	long := append([]byte{0x81, 126, 1, 0}, bytes.Repeat([]byte{'x'}, 256)...)
	for i, c := range []struct {
		heard  string
		config Clients
		fault  bool
	}{
		{answer, Clients{}, false},
		{answer + "\x81\x02{}", Clients{Skip: 1}, false},
		{answer + "\x81\x02{}", Clients{}, true},
		{answer + string(long) + "\x81\x01y", Clients{Until: "y"}, false},
		{answer + string(long) + "\x81\x01y", Clients{Skip: 1}, true},
		{strings.Replace(answer, "101", "200", 1), Clients{}, true},
		{strings.Replace(answer, "s3p", "s4p", 1), Clients{}, true},
	} {
		for _, size := range []int{1, 50, len(c.heard)} {
			var g greeting
			var done bool
			var err error
			for rest := c.heard; len(rest) > 0 && err == nil; rest = rest[min(size, len(rest)):] {
				// What comes behind the end is not a part of the greeting, unless it comes with it.
				if done {
					err = io.ErrUnexpectedEOF
					break
				}
				done, err = g.hear([]byte(rest[:min(size, len(rest))]), &c.config)
			}
			require.Equal(t, c.fault, err != nil, "case %d, %d at a time: %v", i, size, err)
			require.Equal(t, !c.fault, done && err == nil)
		}
	}
}
