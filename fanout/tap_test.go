package fanout

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// records takes what there is from a tap: "event a:1", "connected", "gap 2 0".
func records(t testing.TB, tap *Tap) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		b, err := tap.Next(ctx)
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			return lines
		}
		var r Record
		require.NoError(t, json.Unmarshal(b, &r))
		switch r.Kind {
		case RecordEvent:
			lines = append(lines, "event "+r.Event.Type+":"+r.Event.ID)
		case RecordGap:
			lines = append(lines, fmt.Sprintf("gap %d %d", r.Dropped, r.Conflated))
		default:
			lines = append(lines, r.Kind)
		}
	}
}

func TestTapTellsWhatSpokesDo(t *testing.T) {
	h := newHub(t, Config{})
	tap := h.Tap()
	defer tap.Close()
	s, _ := connect(t, h)
	s.Receive([]byte(`{"type":"a","id":"\u00e4\"","payload": {"n" : 12345678901234567890,` + "\n" + `"s":"\u0041"} }`))
	s.Receive([]byte(`{"type":"b"}`))
	s.Receive([]byte(`{"type":"__subscribe","id":"a:1"}`)) // none of its business
	s.Receive([]byte(`nonsense`))
	dispatch(t, h, event("a", "1", 2))
	s.Detach(CauseOf(PeerSide, codec.CloseNormal, "bye"))

	next := func() string {
		b, err := tap.Next(t.Context())
		require.NoError(t, err)
		require.NotContains(t, string(b), "\n", "one line")
		return string(b)
	}
	id := s.ID()
	require.JSONEq(t, `{"kind":"connected","spoke":"`+id+`","remote":"192.0.2.1:1234"}`, next())
	first := next()
	require.Contains(t, first, `{"n" : 12345678901234567890, "s":"\u0041"}`, "the payload as it came, but for line breaks")
	require.JSONEq(t, `{"kind":"event","spoke":"`+id+`","event":{"type":"a","id":"ä\"","payload":{"n":12345678901234567890,"s":"A"}}}`, first)
	require.JSONEq(t, `{"kind":"event","spoke":"`+id+`","event":{"type":"b","id":"","payload":null}}`, next())
	require.JSONEq(t, `{"kind":"disconnected","spoke":"`+id+`","remote":"192.0.2.1:1234","side":"peer","code":1000,"reason":"bye","cause":"normal"}`, next())
	require.Empty(t, records(t, tap))
}

func TestTapsHearWhatTheyAskedFor(t *testing.T) {
	h := newHub(t, Config{})
	s, _ := connect(t, h)
	all, some, none := h.Tap(), h.Tap(pattern(t, "a:1"), pattern(t, "b:*"), pattern(t, "b:2")), h.Tap(pattern(t, "c:1"))
	for _, topic := range []string{"a:1", "a:2", "b:2", "d:"} {
		say(s, topic)
	}
	s.Detach(Cause{})
	require.Equal(t, []string{"event a:1", "event a:2", "event b:2", "event d:", "disconnected"}, records(t, all))
	require.Equal(t, []string{"event a:1", "event b:2", "disconnected"}, records(t, some), "once, whatever selects it")
	require.Equal(t, []string{"disconnected"}, records(t, none))
	for _, tap := range []*Tap{all, some, none} {
		tap.Close()
		tap.Close()
		_, err := tap.Next(t.Context())
		require.ErrorIs(t, err, ErrTapClosed)
	}
	require.Nil(t, h.taps.list.Load(), "without taps there is nothing to do")
}

func TestSlowTapIsTreatedAsASlowSpoke(t *testing.T) {
	for _, test := range []struct {
		policy Policy
		want   string
	}{
		{DropOldest, "gap 3 0,event a:2,event a:1,event a:2,event a:1"},
		{DropNewest, "event a:1,event a:2,event a:1,event a:2,gap 3 0"},
		{Conflate, "gap 0 3,event a:2,event a:1,event a:2,event a:1"},
		{Disconnect, "ended"},
	} {
		t.Run(test.policy.String(), func(t *testing.T) {
			h := newHub(t, Config{Policy: test.policy, Limits: Limits{SpokeBytes: 400}}) // four records, not five
			s, k := connect(t, h)
			tap := h.Tap()
			for i := range 7 {
				say(s, fmt.Sprint("a:", 1+i%2))
			}
			if test.want == "ended" {
				_, err := tap.Next(t.Context())
				require.ErrorIs(t, err, ErrTapSlow)
				say(s, "a:1")
			} else {
				require.Equal(t, test.want, strings.Join(records(t, tap), ","))
			}
			require.Zero(t, h.Stats().HeldBytes, "what a tap holds is not the spokes'")
			dispatch(t, h, event("a", "1", 2))
			h.Flush()
			require.Equal(t, []string{"a:1"}, k.topics(t), "it is no trouble for spokes")
			tap.Close()
		})
	}
}

func TestTapIsSlowWhenItsOldestRecordIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Limits: Limits{SpokeLag: testLag}})
		s, _ := connect(t, h)
		tap := h.Tap()
		defer tap.Close()
		say(s, "a:1")
		after(testLag - 1)
		say(s, "a:2")
		require.Equal(t, []string{"event a:1", "event a:2"}, records(t, tap))
		say(s, "a:3")
		after(testLag)
		say(s, "a:4")
		_, err := tap.Next(t.Context())
		require.ErrorIs(t, err, ErrTapSlow)
	})
}

func TestRecordThatNeverFitsIsMissingAndNoMore(t *testing.T) {
	for p := range numPolicies {
		h := newHub(t, Config{Policy: p, Limits: Limits{SpokeBytes: 400}})
		s, _ := connect(t, h)
		tap := h.Tap()
		say(s, "a:1")
		s.Receive(fmt.Appendf(nil, `{"type":"a","id":"2","payload":"%s"}`, strings.Repeat("x", 1000)))
		say(s, "a:3")
		require.Equal(t, []string{"event a:1", "gap 1 0", "event a:3"}, records(t, tap), p.String())
		tap.Close()
	}
}

func TestNextWaitsForARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, _ := connect(t, h)
		tap := h.Tap()
		lines := make(chan string)
		go func() {
			for {
				b, err := tap.Next(t.Context())
				if err != nil {
					lines <- err.Error()
					return
				}
				lines <- string(b)
			}
		}()
		for _, topic := range []string{"a:1", "b:1"} {
			after(time.Minute)
			select {
			case line := <-lines:
				t.Fatal(line)
			default:
			}
			say(s, topic)
			require.Contains(t, <-lines, topic[:1])
		}
		h.Close()
		require.Equal(t, ErrClosed.Error(), <-lines)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := newHub(t, Config{}).Tap().Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestClosingATapEndsItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		s, _ := connect(t, h)
		tap := h.Tap()
		ended := make(chan error)
		go func() {
			_, err := tap.Next(context.Background())
			ended <- err
		}()
		synctest.Wait()
		tap.Close()
		require.ErrorIs(t, <-ended, ErrTapClosed)
		say(s, "a:1")
		require.Zero(t, h.Stats().HeldBytes)
	})
}

func TestWhatTapsLoseIsCountedAlsoOnceTheyAreClosed(t *testing.T) {
	h := newHub(t, Config{Policy: DropOldest, Limits: Limits{SpokeBytes: 2000}})
	s, _ := connect(t, h)
	tap := h.Tap()
	for range 100 {
		s.Receive([]byte(`{"type":"a","payload":"` + strings.Repeat("x", 100) + `"}`))
	}
	live := h.Stats().TapDropped[OverSpokeBytes]
	require.Positive(t, live)
	require.Zero(t, h.Stats().Dropped[OverSpokeBytes], "no spoke has lost anything")
	tap.Close()
	tap.Close()
	st := h.Stats()
	require.Equal(t, live, st.TapDropped[OverSpokeBytes])
	require.EqualValues(t, 100, live+st.TapDropped[Closed], "what was queued is lost with the tap")
}
