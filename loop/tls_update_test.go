package loop

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// updater is the end of a client that changes its keys, which crypto/tls does not do of its own accord. It
// seals what the client sends by itself, from the secret that crypto/tls tells a key log; what the hub sends
// is crypto/tls's to open.
type updater struct {
	*tls.Conn
	t   testing.TB
	raw *tap

	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// tap keeps what it has read.
type tap struct {
	*net.TCPConn
	mu  sync.Mutex
	got bytes.Buffer
}

func (r *tap) Read(b []byte) (int, error) {
	n, err := r.TCPConn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got.Write(b[:n])
	return n, err
}

// The types of a record's content, and the message that says that keys change: RFC 8446 sections 5.1 and 4.6.3.
const (
	contentHandshake = 22
	contentData      = 23
	messageKeyUpdate = 24

	updateRecord = recordHeader + 5 + 1 + 16 // the message, its type, the tag
)

// updating returns a spoke that can change its keys.
func updating(t testing.TB, address string, f from) (*peer, *updater) {
	t.Helper()
	tcp, err := f.dial(address)
	require.NoError(t, err)
	u := &updater{t: t, raw: &tap{TCPConn: tcp}}
	var secrets bytes.Buffer
	u.Conn = tls.Client(u.raw, trusting(&tls.Config{MinVersion: tls.VersionTLS13, KeyLogWriter: &secrets}))
	p := newPeerOver(t, tcp, u)
	require.NoError(t, u.Handshake())
	if suite := u.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("crypto/tls prefers %s on this machine, where nothing makes AES fast", tls.CipherSuiteName(suite))
	}
	line := regexp.MustCompile(`CLIENT_TRAFFIC_SECRET_0 \S+ (\S+)`).FindSubmatch(secrets.Bytes())
	require.NotNil(t, line, "the key log has the secret of what the client sends")
	secret, err := hex.DecodeString(string(line[1]))
	require.NoError(t, err)
	u.use(secret)
	welcomed(t, p)
	return p, u
}

// expand is HKDF-Expand-Label of RFC 8446 section 7.1, without a context.
func (u *updater) expand(secret []byte, label string, length int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "+label+"\x00"...)
	key, err := hkdf.Expand(sha256.New, secret, string(info), length)
	require.NoError(u.t, err)
	return key
}

// use makes keys of a secret, as RFC 8446 section 7.3 has it.
func (u *updater) use(secret []byte) {
	block, err := aes.NewCipher(u.expand(secret, "key", 16))
	require.NoError(u.t, err)
	u.aead, err = cipher.NewGCM(block)
	require.NoError(u.t, err)
	u.secret, u.iv, u.seq = secret, u.expand(secret, "iv", 12), 0
}

// seal returns a record.
func (u *updater) seal(content byte, b []byte) []byte {
	header := []byte{contentData, 3, 3}
	header = binary.BigEndian.AppendUint16(header, uint16(len(b)+1+u.aead.Overhead()))
	nonce := bytes.Clone(u.iv)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^u.seq)
	u.seq++
	return u.aead.Seal(header, nonce, append(bytes.Clone(b), content), header)
}

// update returns the record of a key update, and changes the keys. If it is asked for, the hub has to change its own.
func (u *updater) update(asked bool) []byte {
	message := []byte{messageKeyUpdate, 0, 0, 1, 0}
	if asked {
		message[4] = 1
	}
	b := u.seal(contentHandshake, message)
	u.use(u.expand(u.secret, "traffic upd", sha256.Size))
	return b
}

// Write implements net.Conn.
func (u *updater) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), 16<<10)
		if _, err := u.raw.Write(u.seal(contentData, rest[:n])); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// updates returns how many key updates have come from the hub: records as small as nothing else that it sends.
func (u *updater) updates() (n int) {
	const sealed = updateRecord - recordHeader
	u.raw.mu.Lock()
	defer u.raw.mu.Unlock()
	for b := u.raw.got.Bytes(); len(b) >= recordHeader; {
		size := int(binary.BigEndian.Uint16(b[3:]))
		if b[0] == contentData && size == sealed {
			n++
		}
		b = b[min(len(b), recordHeader+size):]
	}
	return n
}

// A spoke may change its keys as often as it likes between what it sends, and is served in both directions. If it
// asks the hub to change its own keys, that does, before anything else that it sends.
func TestTLSKeysAreUpdated(t *testing.T) {
	const rounds = 100
	for asked, answers := range map[bool]int{false: 0, true: rounds} {
		t.Run(fmt.Sprintf("asked=%v", asked), func(t *testing.T) {
			s, h, address := startServer(t, fanout.Config{}, Config{TLS: secured()})
			got := listen(t, h)
			p, u := updating(t, address, from{})
			for i := range rounds {
				_, err := u.raw.Write(append(u.update(asked), u.seal(contentData, message("up", fmt.Sprint(i)))...))
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint("up:", i), receive(t, got, "what comes with new keys is read").Topic())
				dispatch(t, h, event("down", fmt.Sprint(i), 100))
				require.Equal(t, fmt.Sprint("down:", i), p.event().Topic())
			}
			require.Equal(t, answers, u.updates())
			require.Zero(t, s.Stats().TLS.Broken)
			p.write(closing(codec.CloseNormal, ""))
			p.requireClose(codec.CloseNormal)
			p.requireEnd()
		})
	}
}

// The hub changes its keys while it sends: nothing is lost, and nothing is sealed with the wrong ones.
func TestTLSKeysAreUpdatedUnderFire(t *testing.T) {
	const total = 5000
	lc := tight
	lc.TLS = secured()
	_, h, address := startServer(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 16 << 20}}, lc)
	p, u := updating(t, address, from{receiveBytes: 4 << 10})
	done := make(chan struct{})
	go func() { // ends when everything is dispatched
		defer close(done)
		for i := range total {
			_, _ = h.Dispatch(numbered(i, 1<<10))
		}
	}()
	asked, pong := 0, whole(ws.OpPong, nil)
	var s story
	for len(s.numbers) < total {
		if u.updates() == asked { // else there could be more than crypto/tls takes in a row
			_, err := u.raw.Write(append(u.update(true), u.seal(contentData, pong)...))
			require.NoError(t, err)
			asked++
		}
		s.add(t, p.event())
	}
	receive(t, done, "everything is dispatched")
	require.Empty(t, s.gaps)
	require.Greater(t, asked, 10)
	t.Logf("%d updates within %d events", asked, total)
}

// Key updates and nothing else end the connection, and do so soon: crypto/tls counts them.
func TestTLSKeyUpdatesInVainEndTheConnection(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	s, _, address := startServer(t, hc, Config{TLS: secured()})
	p, u := updating(t, address, from{})
	receive(t, life.began, "it is a spoke")
	var flood []byte
	for range 100 {
		flood = append(flood, u.update(true)...)
	}
	_, err := u.raw.Write(flood)
	require.NoError(t, err)
	cause := receive(t, life.ended, "it is none any more")
	require.Equal(t, fanout.KindProtocol, cause.Kind)
	require.Equal(t, "tls: tls: too many non-advancing records", cause.Reason)
	require.EqualValues(t, 1, s.Stats().TLS.Broken)
	_, err = io.Copy(io.Discard, p.conn)
	require.ErrorContains(t, err, "remote error: tls: unexpected message", "an alert says so")
	require.Less(t, u.updates(), 100)
}

// With something in between key updates are not in vain, and there may be any number of them. They cost more than what
// else a peer may send, some microseconds for 27 bytes, but not the others on the poller.
func TestTLSFloodOfKeyUpdatesHoldsNobody(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{TLS: secured(), Pollers: 1})
	calm, _ := dialSecure(t, address, from{}, nil)
	welcomed(t, calm)
	loud, u := updating(t, address, from{})
	done, batches := make(chan struct{}), make(chan struct{}, 1)
	go func() { // ends when its connection is closed
		defer close(done)
		for err := error(nil); err == nil; {
			var b []byte
			for range 2000 {
				b = append(append(b, u.update(false)...), u.seal(contentData, whole(ws.OpPong, nil))...)
			}
			_, err = u.raw.Write(b)
			select {
			case batches <- struct{}{}:
			default:
			}
		}
	}()
	var longest time.Duration
	for i := range 20 {
		receive(t, batches, "the flood goes on")
		began := time.Now()
		calm.write(whole(ws.OpPing, fmt.Append(nil, i)))
		op, echo := calm.next()
		longest = max(longest, time.Since(began))
		require.Equal(t, ws.OpPong, op)
		require.Equal(t, fmt.Sprint(i), string(echo))
	}
	t.Logf("the longest round trip of another: %v; portions are halved %d times", longest, connOf(t, s, loud).dear)
	require.Zero(t, s.Stats().TLS.Broken)
	_ = loud.tcp.Close()
	receive(t, done, "the flood ends")
}

// Answers to key updates wait for the next write. Who asks for more of them than may wait loses its connection when it
// sends more, or when there is something to write, whatever comes first.
func TestTLSAnswersToKeyUpdatesAreBounded(t *testing.T) {
	for name, next := range map[string]func(h *fanout.Hub, p *peer){
		"the peer sends more":       func(_ *fanout.Hub, p *peer) { p.write(whole(ws.OpPong, nil)) },
		"there is something for it": func(h *fanout.Hub, _ *peer) { _, _ = h.Dispatch(event("tick", "1", 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			var hc fanout.Config
			life := watch(&hc)
			s, h, address := startServer(t, hc, Config{TLS: secured(), Ping: time.Hour})
			p, u := updating(t, address, from{})
			receive(t, life.began, "it is a spoke")
			for range maxAnswers / updateRecord {
				_, err := u.raw.Write(append(u.update(true), u.seal(contentData, whole(ws.OpPong, nil))...))
				require.NoError(t, err)
			}
			c := connOf(t, s, p).secure()
			waiting := func() (int, bool) {
				c.mu.Lock()
				defer c.mu.Unlock()
				return len(c.sealed), c.overflown
			}
			await(t, func() bool { n, _ := waiting(); return n == maxAnswers/updateRecord*updateRecord }, "as many answers wait as may")
			_, err := u.raw.Write(u.update(true))
			require.NoError(t, err)
			await(t, func() bool { _, over := waiting(); return over }, "one more is too many")
			require.Empty(t, life.ended)
			next(h, p)
			cause := receive(t, life.ended, "it is a spoke no more")
			require.Equal(t, fanout.KindProtocol, cause.Kind)
			require.Equal(t, fanout.LocalSide, cause.Side)
			require.Equal(t, "tls: "+errBacklog.Error(), cause.Reason)
		})
	}
}

// OpenSSL's client changes its keys by itself: with k, and K to ask the hub for the same.
func TestTLSKeysAreUpdatedByOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl on this machine: what needs one is left out")
	}
	s, h, address := startServer(t, fanout.Config{}, Config{TLS: secured()})
	got := listen(t, h)
	cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", address, "-tls1_3", "-quiet", "-no_ign_eof")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	said, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	abort := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer abort.Stop()
	p, lines := &peer{t: t, in: bufio.NewReader(out)}, bufio.NewScanner(said)
	write := func(b []byte) {
		_, err := in.Write(b)
		require.NoError(t, err)
	}
	write([]byte(request("/ws")))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
	for i, letter := range strings.Repeat("kK", 20) {
		write([]byte(string(letter)))
		for lines.Scan() && lines.Text() != "KEYUPDATE" { // what comes behind would be taken for a part of the command
		}
		require.NoError(t, lines.Err())
		write(message("up", fmt.Sprint(i)))
		require.Equal(t, fmt.Sprint("up:", i), receive(t, got, "what comes with new keys is read").Topic())
		dispatch(t, h, event("down", fmt.Sprint(i), 100))
		require.Equal(t, fmt.Sprint("down:", i), p.event().Topic())
	}
	require.Zero(t, s.Stats().TLS.Broken)
	write(closing(codec.CloseNormal, ""))
	p.requireClose(codec.CloseNormal)
	p.requireEnd()
	require.NoError(t, cmd.Wait())
}
