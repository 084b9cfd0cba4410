package faulty

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// start returns both ends of a connection through a proxy.
func start(t *testing.T, s Script) (client *Conn, target *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	p, err := New(ln.Addr().String())
	require.NoError(t, err)
	client, err = p.Dial(s)
	require.NoError(t, err)
	accepted, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = client.Close()
		_ = accepted.Close()
		p.Close()
	})
	for _, c := range []net.Conn{client, accepted} {
		require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	}
	return client, accepted.(*net.TCPConn)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func TestWhatIsOnlySlowArrivesWhole(t *testing.T) {
	for seed := range uint64(8) {
		s := Slow(rand.New(rand.NewPCG(seed, 0)), 20*time.Millisecond)
		client, target := start(t, s)
		sent := pattern(300_000)
		for _, way := range []struct {
			from interface {
				io.Writer
				CloseWrite() error
			}
			to io.Reader
		}{{client, target}, {target, client}} {
			go func() {
				_, _ = way.from.Write(sent)
				_ = way.from.CloseWrite()
			}()
			got, err := io.ReadAll(way.to)
			require.NoError(t, err, s)
			require.True(t, bytes.Equal(sent, got), s)
		}
		require.False(t, client.Ended())
		require.Len(t, client.Happened(), len(s.Up)+len(s.Down)+1)
	}
}

func TestEndsComeAtTheirByte(t *testing.T) {
	for _, c := range []struct {
		fault Fault
		err   error // at both ends
	}{
		{HalfClose, nil}, {Cut, nil}, {Reset, syscall.ECONNRESET},
	} {
		t.Run(c.fault.String(), func(t *testing.T) {
			client, target := start(t, Script{Down: []Step{{After: 10, Fault: Trickle, Bytes: 5}, {After: 7, Fault: c.fault}}})
			_, err := target.Write(pattern(22)) // exactly: a reset does not wait for what is on its way
			require.NoError(t, err)
			got, err := io.ReadAll(client)
			if c.err == nil {
				require.NoError(t, err)
				require.Equal(t, pattern(22), got)
			} else {
				require.ErrorIs(t, err, c.err)
			}
			require.True(t, client.Ended())
			if c.fault == HalfClose { // the other half is as it was
				_, err := client.Write(pattern(5))
				require.NoError(t, err)
				require.NoError(t, client.CloseWrite())
			}
			got, err = io.ReadAll(target)
			if c.err == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, c.err)
			}
			require.Equal(t, c.fault == HalfClose, len(got) == 5)
		})
	}
}

func TestPausesReadNothing(t *testing.T) {
	client, target := start(t, Script{Down: []Step{{After: 1, Fault: Pause, Pause: time.Hour}}})
	require.NoError(t, target.SetWriteBuffer(bufferBytes))
	require.NoError(t, target.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
	n, err := target.Write(make([]byte, 10<<20))
	require.Error(t, err, "the target feels it")
	require.Less(t, n, 1<<20)
	_, err = io.ReadFull(client, make([]byte, 1))
	require.NoError(t, err)
	_, err = client.Write([]byte("up"))
	require.NoError(t, err)
	_, err = io.ReadFull(target, make([]byte, 2))
	require.NoError(t, err, "the other direction does not")
}

func TestTheSameSeedDrawsTheSameScripts(t *testing.T) {
	draw := func(seed uint64) (texts []string) {
		r := rand.New(rand.NewPCG(seed, 0))
		for range 100 {
			texts = append(texts, Fatal(r, time.Second).String(), Slow(r, time.Second).String())
		}
		return texts
	}
	require.Equal(t, draw(1), draw(1))
	require.NotEqual(t, draw(1), draw(2))
}
