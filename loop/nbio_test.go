package loop

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lesismal/nbio"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/fanout"
)

// These tests show what nbio.go is built around. One that fails after an update of nbio says that a
// trap is gone, or has changed.

// startNbio returns a running engine that setUp has prepared.
func startNbio(t *testing.T, c nbio.Config, setUp func(*nbio.Engine)) *engine {
	t.Helper()
	c.NPoller = 1
	e := &engine{nb: nbio.NewEngine(c)}
	awake := make(chan int, 1)
	e.nb.OnRead(func(nb *socket) { // until it is awake
		_ = nb.Close()
		awake <- 0
	})
	require.NoError(t, e.nb.Start())
	require.NoError(t, e.awaken(awake))
	e.nb.OnRead(func(nb *socket) { _, _ = nb.Read(make([]byte, 1<<10)) })
	setUp(e.nb)
	t.Cleanup(e.stop)
	return e
}

// socketPairTCP returns a connection in the engine, and its other end, which takes little and
// nothing by itself.
func socketPairTCP(t *testing.T, e *engine) (*socket, *net.TCPConn) {
	t.Helper()
	ln, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	far, err := from{receiveBytes: 4 << 10}.dial(ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close() })
	near, err := ln.Accept()
	require.NoError(t, err)
	nb, err := nbio.NBConn(near)
	require.NoError(t, err)
	require.NoError(t, unix.SetsockoptInt(nb.Hash(), unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10))
	require.NoError(t, e.add(nb))
	return nb, far
}

// pattern is data in which every loss shows.
func pattern(length int) []byte {
	b := make([]byte, length)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func TestNbioWritevLosesWhatTheKernelDoesNotTake(t *testing.T) {
	var written atomic.Int64
	e := startNbio(t, nbio.Config{}, func(nb *nbio.Engine) {
		nb.OnWrittenSize(func(_ *socket, _ []byte, n int) { written.Add(int64(n)) })
	})
	nb, far := socketPairTCP(t, e)
	all := pattern(10 << 20)
	_, err := nb.Writev(slices.Collect(slices.Chunk(all, 1<<20)))
	require.NoError(t, err, "it does not say so")
	// A mark behind it, so that the end is seen.
	mark := []byte("mark")
	_, err = nb.Write(mark)
	require.NoError(t, err)
	var got []byte
	buf := make([]byte, 64<<10)
	for !bytes.HasSuffix(got, mark) {
		n, err := far.Read(buf)
		require.NoError(t, err)
		got = append(got, buf[:n]...)
	}
	require.Less(t, len(got), len(all))
}

func TestNbioWriteKeepsACopyWithoutALimit(t *testing.T) {
	e := startNbio(t, nbio.Config{}, func(*nbio.Engine) {})
	nb, far := socketPairTCP(t, e)
	b := pattern(32 << 20)
	n, err := nb.Write(b)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
	clear(b)
	got := make([]byte, len(b))
	_, err = io.ReadFull(far, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(pattern(32<<20), got))
}

func TestNbioWriteOverItsLimitClosesTheConnection(t *testing.T) {
	e := startNbio(t, nbio.Config{MaxWriteBufferSize: 1 << 10}, func(*nbio.Engine) {})
	nb, far := socketPairTCP(t, e)
	_, err := nb.Write(make([]byte, 2<<10))
	require.Error(t, err)
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	require.Empty(t, got, "not even what the kernel would have taken")
}

func TestNbioTellsOfWrittenBytesWithTheMutexHeld(t *testing.T) {
	order := make(chan string, 2)
	e := startNbio(t, nbio.Config{}, func(nb *nbio.Engine) {
		nb.OnWrittenSize(func(c *socket, _ []byte, _ int) {
			go waitForMutex(c, order) // as a Write or Close from here would have to
			await(t, func() bool { return blocked("loop.waitForMutex") }, "it waits for the mutex")
			order <- "told"
		})
	})
	nb, _ := socketPairTCP(t, e)
	_, err := nb.Write([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, "told", receive(t, order, "the callback returns"))
	require.Equal(t, "locked", receive(t, order, "the mutex is free"))
}

func waitForMutex(c *socket, order chan<- string) {
	c.Lock()
	order <- "locked"
	c.Unlock()
}

// blocked reports whether a goroutine waits for a mutex in the given function.
func blocked(function string) bool {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		if head, _, _ := strings.Cut(g, "\n"); strings.Contains(head, "[sync.Mutex.Lock") && strings.Contains(g, function) {
			return true
		}
	}
	return false
}

func TestNbioClosesWhatHasHungUpHoweverMuchIsUnread(t *testing.T) {
	var got atomic.Int64
	closed := make(chan struct{})
	e := startNbio(t, nbio.Config{}, func(nb *nbio.Engine) {
		nb.OnRead(func(c *socket) {
			n, _ := c.Read(make([]byte, 1))
			got.Add(int64(n))
		})
		nb.OnClose(func(*socket, error) { close(closed) })
	})
	const total = 100_000
	_, far := socketPairTCP(t, e)
	_, err := far.Write(make([]byte, total))
	require.NoError(t, err)
	require.NoError(t, far.Close())
	receive(t, closed, "the engine closes it")
	require.Less(t, got.Load(), int64(total))
}

func TestNbioTellsOfACloseWhenTheDescriptorIsLongFree(t *testing.T) {
	closing, told := make(chan struct{}), make(chan error, 1)
	e := startNbio(t, nbio.Config{}, func(nb *nbio.Engine) {
		nb.OnClose(func(c *socket, _ error) {
			<-closing
			_, err := unix.FcntlInt(uintptr(c.Hash()), unix.F_GETFD, 0)
			told <- err
		})
	})
	nb, _ := socketPairTCP(t, e)
	require.NoError(t, nb.Close(), "it does not wait for the callback")
	close(closing)
	require.ErrorIs(t, receive(t, told, "the callback"), unix.EBADF)
}

func TestNbioDescriptorsAreInherited(t *testing.T) {
	e := startNbio(t, nbio.Config{}, func(*nbio.Engine) {})
	nb, _ := socketPairTCP(t, e)
	flags, err := unix.FcntlInt(uintptr(nb.Hash()), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.Zero(t, flags&unix.FD_CLOEXEC)
}

func TestNothingIsAddedToAnEngineThatWasStopped(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{})
	require.NoError(t, s.Shutdown(t.Context()))
	ln, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	late := dialPeer(t, ln.Addr().String(), from{})
	near, err := ln.Accept()
	require.NoError(t, err)
	nb, err := nbio.NBConn(near)
	require.NoError(t, err)
	require.ErrorIs(t, s.engine.add(nb), net.ErrClosed)
	late.requireEnd()
}
