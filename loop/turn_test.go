package loop

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Whatever is dear to work on is worked on in turns, also when it arrives at once: behind the request for a
// handshake, or in one record of TLS. The others of the poller have theirs in between.
func TestOthersHaveTheirTurnsWithinWhatArrivesAtOnce(t *testing.T) {
	flood := message("flood", "")
	const record = 16 << 10
	perRecord := record / len(flood)
	for name, c := range map[string]struct {
		tls      *tls.Config
		atOnce   bool // with the request
		messages int
		at       int  // the message during which another spoke sends something
		goes     bool // it hangs up when it has sent all
	}{
		"behind the request":             {nil, true, 1000, 200, false},
		"behind the request, TLS":        {secured(), true, 1000, 200, false},
		"in a record":                    {secured(), false, 3 * perRecord, perRecord + perRecord/8, false},
		"in a record, and it is gone":    {secured(), false, 3 * perRecord, perRecord + perRecord/8, true},
		"in what is read first, no TLS":  {nil, false, 1200, 150, false},
		"in what a poller reads, no TLS": {nil, false, 3000, 2000, false},
	} {
		t.Run(name, func(t *testing.T) {
			var seen, calmAt atomic.Int64
			begun, goOn := make(chan struct{}), make(chan struct{})
			release := sync.OnceFunc(func() { close(goOn) })
			ended := make(chan int64, 2)
			_, h, address := startServer(t, fanout.Config{SpokeRatePerSec: -1, OnDisconnection: func(*fanout.Spoke, fanout.Cause) {
				ended <- seen.Load()
			}}, Config{Pollers: 1, TLS: c.tls})
			_, err := h.AddListener("flood:", func(*fanout.Spoke, codec.Envelope) {
				if seen.Add(1) == int64(c.at) {
					close(begun)
					<-goOn
				}
				for began := time.Now(); time.Since(began) < turnTime/4; { // dear
				}
			})
			require.NoError(t, err)
			t.Cleanup(release) // or the server would wait for it
			done := make(chan struct{})
			_, err = h.AddListener("calm:", func(*fanout.Spoke, codec.Envelope) {
				calmAt.Store(seen.Load())
				close(done)
			})
			require.NoError(t, err)
			dial := func() *peer {
				if c.tls == nil {
					return dialPeer(t, address, from{})
				}
				p, _ := dialSecure(t, address, from{}, nil)
				return p
			}
			calm, loud := dial(), dial()
			welcomed(t, calm)
			b := bytes.Repeat(flood, c.messages)
			if c.atOnce {
				b = append([]byte(request("/ws")), b...)
			} else {
				welcomed(t, loud)
			}
			loud.write(b)
			receive(t, begun, "the flood comes in")
			if c.goes {
				require.NoError(t, loud.conn.Close())
			}
			calm.write(message("calm", ""))
			release()
			receive(t, done, "the other spoke has its turn")
			// The rest of this portion, and another one if theirs is first in the same round.
			require.LessOrEqual(t, calmAt.Load(), int64(c.at+2*compressedRead/len(flood)+4))
			await(t, func() bool { return seen.Load() == int64(c.messages) }, "all of it is read")
			if c.goes {
				require.EqualValues(t, c.messages, receive(t, ended, "it is gone"), "before its end")
			}
		})
	}
}

// A peer that closes and hangs up has closed, also when what it has sent takes longer than a turn.
func TestACloseFrameCountsHoweverMuchIsInFrontOfIt(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			overTLS = secure
			defer func() { overTLS = false }()
			var hc fanout.Config
			life := watch(&hc)
			hc.SpokeRatePerSec = -1
			_, h, address := startServer(t, hc, Config{Pollers: 1})
			g := addGate(t, h)
			_, err := h.AddListener("ask:", func(*fanout.Spoke, codec.Envelope) {
				for began := time.Now(); time.Since(began) < turnTime/4; { // dear
				}
			})
			require.NoError(t, err)
			p := connect(t, address)
			p.write(message("gate", ""))
			receive(t, g.entered, "the poller is held")
			p.write(append(bytes.Repeat(message("ask", ""), 3000), closing(4000, "done")...))
			_ = p.tcp.Close()
			g.openc <- struct{}{}
			require.EqualValues(t, 4000, receive(t, life.ended, "the spoke is gone").Code)
		})
	}
}

// What is behind the handshake may be compressed, and is read like that.
func TestWhatComesBeforeTheUpgradeIsReadInSmallPortions(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{})
	c := connOf(t, s, dialPeer(t, address, from{}))
	require.Equal(t, compressedRead, c.portion(64<<10))
}
