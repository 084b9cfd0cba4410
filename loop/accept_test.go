package loop

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/leak"
)

func TestSpokesPerAddressAreBounded(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{MaxSpokesPerIP: 2})
	kept := []*peer{connect(t, address), connect(t, address)}
	p := dialPeer(t, address, from{})
	p.requireBusy("too many connections from this address\n")
	require.EqualValues(t, 1, s.Stats().Refused[RefusedFullForIP])
	_ = p.tcp.Close()
	connectFrom(t, address, from{ip: "127.0.0.2"})
	kept[1].write(whole(ws.OpClose, nil))
	await(t, func() bool { return s.Stats().Connections == 2 }, "one has left")
	connect(t, address)
}

func TestFarOverTheLimitNobodyIsListenedTo(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{MaxSpokes: 1})
	first := connect(t, address)
	for range headroom {
		dialPeer(t, address, from{})
	}
	p := dialPeer(t, address, from{})
	resp, _ := p.answer() // without a request
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "5", resp.Header.Get("Retry-After"))
	require.EqualValues(t, 1, s.Stats().Refused[RefusedFull])
	first.write(whole(ws.OpPing, nil))
	op, _ := first.next()
	require.Equal(t, ws.OpPong, op)
}

func TestEveryConnectionGetsTheSocketOptions(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{SendBufferBytes: 10_000, NotSentLowatBytes: 5_000})
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a user's own, with Multipath TCP and keep-alive
	require.NoError(t, err)
	var peers []*peer
	for range 3 { // they wait when Serve begins
		peers = append(peers, dialPeer(t, ln.Addr().String(), from{}))
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	for range 3 {
		peers = append(peers, dialPeer(t, ln.Addr().String(), from{}))
	}
	for _, p := range peers {
		fd := connOf(t, s, p).sock.Hash()
		for _, option := range []struct{ level, name, want int }{
			{unix.SOL_SOCKET, unix.SO_SNDBUF, 20_000}, // the kernel doubles it
			{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 5_000},
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		} {
			got, err := unix.GetsockoptInt(fd, option.level, option.name)
			require.NoError(t, err)
			require.Equal(t, option.want, got, "option %d/%d", option.level, option.name)
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.FD_CLOEXEC, "child processes do not inherit it")
	}
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, receive(t, served, "Serve returns"))
}

func TestListenIsForPlainTCP(t *testing.T) {
	ln, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	rc, err := ln.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, rc.Control(func(fd uintptr) {
		protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		require.NoError(t, err)
		require.Equal(t, unix.IPPROTO_TCP, protocol)
	}))
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	accepted, err := ln.(*net.TCPListener).AcceptTCP()
	require.NoError(t, err)
	defer accepted.Close()
	rc, err = accepted.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, rc.Control(func(fd uintptr) {
		keepAlive, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		require.NoError(t, err)
		require.Zero(t, keepAlive)
	}))
}

func TestServeReturnsTheErrorOfItsListener(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{})
	before := leak.Descriptors()
	ln, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	p := connect(t, ln.Addr().String())
	require.NoError(t, ln.(*net.TCPListener).Close())
	require.ErrorIs(t, receive(t, served, "Serve returns"), net.ErrClosed)
	_ = p.tcp.Close()

	_, err = Listen("256.0.0.1:0")
	require.ErrorContains(t, err, "loop: listen: ")
	unixLn, err := net.Listen("unix", t.TempDir()+"/socket")
	require.NoError(t, err)
	require.ErrorContains(t, s.Serve(unixLn), "is not a TCP listener")
	require.Error(t, unixLn.Close(), "Serve owns it")

	require.NoError(t, s.Shutdown(t.Context()))
	ln, err = Listen("127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, s.Serve(ln), "after Shutdown there is nothing to do")
	require.Error(t, ln.Close())
	require.NoError(t, leak.AwaitDescriptors(before))
}

func TestServerMayServeSeveralListeners(t *testing.T) {
	s, h := newServer(t, fanout.Config{}, Config{})
	served := make(chan error, 2)
	for range 2 {
		ln, err := Listen("127.0.0.1:0")
		require.NoError(t, err)
		go func() { served <- s.Serve(ln) }()
		p := connect(t, ln.Addr().String())
		p.write(whole(ws.OpClose, nil))
		p.requireClose(codec.CloseNoStatus)
	}
	require.EqualValues(t, 2, h.Stats().Opened)
	require.NoError(t, s.Shutdown(t.Context()))
	for range 2 {
		require.NoError(t, receive(t, served, "Serve returns"))
	}
}

// When descriptors run out, connections are told so or wait, the accept loop rests, and when there
// are descriptors again it goes on.
func TestOutOfDescriptorsIsSurvived(t *testing.T) {
	const limit = 64
	child := startChild(t, limit)
	var spokes []*peer
	for { // until the first is refused
		p := dialPeer(t, child.address, from{})
		p.write([]byte(request("/ws")))
		status, err := p.in.Peek(len("HTTP/1.1 101"))
		require.NoError(t, err)
		if strings.HasSuffix(string(status), "503") {
			break
		}
		p.upgraded()
		spokes = append(spokes, p)
		require.Less(t, len(spokes), limit)
	}
	require.Greater(t, len(spokes), limit/2)

	before := child.stats()
	began := before.At
	for range 10 {
		p := dialPeer(t, child.address, from{})
		resp, _ := p.answer()
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Equal(t, "5", resp.Header.Get("Retry-After"))
		_ = p.tcp.Close()
	}
	after := child.stats()
	require.EqualValues(t, 10, after.Refused[RefusedDescriptors.String()]-before.Refused[RefusedDescriptors.String()])
	rests := int(after.At.Sub(began)/acceptPause) + 2
	require.LessOrEqual(t, after.Warnings-before.Warnings, rests, "a warning for each rest, and no more")
	require.NotZero(t, after.Warnings)

	for _, p := range spokes[:10] {
		p.write(whole(ws.OpClose, nil))
		p.next() // __welcome
		p.requireClose(1005)
		p.requireEnd()
		_ = p.tcp.Close()
	}
	for range 8 {
		await(t, func() bool {
			p := dialPeer(t, child.address, from{})
			p.write([]byte(request("/ws")))
			status, err := p.in.Peek(len("HTTP/1.1 101"))
			return err == nil && strings.HasSuffix(string(status), "101")
		}, "there is room again")
	}
	child.stop()
}

// The duplicate that a poller accepts from gets the same number again, and must not be known under it.
func TestServeGoesOnAfterEveryRest(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{})
	connect(t, address)
	s.mu.Lock()
	l := s.listeners[0]
	s.mu.Unlock()
	for range 3 {
		l.accepting.Store(false)
		l.end(unix.EMFILE)
		await(t, l.accepting.Load, "it is accepted from again")
		require.Empty(t, l.endc)
		connect(t, address)
	}
}

// What the client gets is one write of its spoke's, and in that order.
func TestAnswerAndWelcomeComeInOnePiece(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{}, Config{})
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws")))
	all := make([]byte, 4096)
	n, err := p.conn.Read(all)
	require.NoError(t, err)
	h.Flush()
	require.EqualValues(t, 1, h.Stats().Writes)
	require.EqualValues(t, n, h.Stats().DeliveredBytes)
	p.in = bufio.NewReader(bytes.NewReader(all[:n]))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	require.Zero(t, p.in.Buffered())
}

func TestConnectionsInheritTheOptionsOnceTheBacklogIsEmpty(t *testing.T) {
	s, _ := newServer(t, fanout.Config{}, Config{SendBufferBytes: 10_000})
	ln, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	early := dialPeer(t, ln.Addr().String(), from{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	late := dialPeer(t, ln.Addr().String(), from{})
	connOf(t, s, early)
	connOf(t, s, late)
	s.mu.Lock()
	l := s.listeners[0]
	s.mu.Unlock()
	await(t, func() bool { // a turn may be over before there is nothing to accept, so another one is needed
		dialPeer(t, ln.Addr().String(), from{}).vanish()
		return l.inherited.Load()
	}, "there was nothing to accept")
	sndbuf, err := unix.GetsockoptInt(connOf(t, s, dialPeer(t, ln.Addr().String(), from{})).sock.Hash(), unix.SOL_SOCKET, unix.SO_SNDBUF)
	require.NoError(t, err)
	require.Equal(t, 20_000, sndbuf, "inherited: the kernel doubles it")
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, receive(t, served, "Serve returns"))
}

func TestErrorsOfOneConnectionDoNotEndServe(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.EHOSTUNREACH} {
		require.True(t, ofConnection(errno), errno)
	}
	for _, errno := range []syscall.Errno{unix.EAGAIN, unix.EMFILE, unix.ENOBUFS, unix.EBADF, unix.EINVAL, unix.ENOTSOCK} {
		require.False(t, ofConnection(errno), errno)
	}
}

func TestPeersHaveTheirAddressInEitherFamily(t *testing.T) {
	for _, c := range []struct{ listen, dial, ip string }{
		{"[::1]:0", "[::1]", "::1"},
		{"[::]:0", "127.0.0.1", "127.0.0.1"}, // mapped, as the kernel gives it
		{"127.0.0.1:0", "127.0.0.1", "127.0.0.1"},
	} {
		s, _ := newServer(t, fanout.Config{}, Config{})
		ln, err := Listen(c.listen)
		require.NoError(t, err)
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		p := dialPeer(t, fmt.Sprintf("%s:%d", c.dial, ln.Addr().(*net.TCPAddr).Port), from{})
		require.Equal(t, c.ip, connOf(t, s, p).addr().String())
		require.NoError(t, s.Shutdown(t.Context()))
		require.NoError(t, receive(t, served, "Serve returns"))
	}
}

// Some connections are reset while they wait to be accepted, with and without their request.
func TestStormOfResetsLeavesNothing(t *testing.T) {
	descriptors := leak.Descriptors()
	t.Run("storm", func(t *testing.T) {
		s, h := newServer(t, fanout.Config{}, Config{})
		ln, err := Listen("127.0.0.1:0")
		require.NoError(t, err)
		const total = 300
		var stay []*peer
		for i := range total {
			p := dialPeer(t, ln.Addr().String(), from{})
			if i%3 > 0 {
				p.write([]byte(request("/ws")))
			}
			if i%3 < 2 {
				p.vanish()
				continue
			}
			stay = append(stay, p)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		for _, p := range stay {
			p.upgraded()
			require.Equal(t, codec.TypeWelcome, p.event().Type)
		}
		await(t, func() bool { return s.Stats().Connections == len(stay) }, "those that were reset are gone")
		for _, p := range stay {
			p.vanish()
		}
		requireEmpty(t, s, h)
		require.NoError(t, s.Shutdown(t.Context()))
		require.NoError(t, receive(t, served, "Serve returns"))
	})
	require.NoError(t, leak.AwaitDescriptors(descriptors))
}
