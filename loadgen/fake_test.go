package loadgen

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// fakeHub does to the streams of its spokes what a script says. It serves spokes and admin requests
// at one address.
type fakeHub struct {
	server *httptest.Server
	// script returns what one spoke gets for an event, whole frames; nil stands for the event itself.
	// The event that is not counted does not come by here.
	script func(spoke int, seq uint64, event []byte) []byte
	// answer, if not nil, may answer a request in the place of the hub; it reports whether it has.
	answer func(w http.ResponseWriter, request int) bool
	posted func(seq uint64) // called when an event has gone to all spokes

	mu       sync.Mutex
	spokes   []net.Conn
	requests int
	probed   bool
	pongs    []string
	closes   []codec.CloseCode // that spokes have sent
	handlers sync.WaitGroup
}

// startFake returns a hub without a script, and what to say to connect to it.
func startFake(t *testing.T, overTLS bool) (*fakeHub, Config) {
	t.Helper()
	f := &fakeHub{}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", f.serveSpoke)
	mux.HandleFunc("/v1/events", f.serveEvents)
	f.server = httptest.NewUnstartedServer(mux)
	c := Config{PayloadBytes: 128, Spokes: 3, EventsPerSec: 1000, Duration: time.Minute, Patience: 2 * time.Second, HandshakeTimeout: patience}
	if overTLS {
		f.server.StartTLS()
		c.URL = "wss" + strings.TrimPrefix(f.server.URL, "https") + "/ws"
		pool := x509.NewCertPool()
		pool.AddCert(f.server.Certificate())
		c.TLS = &tls.Config{RootCAs: pool, ServerName: "example.com"}
	} else {
		f.server.Start()
		c.URL = "ws" + strings.TrimPrefix(f.server.URL, "http") + "/ws"
	}
	c.Admin = f.server.URL
	t.Cleanup(func() {
		f.server.Close()
		f.mu.Lock()
		for _, c := range f.spokes {
			_ = c.Close()
		}
		f.mu.Unlock()
		f.handlers.Wait()
	})
	return f, c
}

// text is a message as hubs send it.
func text(payload []byte) []byte { return ws.MustCompileFrame(ws.NewTextFrame(payload)) }

// control is one of the hub's own events.
func control(typ string, payload any) []byte {
	b, err := codec.AppendEnvelope(nil, codec.Control(typ, "", payload))
	if err != nil {
		panic(err)
	}
	return text(b)
}

func (f *fakeHub) serveSpoke(w http.ResponseWriter, r *http.Request) {
	f.handlers.Add(1)
	defer f.handlers.Done()
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return
	}
	defer conn.Close()
	f.mu.Lock()
	f.spokes = append(f.spokes, conn)
	_, _ = conn.Write(control(codec.TypeWelcome, codec.Welcome{Spoke: "s", Node: "fake"}))
	f.mu.Unlock()
	for {
		header, err := ws.ReadHeader(conn)
		if err != nil || header.Length > 1<<20 {
			return
		}
		payload := make([]byte, header.Length)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		ws.Cipher(payload, header.Mask, 0)
		f.mu.Lock()
		switch header.OpCode {
		case ws.OpPong:
			f.pongs = append(f.pongs, string(payload))
		case ws.OpClose:
			code, _, _ := codec.ParseClose(payload)
			f.closes = append(f.closes, code)
			_, _ = conn.Write(codec.AppendCloseFrame(nil, code, ""))
		}
		f.mu.Unlock()
		if header.OpCode == ws.OpClose {
			return
		}
	}
}

func (f *fakeHub) serveEvents(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	if f.answer != nil && f.answer(w, f.requests) {
		return
	}
	accepted := 0
	for lines := bufio.NewScanner(r.Body); lines.Scan(); accepted++ {
		f.deliver(lines.Bytes())
	}
	fmt.Fprintf(w, `{"accepted":%d,"matched":0}`, accepted)
}

// deliver is called with mu held.
func (f *fakeHub) deliver(event []byte) {
	s, ok := readStamp(event)
	if !ok {
		panic(fmt.Sprintf("published: %q", event))
	}
	for i, conn := range f.spokes {
		frames := text(event)
		if f.probed && f.script != nil {
			if scripted := f.script(i, s.seq, event); scripted != nil {
				frames = scripted
			}
		}
		_, _ = conn.Write(frames)
	}
	if f.probed && f.posted != nil {
		f.posted(s.seq)
	}
	f.probed = true
}

// runUntil runs until so many events were published, and their script is done.
func (f *fakeHub) runUntil(t *testing.T, events uint64, c Config) *Report {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.posted = func(seq uint64) {
		if seq+1 == events {
			cancel()
		}
	}
	report, err := Run(ctx, c, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, report.Published.Events, events)
	return report
}
