package loop

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// Who speaks HTTP to a port with TLS, or TLS to one without, is told so, and counted.
func TestTLSIsNotGuessed(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{TLS: secured()})
	p := dialPeer(t, address, from{})
	p.write([]byte(request("/ws")))
	resp, body := p.answer()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, body, "wss://")
	require.EqualValues(t, 1, s.Stats().Refused[RefusedTLS])

	p = dialPeer(t, address, from{})
	p.write([]byte{0, 1, 2, 3})
	p.requireEnd()
	require.EqualValues(t, 2, s.Stats().Refused[RefusedTLS])

	s, _, address = startServer(t, fanout.Config{}, Config{})
	tcp, err := from{}.dial(address)
	require.NoError(t, err)
	defer tcp.Close()
	err = tls.Client(tcp, trusting(nil)).Handshake()
	require.ErrorContains(t, err, "does not look like a TLS handshake")
	require.EqualValues(t, 1, s.Stats().Refused[RefusedTLS])
}

// A handshake that is never completed ends at the deadline, wherever it stops.
func TestTLSHandshakesEndAtTheDeadline(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{TLS: secured(), HandshakeTimeout: 200 * time.Millisecond})
	hello := clientHello(t)
	for name, first := range map[string][]byte{
		"nothing": nil, "a header": hello[:5], "half a ClientHello": hello[:len(hello)/2], "a ClientHello": hello,
	} {
		t.Run(name, func(t *testing.T) {
			p := dialPeer(t, address, from{})
			p.write(first)
			_, err := io.Copy(io.Discard, p.tcp)
			require.NoError(t, err)
			await(t, func() bool { return s.Stats().TLS.Running == 0 }, "the handshake has ended")
		})
	}
	require.EqualValues(t, 4, s.Stats().Refused[RefusedTimeout])
}

// clientHello returns the first flight of a client.
func clientHello(t testing.TB) []byte {
	near, far := net.Pipe()
	defer near.Close()
	go func() { _ = tls.Client(far, trusting(nil)).Handshake(); _ = far.Close() }()
	buf := make([]byte, 16<<10)
	n, err := near.Read(buf)
	require.NoError(t, err)
	return buf[:n]
}

// No more handshakes are under way than are allowed; the others stand in line without a goroutine, and
// have their turn.
func TestTLSHandshakesStandInLine(t *testing.T) {
	const limit, stalled = 3, 20
	s, _, address := startServer(t, fanout.Config{}, Config{TLS: secured(), TLSHandshakes: limit})
	before := runtime.NumGoroutine()
	hello := clientHello(t)
	var peers []*peer
	for range stalled {
		p := dialPeer(t, address, from{})
		p.write(hello)
		peers = append(peers, p)
	}
	await(t, func() bool { return s.Stats().TLS.InLine == stalled-limit }, "those that have no turn stand in line")
	require.Equal(t, limit, s.Stats().TLS.Running)
	require.LessOrEqual(t, runtime.NumGoroutine(), before+limit)

	late := make(chan *peer)
	go func() {
		tcp, err := from{}.dial(address)
		if err != nil {
			close(late)
			return
		}
		conn := tls.Client(tcp, trusting(nil))
		_ = conn.Handshake()
		late <- newPeerOver(t, tcp, conn)
	}()
	await(t, func() bool { return s.Stats().TLS.InLine == stalled-limit+1 }, "so does one that means well")
	for _, p := range peers {
		p.vanish()
	}
	welcomed(t, receive(t, late, "it has its turn"))
	await(t, func() bool { st := s.Stats().TLS; return st.Running+st.InLine == 0 }, "nobody is left")
}

// Who stands in line and goes leaves nothing there, however long those take whose turn it is.
func TestTLSLineForgetsThoseThatGo(t *testing.T) {
	const came = 50
	s, _, address := startServer(t, fanout.Config{}, Config{TLS: secured(), TLSHandshakes: 1, HandshakeTimeout: time.Hour})
	hello := clientHello(t)
	holder := dialPeer(t, address, from{})
	holder.write(hello)
	await(t, func() bool { return s.Stats().TLS.Running == 1 }, "the only turn is taken")
	stays := dialPeer(t, address, from{})
	stays.write(hello)
	await(t, func() bool { return s.Stats().TLS.InLine == 1 }, "one stays in line")
	for range came {
		p := dialPeer(t, address, from{})
		p.write(hello)
		await(t, func() bool { return s.Stats().TLS.InLine == 2 }, "it stands in line")
		p.vanish()
		await(t, func() bool { return s.Stats().TLS.InLine == 1 }, "it has left")
		s.shakers.mu.Lock()
		require.LessOrEqual(t, len(s.shakers.line), 3, "no more places are empty than taken")
		s.shakers.mu.Unlock()
	}
	holder.vanish()
	await(t, func() bool { st := s.Stats().TLS; return st.Running == 1 && st.InLine == 0 }, "the next one has its turn")
}

// What panics in a callback ends one handshake, not the hub.
func TestTLSCallbacksMayPanic(t *testing.T) {
	config, first := secured(), true
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if first {
			first = false
			panic("a bug")
		}
		return nil, nil
	}
	s, _, address := startServer(t, fanout.Config{}, Config{TLS: config, TLSHandshakes: 1, Logger: slog.New(slog.DiscardHandler)})
	tcp, err := from{}.dial(address)
	require.NoError(t, err)
	defer tcp.Close()
	require.Error(t, tls.Client(tcp, trusting(nil)).Handshake())
	await(t, func() bool { return s.Stats().Connections == 0 }, "it is gone")
	require.EqualValues(t, 1, s.Stats().TLS.Failed)
	p, _ := dialSecure(t, address, from{}, nil)
	welcomed(t, p)
}

// A session that is resumed is as good as a new one, and who authenticates sees the state of TLS.
func TestTLSSessionsAreResumed(t *testing.T) {
	seen := make(chan *tls.ConnectionState, 10)
	lc := Config{TLS: secured(), Authenticate: func(r *http.Request) (fanout.Claims, error) {
		seen <- r.TLS
		return fanout.Claims{}, nil
	}}
	_, _, address := startServer(t, fanout.Config{}, lc)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(1)
		for resumed := range 2 {
			p, conn := dialSecure(t, address, from{}, &tls.Config{ClientSessionCache: cache, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}})
			p.write([]byte(request("/ws")))
			p.upgraded()
			p.next()
			require.Equal(t, resumed == 1, conn.ConnectionState().DidResume, tls.VersionName(version))
			state := receive(t, seen, "Authenticate is asked")
			require.Equal(t, version, state.Version)
			require.Equal(t, "http/1.1", state.NegotiatedProtocol)
		}
	}
}
