package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/certs"
	"github.com/alkdev/hub/internal/fleet"
)

// secureClients are connections of a process of its own which discards what arrives, and does not even open
// what is sealed: what it costs to receive is its affair.
type secureClients struct {
	Address string
	Count   int
	TLS     bool
	Floor   bool // no WebSocket
}

// discardMain connects as it is told, and keeps the connections.
func discardMain() error {
	var mu sync.Mutex
	var conns []net.Conn
	err := fleet.Obey(func(c secureClients) (int, error) {
		indexes := make(chan int)
		errc := make(chan error, 64)
		var dialers sync.WaitGroup
		for range cap(errc) {
			dialers.Go(func() {
				for i := range indexes {
					conn, err := c.dial(i)
					if err != nil {
						errc <- fmt.Errorf("connection %d: %w", i, err)
						return
					}
					mu.Lock()
					conns = append(conns, conn)
					mu.Unlock()
					go func() { // ends with the process, or the hub
						buf := make([]byte, 4<<10)
						for err := error(nil); err == nil; {
							_, err = conn.Read(buf)
						}
					}()
				}
			})
		}
		for i := range c.Count {
			select {
			case indexes <- i:
			case err := <-errc:
				return 0, err
			}
		}
		close(indexes)
		dialers.Wait()
		select {
		case err := <-errc:
			return 0, err
		default:
			return len(conns), nil
		}
	})
	for _, c := range conns {
		_ = c.Close()
	}
	return err
}

// dial makes one connection and returns what is below TLS.
func (c *secureClients) dial(i int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/5000))}, KeepAlive: -1}
	raw, err := d.DialContext(context.Background(), "tcp4", c.Address)
	if err != nil {
		return nil, err
	}
	conn := raw
	if c.TLS {
		secure := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519}})
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		conn = secure
	}
	if c.Floor {
		return raw, nil
	}
	_, err = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	if err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(resp.Status)
	}
	return raw, err
}

func serverTLS() (*tls.Config, error) {
	c, err := certs.New("bench")
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{c.TLS}}, nil
}

// secureHubMain is a process with a hub and TLS, and nothing else.
func secureHubMain() error {
	secure, err := serverTLS()
	if err != nil {
		return err
	}
	h, err := openHubWith(fanout.Config{}, secure)
	if err != nil {
		return err
	}
	err = fleet.Obey(func(any) (footprint, error) { return h.footprint(), nil })
	return errors.Join(err, h.close())
}

// BenchmarkTLSIdleMemory is BenchmarkIdleMemory over TLS.
func BenchmarkTLSIdleMemory(b *testing.B) {
	for _, spokes := range idleSpokes {
		b.Run(fmt.Sprintf("spokes=%d", spokes), func(b *testing.B) {
			for b.Loop() {
				hub, clients := fleet.Start(b, roleSecureHub), fleet.Start(b, roleDiscard)
				var empty, full footprint
				require.NoError(b, hub.Ask(nil, &empty))
				require.NoError(b, clients.Ask(secureClients{Address: empty.Address, Count: spokes, TLS: true}, nil))
				require.NoError(b, hub.Ask(nil, &full))
				require.Equal(b, spokes, full.Spokes)
				per := func(before, after int64) float64 { return float64(after-before) / float64(spokes) }
				b.ReportMetric(per(empty.ResidentBytes, full.ResidentBytes), "rss-B/spoke")
				b.ReportMetric(per(empty.HeapBytes, full.HeapBytes), "heap-B/spoke")
				b.ReportMetric(float64(full.Goroutines), "goroutines")
				clients.Stop()
				hub.Stop()
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkTLSConnect says what a connection costs the hub, with TLS and without, from connect(2) to the
// answer of the WebSocket handshake.
func BenchmarkTLSConnect(b *testing.B) {
	const spokes = 2000
	for _, secure := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%v", secure), func(b *testing.B) {
			for b.Loop() {
				s := startSecureSide(b, secure)
				before, began := fleet.SelfCPU(), time.Now()
				s.connect(b, spokes)
				b.ReportMetric(float64((fleet.SelfCPU()-before).Microseconds())/spokes, "cpu-us/connection")
				b.ReportMetric(spokes/time.Since(began).Seconds(), "connections/s")
				s.end()
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// secureSide is something that writes the same to all connections.
type secureSide struct {
	address string
	secure  bool
	floor   bool
	clients *fleet.Child
	write   func(joined []byte, batch []codec.Envelope) error
	end     func()
}

func (s *secureSide) connect(b testing.TB, n int) {
	b.Helper()
	var got int
	require.NoError(b, s.clients.Ask(secureClients{Address: s.address, Count: n, TLS: s.secure, Floor: s.floor}, &got))
	require.Equal(b, n, got)
}

// startSecureSide starts a hub in this process, and the process of its clients.
func startSecureSide(b testing.TB, secure bool) *secureSide {
	b.Helper()
	var c *tls.Config
	if secure {
		var err error
		c, err = serverTLS()
		require.NoError(b, err)
	}
	h, err := openHubWith(fanout.Config{}, c)
	require.NoError(b, err)
	s := &secureSide{address: h.address, secure: secure, clients: fleet.Start(b, roleDiscard)}
	s.write = func(_ []byte, batch []codec.Envelope) error {
		_, err := h.hub.DispatchBatch(batch)
		h.hub.Flush()
		for err == nil && h.hub.Stats().QueuedSpokes > 0 {
			time.Sleep(time.Millisecond)
		}
		return err
	}
	s.end = sync.OnceFunc(func() { s.clients.Stop(); _ = h.close() })
	b.Cleanup(s.end)
	return s
}

// startSecureFloor starts a loop of write(2), or of tls.Conn.Write, over all connections.
func startSecureFloor(b testing.TB, secure bool) *secureSide {
	b.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(b, err)
	c, err := serverTLS()
	require.NoError(b, err)
	c.DynamicRecordSizingDisabled = true
	var mu sync.Mutex
	var raw []*net.TCPConn
	var sealed []*tls.Conn
	var fds []int
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				tcp := conn.(*net.TCPConn)
				t := tls.Server(tcp, c)
				if secure && t.Handshake() != nil {
					return
				}
				rc, err := tcp.SyscallConn()
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				raw, sealed = append(raw, tcp), append(sealed, t)
				_ = rc.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
			}()
		}
	}()
	s := &secureSide{address: ln.Addr().String(), secure: secure, floor: true, clients: fleet.Start(b, roleDiscard)}
	s.write = func(joined []byte, _ []codec.Envelope) error {
		if secure {
			for _, t := range sealed {
				if _, err := t.Write(joined); err != nil {
					return err
				}
			}
			return nil
		}
		for _, fd := range fds {
			for n := 0; n < len(joined); {
				k, err := unix.Write(fd, joined[n:])
				switch {
				case err == nil:
					n += k
				case errors.Is(err, unix.EAGAIN):
					time.Sleep(time.Millisecond)
				default:
					return err
				}
			}
		}
		return nil
	}
	s.end = sync.OnceFunc(func() {
		s.clients.Stop()
		_ = ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range raw {
			_ = c.Close()
		}
	})
	b.Cleanup(s.end)
	return s
}

// BenchmarkTLS says what a delivery costs over TLS beside one without, and beside a loop of tls.Conn.Write and one of
// write(2) over the same number of connections: all four in turns, a median each. For 5,000 of each this process has
// not enough descriptors: there the hubs are by themselves.
func BenchmarkTLS(b *testing.B) {
	defer fleet.LeaveClientsTheirCore()()
	for _, spokes := range []int{1000, 4000, 5000} {
		names := []string{"hub", "hub-tls", "write", "tls-write"}
		sides := []*secureSide{startSecureSide(b, false), startSecureSide(b, true)}
		if len(names)*spokes < 20_000 {
			sides = append(sides, startSecureFloor(b, false), startSecureFloor(b, true))
		}
		for _, s := range sides {
			s.connect(b, spokes)
		}
		for _, window := range caseWindows {
			b.Run(fmt.Sprintf("spokes=%d/payload=256/window=%d", spokes, window), func(b *testing.B) {
				ev := newEvent(b, 256)
				var batch []codec.Envelope
				for range window {
					batch = append(batch, ev.envelope)
				}
				joined := bytes.Repeat(ev.Frame, window)
				costs := make(map[string][]float64)
				for b.Loop() {
					for i, s := range sides {
						costs[names[i]] = append(costs[names[i]], s.cost(b, spokes, joined, batch))
					}
				}
				b.ReportMetric(0, "ns/op")
				for name, of := range costs {
					slices.Sort(of)
					b.ReportMetric(of[len(of)/2], name+"-cpu-ns/delivery")
				}
			})
		}
		for _, s := range sides {
			s.end()
		}
	}
}

// cost returns the CPU time of a delivery, of half a second of them.
func (s *secureSide) cost(b testing.TB, spokes int, joined []byte, batch []codec.Envelope) float64 {
	before, deliveries := fleet.SelfCPU(), 0
	for began := time.Now(); time.Since(began) < time.Second/2; {
		require.NoError(b, s.write(joined, batch))
		deliveries += spokes * len(batch)
	}
	return float64((fleet.SelfCPU() - before).Nanoseconds()) / float64(deliveries)
}
