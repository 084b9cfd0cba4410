package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// storm is many who connect to an address, over and over.
type storm struct {
	address  string
	connects atomic.Int64
	stopc    chan struct{}
	workers  sync.WaitGroup

	mu     sync.Mutex
	failed []error
}

func startStorm(address string, workers int) *storm {
	s := &storm{address: address, stopc: make(chan struct{})}
	for range workers {
		s.workers.Go(func() {
			for {
				select {
				case <-s.stopc:
					return
				default:
				}
				if err := handshake(s.address); err != nil {
					s.mu.Lock()
					s.failed = append(s.failed, err)
					s.mu.Unlock()
				}
				s.connects.Add(1)
			}
		})
	}
	return s
}

// stop returns what went wrong.
func (s *storm) stop() []error {
	close(s.stopc)
	s.workers.Wait()
	return s.failed
}

// handshake becomes a spoke and goes.
func handshake(address string) error {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetLinger(0) // no TIME_WAIT, there are many
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return errors.New(resp.Status)
	}
	return nil
}

// sharedAddress returns an address that only hubs with --reuse-port can have until the test ends.
func sharedAddress(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)) // as package net does
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	sa, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
}

// terminate ends a hub in order, and waits for it.
func terminate(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
}

// A hub is replaced by another one at its port, and a newer one gives way to the older: whoever connects
// meanwhile becomes a spoke, of one or the other.
func TestNobodyIsRefusedWhenOneHubTakesOverFromAnother(t *testing.T) {
	address := sharedAddress(t)
	start := func() *exec.Cmd {
		return startProcess(t, "--reuse-port", "--drain-timeout=2s", "--listen="+address, "--admin=off")
	}
	hubs := []*exec.Cmd{start()}
	s := startStorm(address, 8)
	leave := func(i int) {
		t.Helper()
		awaitCount(t, &s.connects, s.connects.Load()+100)
		terminate(t, hubs[i])
		hubs = slices.Delete(hubs, i, i+1)
		awaitCount(t, &s.connects, s.connects.Load()+100)
	}
	hubs = append(hubs, start())
	leave(0) // the old one
	hubs = append(hubs, start())
	leave(1) // the new one, which is not liked
	require.Empty(t, s.stop(), "of %d", s.connects.Load())
	t.Logf("%d connects", s.connects.Load())
	terminate(t, hubs[0])
}
