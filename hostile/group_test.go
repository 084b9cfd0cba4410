package hostile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// group is those who behave: spokes that take a stream of events, one that asks and waits for the
// answer, and those that come and go.
type group struct {
	t    testing.TB
	hub  *process
	form form
	http http.Client

	published int64
	asker     *watched
	answers   chan codec.Envelope // what the asker receives; closed at its end
	spokes    []*watched
	waits     waits
	failure   atomic.Pointer[string] // the first
}

// waits is how long those who behave waited, since the last measurement began.
type waits struct {
	mu                         sync.Mutex
	events, answers, greetings []time.Duration
}

func (w *waits) add(list *[]time.Duration, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*list = append(*list, d)
}

// watched is a spoke of the group.
type watched struct {
	conn     net.Conn
	in       *bufio.Reader
	received atomic.Int64
}

// stamp is the payload of an event of the stream.
type stamp struct {
	N, At int64
}

func newGroup(t testing.TB, hub *process, form form) *group {
	t.Helper()
	g := &group{t: t, hub: hub, form: form, answers: make(chan codec.Envelope, 8)}
	g.http.Transport = &http.Transport{}
	var readers sync.WaitGroup
	t.Cleanup(func() { // before the hub's
		g.asker.close()
		for _, w := range g.spokes {
			w.close()
		}
		readers.Wait()
		g.http.CloseIdleConnections()
	})
	var err error
	g.asker, err = join(hub.spokes, "/ws?topic=none:of")
	require.NoError(t, err)
	readers.Go(g.listen)
	for range form.spokes {
		w, err := join(hub.spokes, "/ws?topic=watch:*")
		require.NoError(t, err)
		g.spokes = append(g.spokes, w)
		readers.Go(func() { g.follow(w) })
	}
	return g
}

// join connects a spoke that behaves, and reads its welcome.
func join(address, path string) (*watched, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	w := &watched{conn: conn, in: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err = shake(w.conn, w.in, path, false); err == nil {
		_, err = w.next()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return w, nil
}

// shake asks for the upgrade and reads the answer.
func shake(out io.Writer, in *bufio.Reader, path string, deflate bool) error {
	if _, err := out.Write(request(path, deflate)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the hub says %s", resp.Status)
	}
	return nil
}

func request(path string, deflate bool) []byte {
	extension := ""
	if deflate {
		extension = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"
	}
	return []byte("GET " + path + " HTTP/1.1\r\nHost: hub.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + extension + "\r\n")
}

func (w *watched) close() {
	_, _ = w.conn.Write(frame(ws.OpClose, nil))
	_ = w.conn.Close()
}

// next reads the next event, and answers pings.
func (w *watched) next() (codec.Envelope, error) {
	for {
		h, err := ws.ReadHeader(w.in)
		if err != nil {
			return codec.Envelope{}, err
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(w.in, payload); err != nil {
			return codec.Envelope{}, err
		}
		switch h.OpCode {
		case ws.OpPing:
			if _, err := w.conn.Write(frame(ws.OpPong, payload)); err != nil {
				return codec.Envelope{}, err
			}
		case ws.OpClose:
			return codec.Envelope{}, fmt.Errorf("closed by the hub: %q", payload)
		default:
			return codec.ParseEnvelope(payload)
		}
	}
}

// listen reads what the asker receives, also when it asks nothing: who does not read does not answer pings.
func (g *group) listen() {
	defer close(g.answers)
	for {
		e, err := g.asker.next()
		if err != nil {
			g.fail("the spoke that asks has lost its connection: %v", err)
			return
		}
		g.answers <- e
	}
}

// follow reads a spoke's stream until its end.
func (g *group) follow(w *watched) {
	for {
		e, err := w.next()
		if err != nil {
			g.fail("a spoke that behaves has lost its connection after %d events: %v", w.received.Load(), err)
			return
		}
		var s stamp
		if err := json.Unmarshal(e.Payload, &s); err != nil || e.Type != "watch" {
			g.fail("instead of event %d: %s %s", w.received.Load(), e.Type, e.Payload)
			return
		}
		if want := w.received.Load(); s.N != want {
			g.fail("event %d instead of %d", s.N, want)
			return
		}
		g.waits.add(&g.waits.events, time.Duration(time.Now().UnixNano()-s.At))
		w.received.Add(1)
	}
}

func (g *group) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	g.failure.CompareAndSwap(nil, &text)
}

func (g *group) requireWell() {
	g.t.Helper()
	if p := g.failure.Load(); p != nil {
		require.FailNow(g.t, *p)
	}
}

// service is how those who behave were served: each time is the 99th percentile, or with less than
// 100 the longest.
type service struct {
	Events, Answers, Greetings time.Duration
	CPU, Elapsed               time.Duration // of the hub
	Resident                   int64         // most of it
}

// measure publishes so many events at their pace and waits until everybody has them.
func (g *group) measure(events int) service {
	g.t.Helper()
	g.waits.mu.Lock()
	g.waits.events, g.waits.answers, g.waits.greetings = nil, nil, nil
	g.waits.mu.Unlock()
	began, cpu := time.Now(), g.hub.cpu()
	stopc := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { g.every(g.form.asks, stopc, g.ask) })
	others.Go(func() { g.every(g.form.comes, stopc, g.come) })
	pace := time.NewTicker(time.Second / eventsPerSec)
	defer pace.Stop()
	s := service{Resident: g.hub.resident()}
	for range events {
		<-pace.C
		g.publish()
		s.Resident = max(s.Resident, g.hub.resident())
	}
	for _, w := range g.spokes {
		await(g.t, func() bool { return w.received.Load() == g.published || g.failure.Load() != nil }, "every event arrives")
	}
	close(stopc)
	others.Wait()
	g.requireWell()
	s.CPU, s.Elapsed = g.hub.cpu()-cpu, time.Since(began)
	g.waits.mu.Lock()
	defer g.waits.mu.Unlock()
	s.Events, s.Answers, s.Greetings = p99(g.waits.events), p99(g.waits.answers), p99(g.waits.greetings)
	return s
}

func p99(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)*99/100]
}

func (g *group) publish() {
	g.t.Helper()
	body := fmt.Appendf(nil, `{"type":"watch","id":"x","payload":{"N":%d,"At":%d}}`, g.published, time.Now().UnixNano())
	resp, err := g.http.Post("http://"+g.hub.admin+"/v1/events", "application/json", bytes.NewReader(body))
	require.NoError(g.t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	require.NoError(g.t, resp.Body.Close())
	require.Equal(g.t, http.StatusOK, resp.StatusCode)
	g.published++
}

// every calls fn at intervals until stopc is closed, or fn has failed.
func (g *group) every(interval time.Duration, stopc <-chan struct{}, fn func() error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-stopc:
			return
		}
		if err := fn(); err != nil {
			g.fail("%v", err)
			return
		}
	}
}

// ask sends something that the hub answers.
func (g *group) ask() error {
	began := time.Now()
	if _, err := g.asker.conn.Write(text(`{"type":"__subscribe","id":"none:of"}`)); err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	select {
	case e, ok := <-g.answers:
		if !ok || e.Type != codec.TypeSubscribed {
			return fmt.Errorf("instead of an answer: %s %s", e.Type, e.Payload)
		}
	case <-time.After(patience):
		return errors.New("no answer")
	}
	g.waits.add(&g.waits.answers, time.Since(began))
	return nil
}

// come connects, waits for the welcome and leaves.
func (g *group) come() error {
	began := time.Now()
	w, err := join(g.hub.spokes, "/ws?topic=none:of")
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	g.waits.add(&g.waits.greetings, time.Since(began))
	w.close()
	return nil
}
