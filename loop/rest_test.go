package loop

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// socketName returns what the kernel calls the socket behind a descriptor, whatever descriptors it has.
func socketName(t testing.TB, fd int) string {
	t.Helper()
	name, err := os.Readlink(filepath.Join("/proc/self/fd", strconv.Itoa(fd)))
	require.NoError(t, err)
	return name
}

// keepsSocket reports whether this process has a descriptor of the socket.
func keepsSocket(t testing.TB, name string) bool {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range all {
		if link, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && link == name {
			return true
		}
	}
	return false
}

// A peer that writes without end and reads nothing, so that its window is closed, has no say in when its descriptors are
// free: however the hub ends the connection, with something in flight or without.
func TestWhoOnlyWritesIsHungUpOn(t *testing.T) {
	const closeTimeout = 100 * time.Millisecond
	for name, end := range map[string]func(h *fanout.Hub, s *fanout.Spoke, c *conn){
		"in order, with nothing on its way": func(_ *fanout.Hub, s *fanout.Spoke, _ *conn) { s.Close(codec.CloseNormal, "") },
		"for being slow": func(h *fanout.Hub, _ *fanout.Spoke, _ *conn) {
			for i := 0; h.Stats().Disconnected[fanout.OverSpokeBytes] == 0; i++ {
				_, _ = h.Dispatch(numbered(i, 1<<10))
				h.Flush()
			}
		},
		"with more on its way than the kernel takes": func(h *fanout.Hub, _ *fanout.Spoke, c *conn) {
			for i := 0; c.inFlight.Load() == 0; i++ {
				_, _ = h.Dispatch(numbered(i, 1<<10))
				h.Flush()
			}
			c.hangUp() // what the sweep does
		},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(name+map[bool]string{false: "", true: ", over TLS"}[secure], func(t *testing.T) {
				hc := fanout.Config{SpokeRatePerSec: -1, Limits: fanout.Limits{SpokeBytes: 64 << 10}}
				life := watch(&hc)
				lc := tight
				lc.Pollers, lc.CloseTimeout, lc.ReadBufferBytes = 1, closeTimeout, 4<<10
				if secure {
					lc.TLS = secured()
				}
				s, h, address := startServer(t, hc, lc)
				var slow atomic.Bool
				_, err := h.AddListener("flood:", func(*fanout.Spoke, codec.Envelope) {
					if slow.Load() {
						time.Sleep(20 * time.Millisecond)
					}
				})
				require.NoError(t, err)
				tcp, err := from{receiveBytes: 4 << 10}.dial(address)
				require.NoError(t, err)
				p := newPeer(t, tcp)
				if secure {
					p = newPeerOver(t, tcp, tls.Client(tcp, trusting(nil)))
				}
				p.write([]byte(request("/ws")))
				spoke := receive(t, life.began, "it is a spoke")
				c := connOf(t, s, p)
				name := socketName(t, c.sock.Hash())
				require.True(t, keepsSocket(t, name))
				done := make(chan struct{})
				go func() { // ends when the connection does
					defer close(done)
					b := bytes.Repeat(message("flood", ""), 20)
					for err := error(nil); err == nil; {
						_, err = p.conn.Write(b)
					}
				}()
				slow.Store(true)
				await(t, func() (ok bool) {
					withDescriptor(c.sock, func(fd int) {
						unread, _ := unix.IoctlGetInt(fd, unix.SIOCINQ)
						ok = unread > 64<<10
					})
					return ok
				}, "it has sent what would take longer to read than a test waits")
				began := time.Now()
				end(h, spoke, c)
				ending := time.Since(began)
				receive(t, life.ended, "it is none any more")
				await(t, func() bool { return !keepsSocket(t, name) }, "its descriptors are free")
				t.Logf("after %v, and %v until it was to end", time.Since(began)-ending, ending)
				_ = p.tcp.Close() // for what does not read may wait for room for longer
				receive(t, done, "the flood ends")
			})
		}
	}
}
