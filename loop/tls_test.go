package loop

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/certs"
	"github.com/alkdev/hub/internal/verify"
)

// overTLS makes servers and peers of a test speak TLS.
var overTLS bool

var certificate = func() *certs.Certificate {
	c, err := certs.New("hub.example")
	if err != nil {
		panic(err)
	}
	return c
}()

// trusting makes c, or a new one, the configuration of a client that trusts the test's server.
func trusting(c *tls.Config) *tls.Config {
	if c == nil {
		c = &tls.Config{}
	}
	c.RootCAs, c.ServerName = certificate.Pool, "hub.example"
	if c.CurvePreferences == nil {
		c.CurvePreferences = []tls.CurveID{tls.X25519} // the hybrid ones are slow under the race detector
	}
	return c
}

// secured returns a configuration with the test's certificate.
func secured() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{certificate.TLS}} }

// dialSecure returns a peer that has done its TLS handshake.
func dialSecure(t testing.TB, address string, f from, c *tls.Config) (*peer, *tls.Conn) {
	t.Helper()
	tcp, err := f.dial(address)
	require.NoError(t, err)
	conn := tls.Client(tcp, trusting(c))
	p := newPeerOver(t, tcp, conn)
	require.NoError(t, conn.Handshake())
	return p, conn
}

// welcomed makes a peer a spoke.
func welcomed(t testing.TB, p *peer) {
	t.Helper()
	p.write([]byte(request("/ws")))
	p.upgraded()
	require.Equal(t, codec.TypeWelcome, p.event().Type)
}

// What depends on how bytes come and go holds over TLS as well: how connections end, what comes early, who is slow.
// Frames and requests are what they are without it.
func TestOverTLS(t *testing.T) {
	overTLS = true
	defer func() { overTLS = false }()
	for name, test := range map[string]func(*testing.T){
		"RFC6455Section7ClosingHandshakeOfTheClient":            TestRFC6455Section7ClosingHandshakeOfTheClient,
		"RFC6455Section7ClosingHandshakeOfTheServer":            TestRFC6455Section7ClosingHandshakeOfTheServer,
		"CloseIsEchoedAndNamesThePeer":                          TestCloseIsEchoedAndNamesThePeer,
		"CloseByTheHubWaitsForTheAnswer":                        TestCloseByTheHubWaitsForTheAnswer,
		"PeerThatDoesNotAnswerTheCloseFrameIsCutOff":            TestPeerThatDoesNotAnswerTheCloseFrameIsCutOff,
		"PeerThatViolatesAfterOurCloseFrameIsCutOff":            TestPeerThatViolatesAfterOurCloseFrameIsCutOff,
		"ConnectionThatEndsWithoutACloseFrameIsGone":            TestConnectionThatEndsWithoutACloseFrameIsGone,
		"EverythingSentBeforeHangingUpReachesTheListenersFirst": TestEverythingSentBeforeHangingUpReachesTheListenersFirst,
		"NothingIsLostOfWhatASpokeSendsBeyondItsShare":          TestNothingIsLostOfWhatASpokeSendsBeyondItsShare,
		"ASpokeBeyondItsShareIsWrittenTo":                       TestASpokeBeyondItsShareIsWrittenTo,
		"OthersAreServedWhileASpokeIsNotReadFrom":               TestOthersAreServedWhileASpokeIsNotReadFrom,
		"SlowReaderIsToldSoHoweverLateItReads":                  TestSlowReaderIsToldSoHoweverLateItReads,
		"OrderlyCloseOfAStalledSpokeEndsWithACloseFrame":        TestOrderlyCloseOfAStalledSpokeEndsWithACloseFrame,
		"ControlFramesOvertakeWhatIsQueued":                     TestControlFramesOvertakeWhatIsQueued,
		"TooBigIsToldWhileThePeerStillSends":                    TestTooBigIsToldWhileThePeerStillSends,
		"FloodDoesNotStarveTheOthersOnThePoller":                TestFloodDoesNotStarveTheOthersOnThePoller,
		"StalledSpokeIsClosedByPingTimeout":                     TestStalledSpokeIsClosedByPingTimeout,
		"ShutdownDoesNotWaitForHandshakes":                      TestShutdownDoesNotWaitForHandshakes,
		"RefusalArrivesWholeWhileThePeerStillSends":             TestRefusalArrivesWholeWhileThePeerStillSends,
		"HeadMayArriveAByteAtATime":                             TestHeadMayArriveAByteAtATime,
		"FramesMayComeWithTheHead":                              TestFramesMayComeWithTheHead,
		"WhatComesWhileTheAnswerIsFoundIsKept":                  TestWhatComesWhileTheAnswerIsFoundIsKept,
		"TooMuchBeforeTheAnswerIsRefused":                       TestTooMuchBeforeTheAnswerIsRefused,
		"PeersThatGoWhileTheyAreAskedAbout":                     TestPeersThatGoWhileTheyAreAskedAbout,
		"EchoOfAPeerThatDoesNotReadIsBounded":                   TestEchoOfAPeerThatDoesNotReadIsBounded,
	} {
		t.Run(name, test)
	}
}

// kinds are the ways in which records are protected.
var kinds = map[string]*tls.Config{
	"1.3":                    {MinVersion: tls.VersionTLS13},
	"1.2 AES-128-GCM":        {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}},
	"1.2 AES-256-GCM":        {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}},
	"1.2 ChaCha20":           {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}},
	"1.2 AES-CBC, tolerated": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
}

// Messages of all sizes go both ways, however small the pieces are in which they arrive.
func TestTLSCarriesMessages(t *testing.T) {
	const largest = 200_000
	for name, c := range kinds {
		for piece, size := range map[string]int{"whole": 0, "pieces of 1": 1, "pieces of 7": 7} {
			t.Run(name+", "+piece, func(t *testing.T) {
				_, h, address := startServer(t, fanout.Config{Shards: 1}, Config{TLS: secured(), MaxMessageBytes: 2 * largest})
				got := listen(t, h)
				tcp, err := from{}.dial(address)
				require.NoError(t, err)
				conn := tls.Client(&slicer{tcp, size}, trusting(c.Clone()))
				p := newPeerOver(t, tcp, conn)
				welcomed(t, p)
				sizes := []int{0, 1, 200}
				if size == 0 {
					sizes = append(sizes, 20_000, largest)
				}
				for _, n := range sizes {
					body := []byte(`"` + string(bytes.Repeat([]byte("x"), n)) + `"`)
					p.write(text(`{"type":"up","id":"1","payload":` + string(body) + `}`))
					require.EqualValues(t, body, receive(t, got, "the event arrives").Payload)
					dispatch(t, h, codec.Envelope{Type: "down", ID: "1", Payload: body})
					require.EqualValues(t, body, p.event().Payload)
				}
				p.write(closing(codec.CloseNormal, ""))
				p.requireClose(codec.CloseNormal)
				p.requireEnd() // with a close_notify: without, this is io.ErrUnexpectedEOF
			})
		}
	}
}

// slicer writes in pieces of so many bytes, as packets of their own.
type slicer struct {
	*net.TCPConn
	size int
}

func (s *slicer) Write(b []byte) (n int, err error) {
	if s.size == 0 {
		return s.TCPConn.Write(b)
	}
	for n < len(b) && err == nil {
		_, err = s.TCPConn.Write(b[n:min(n+s.size, len(b))])
		n += s.size
	}
	return min(n, len(b)), err
}

// A spoke with TLS has no goroutine.
func TestTLSSpokesHaveNoGoroutines(t *testing.T) {
	s, h, address := startServer(t, fanout.Config{}, Config{TLS: secured(), Ping: time.Hour})
	before := runtime.NumGoroutine()
	n := 1000
	if verify.On { // with the race detector, mostly
		n = 100
	}
	peers := make([]*peer, n)
	for i := range peers {
		peers[i], _ = dialSecure(t, address, from{}, nil)
		welcomed(t, peers[i])
	}
	require.Equal(t, n, h.Stats().Spokes)
	await(t, func() bool { return s.Stats().TLS.Running == 0 }, "no handshake is under way")
	await(t, func() bool { return runtime.NumGoroutine() <= before+1 }, "the goroutines have ended")
	require.EqualValues(t, n, s.Stats().TLS.Handshakes)
	dispatch(t, h, codec.Envelope{Type: "tick", ID: "1"})
	for _, p := range peers {
		require.Equal(t, "tick", p.event().Type)
		_ = p.conn.Close()
	}
}

// What comes behind the handshake and is no TLS costs the connection, and nothing else.
func TestTLSGarbageAfterTheHandshake(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	s, _, address := startServer(t, hc, Config{TLS: secured()})
	for name, c := range kinds {
		for what, garbage := range map[string][]byte{
			"no record":             []byte("GET / HTTP/1.1\r\n\r\n"),
			"a record of zeros":     append([]byte{23, 3, 3, 0, 64}, make([]byte, 64)...),
			"a handshake":           clientHello(t),
			"a record that is huge": {23, 3, 3, 0xff, 0xff, 0},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				p, _ := dialSecure(t, address, from{}, c.Clone())
				welcomed(t, p)
				receive(t, life.began, "it is a spoke")
				before := s.Stats().TLS.Broken
				_, err := p.tcp.Write(garbage)
				require.NoError(t, err)
				cause := receive(t, life.ended, "it is none any more")
				require.Equal(t, fanout.KindProtocol, cause.Kind, cause.Reason)
				require.Contains(t, cause.Reason, "tls: ")
				require.Equal(t, before+1, s.Stats().TLS.Broken)
				_, err = io.Copy(io.Discard, p.conn)
				require.ErrorContains(t, err, "remote error: tls: ", "an alert says so")
			})
		}
	}
}

// FuzzTLSAfterTheHandshake sends what it is given behind a good handshake, in two pieces.
func FuzzTLSAfterTheHandshake(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(3))
	f.Add([]byte{21, 3, 3, 0, 2, 1, 0}, uint16(5))
	f.Add(append([]byte{23, 3, 3, 0, 20}, make([]byte, 20)...), uint16(1))
	f.Add(bytes.Repeat([]byte{22, 3, 3, 0, 1, 0}, 40), uint16(100))
	var hc fanout.Config
	life := watch(&hc)
	_, h, address := startServer(f, hc, Config{TLS: secured()})
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		p, _ := dialSecure(t, address, from{}, nil)
		welcomed(t, p)
		receive(t, life.began, "it is a spoke")
		_, _ = p.tcp.Write(b[:min(int(cut), len(b))])
		_, _ = p.tcp.Write(b[min(int(cut), len(b)):])
		_ = p.tcp.CloseWrite()
		receive(t, life.ended, "it ends")
		require.Zero(t, h.Stats().Spokes)
		_ = p.tcp.Close()
	})
}

// A peer that closes its side of TLS is gone, as one that sends FIN.
func TestTLSCloseNotifyIsTheEnd(t *testing.T) {
	var hc fanout.Config
	life := watch(&hc)
	_, _, address := startServer(t, hc, Config{TLS: secured()})
	p, conn := dialSecure(t, address, from{}, nil)
	welcomed(t, p)
	require.NoError(t, conn.CloseWrite())
	require.Equal(t, fanout.KindGone, receive(t, life.ended, "it is gone").Kind)
}

// A spoke with TLS that reads nothing costs the hub what is in flight and its queue, and the others nothing.
func TestTLSStalledSpokeCostsItsChunk(t *testing.T) {
	const total, length = 1000, 1 << 10
	for _, policy := range []fanout.Policy{fanout.DropOldest, fanout.DropNewest, fanout.Conflate} {
		t.Run(policy.String(), func(t *testing.T) {
			hc := fanout.Config{Policy: policy, Limits: fanout.Limits{SpokeBytes: 64 << 10}}
			lc := tight
			lc.TLS = secured()
			_, h, address := startServer(t, hc, lc)
			slow, _ := dialSecure(t, address, from{receiveBytes: 4 << 10}, nil)
			welcomed(t, slow)
			healthy, _ := dialSecure(t, address, from{}, nil)
			welcomed(t, healthy)
			stall(t, h, healthy, total, length)
			h.Flush()
			st := h.Stats()
			require.LessOrEqual(t, st.QueuedBytes, int64(64<<10))
			require.LessOrEqual(t, st.InFlightBytes, int64(64<<10+8<<10), "one chunk, and what TLS adds")
			got := slow.readAll(total - 1)
			require.NotEmpty(t, got.gaps)
			require.EqualValues(t, total-len(got.numbers), got.missing(), "every event is either there or told missing")
		})
	}
}

// The buffers of a tls.Conn are given back, in this version of Go.
func TestTLSIdleConnectionHoldsNoBuffers(t *testing.T) {
	require.NotNil(t, rawInput, "crypto/tls has no rawInput any more: see tls_trim.go")
	require.NotNil(t, hand, "crypto/tls has no hand any more: see tls_trim.go")
	s, h, address := startServer(t, fanout.Config{}, Config{TLS: secured()})
	got := listen(t, h)
	p, _ := dialSecure(t, address, from{}, nil)
	welcomed(t, p)
	p.write(message("up", "1"))
	receive(t, got, "it arrives")
	c := connOf(t, s, p)
	await(t, func() bool { return !c.has(flagReading) }, "its poller is done, which wakes nobody who waits for it")
	require.True(t, c.beginRead())
	secure := c.secure()
	require.Zero(t, rawInput(secure.tls).Cap())
	require.Zero(t, hand(secure.tls).Cap())
	require.Nil(t, secure.lent)
	require.LessOrEqual(t, unsafe.Sizeof(secureConn{}), uintptr(288), "the size class of the allocator that it is in")
	require.Nil(t, secure.shaking)
	c.endRead()
	s.adopting.over()
}
