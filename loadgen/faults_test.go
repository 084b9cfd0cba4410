package loadgen

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// nothing is what a spoke gets for an event that is withheld.
var nothing = []byte{}

func TestEveryFaultOfAStreamIsNoticed(t *testing.T) {
	var held []byte
	for _, c := range []struct {
		name   string
		script func(seq uint64, event []byte) []byte
		want   Report // Lost, Doubled and OutOfOrder; the fault is with one spoke of three
	}{
		{"healthy", func(uint64, []byte) []byte { return nil }, Report{}},
		{"swallowed", func(seq uint64, _ []byte) []byte {
			if seq == 3 || seq == 7 || seq == 8 {
				return nothing
			}
			return nil
		}, Report{Lost: Lost{Unannounced: 3}}},
		{"doubled", func(seq uint64, event []byte) []byte {
			if seq == 4 {
				return slices.Concat(text(event), text(event))
			}
			return nil
		}, Report{Doubled: 1}},
		{"swapped", func(seq uint64, event []byte) []byte {
			switch seq {
			case 5:
				held = text(event)
				return nothing
			case 6:
				return slices.Concat(text(event), held)
			}
			return nil
		}, Report{OutOfOrder: 1}},
		{"announced", func(seq uint64, event []byte) []byte {
			switch {
			case seq >= 10 && seq < 14:
				return nothing
			case seq == 14:
				return slices.Concat(control(codec.TypeGap, codec.Gap{Dropped: 3, Conflated: 1, Reason: "lag"}), text(event))
			}
			return nil
		}, Report{Lost: Lost{Gap: 4, GapEvents: 1}}},
		{"announced in part", func(seq uint64, event []byte) []byte {
			switch {
			case seq >= 10 && seq < 14:
				return nothing
			case seq == 14:
				return slices.Concat(control(codec.TypeGap, codec.Gap{Dropped: 1}), text(event))
			}
			return nil
		}, Report{Lost: Lost{Gap: 1, Unannounced: 3, GapEvents: 1}}},
		{"another spelling", func(seq uint64, event []byte) []byte {
			s, _ := readStamp(event)
			return text(fmt.Appendf(nil, `{ "payload":{"at":%d,"seq":%d,"run":"%s"}, "type":"bench"}`, s.at, s.seq, s.run))
		}, Report{}},
		{"events of others", func(seq uint64, event []byte) []byte {
			return slices.Concat(text([]byte(`{"type":"tick"}`)), text(appendEvent(nil, newRunID(), 0, seq, 1, 128)),
				text([]byte(`no envelope`)), control("__new", nil), text(event))
		}, Report{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, config := startFake(t, false)
			f.script = func(spoke int, seq uint64, event []byte) []byte {
				if spoke != 1 {
					return nil
				}
				return c.script(seq, event)
			}
			report := f.runUntil(t, 20, config)
			require.Equal(t, c.want.Lost, report.Lost)
			require.Equal(t, c.want.Doubled, report.Doubled)
			require.Equal(t, c.want.OutOfOrder, report.OutOfOrder)
			lost := c.want.Lost.Gap + c.want.Lost.Unannounced
			require.EqualValues(t, 3*report.Published.Events, report.Deliveries+lost)
			fault := c.want.Lost.Unannounced > 0 || c.want.Doubled+c.want.OutOfOrder > 0
			require.Equal(t, fault, len(report.Problems) > 0, "%v", report.Problems)
			require.True(t, report.EndedEarly)
		})
	}
}

func TestAConnectionThatEndsLosesTheRest(t *testing.T) {
	f, config := startFake(t, false)
	f.script = func(spoke int, seq uint64, event []byte) []byte {
		switch {
		case spoke == 0 && seq == 5:
			return codec.AppendCloseFrame(nil, codec.CloseSlow, "slow")
		case spoke == 1 && seq == 6:
			_ = f.spokes[1].(*net.TCPConn).SetLinger(0)
			_ = f.spokes[1].Close()
		}
		return nil
	}
	report := f.runUntil(t, 100, config)
	n := int64(report.Published.Events)
	require.Equal(t, n-5, report.Lost.Close)
	require.GreaterOrEqual(t, report.Lost.Unannounced, n-6) // what the reset has overtaken is lost as well
	require.Equal(t, 1, report.Spokes.Ended["closed with 4008"])
	require.Len(t, report.Spokes.Ended, 2)
	require.Len(t, report.Problems, 1)
}

func TestPingsAreAnsweredAndConnectionsClosedInOrder(t *testing.T) {
	f, config := startFake(t, false)
	f.script = func(_ int, seq uint64, event []byte) []byte {
		if seq == 1 {
			return slices.Concat(ws.MustCompileFrame(ws.NewPingFrame([]byte("still there?"))), text(event))
		}
		return nil
	}
	f.runUntil(t, 3, config)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Equal(t, slices.Repeat([]string{"still there?"}, 3), f.pongs)
	require.Equal(t, slices.Repeat([]codec.CloseCode{codec.CloseNormal}, 3), f.closes)
}

func TestFramesThatNoHubSendsEndTheConnection(t *testing.T) {
	f, config := startFake(t, false)
	f.script = func(spoke int, seq uint64, event []byte) []byte {
		if spoke == 2 && seq == 1 {
			return ws.MustCompileFrame(ws.NewFrame(ws.OpText, false, event))
		}
		return nil
	}
	report := f.runUntil(t, 5, config)
	require.Equal(t, map[string]int{"not a frame that a hub sends: a fragmented message": 1}, report.Spokes.Ended)
}

func TestAnOverloadedHubIsAskedAgain(t *testing.T) {
	f, config := startFake(t, false)
	f.answer = func(w http.ResponseWriter, request int) bool {
		if request%3 != 0 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":{"code":"overloaded","message":"too much"}}`))
		return true
	}
	report := f.runUntil(t, 20, config)
	require.Empty(t, report.Problems)
	require.Positive(t, report.Published.Refused)
	require.EqualValues(t, 3*report.Published.Events, report.Deliveries)
}

func TestAPublisherThatFailsEndsTheRun(t *testing.T) {
	f, config := startFake(t, false)
	f.answer = func(w http.ResponseWriter, request int) bool {
		if request == 5 {
			http.Error(w, "gone away", http.StatusBadGateway)
		}
		return request == 5
	}
	report := perform(t, config)
	require.Contains(t, report.Failure, `502 Bad Gateway: "gone away`)
	require.Len(t, report.Problems, 1)
	require.EqualValues(t, 3*report.Published.Events, report.Deliveries)
}

func TestEventsThatNeverArriveAreAnError(t *testing.T) {
	f, config := startFake(t, false)
	f.answer = func(w http.ResponseWriter, _ int) bool {
		_, _ = w.Write([]byte(`{"accepted":1,"matched":0}`))
		return true
	}
	config.Patience = 50 * time.Millisecond
	_, err := Run(t.Context(), config, nil)
	require.ErrorContains(t, err, "does not reach the spokes")
}

func TestOverTLSStreamsAreCheckedAsWell(t *testing.T) {
	f, config := startFake(t, true)
	f.script = func(spoke int, seq uint64, event []byte) []byte {
		if spoke == 0 && seq == 4 {
			return slices.Concat(text(event), text(event))
		}
		return nil
	}
	config.Spokes, config.StalledShare = 8, 0.25
	report := f.runUntil(t, 20, config)
	require.EqualValues(t, 6*report.Published.Events, report.Deliveries)
	require.EqualValues(t, 1, report.Doubled)
	require.Equal(t, StalledReport{Spokes: 2, Open: 2, Ended: map[string]int{}}, report.Stalled)
}
