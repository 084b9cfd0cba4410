package fanout

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// limited is a hub whose spokes may send 10 messages a second and 20 at once, and one of them. heard counts
// the events that reach a listener.
func limited(t *testing.T, c Config) (h *Hub, s *Spoke, k *scriptSink, heard *int) {
	t.Helper()
	if c.SpokeRatePerSec == 0 {
		c.SpokeRatePerSec, c.SpokeBurst = 10, 20
	}
	h, heard = newHub(t, c), new(int)
	_, err := h.AddListener("*", func(*Spoke, codec.Envelope) { *heard++ })
	require.NoError(t, err)
	s, k = connect(t, h)
	return h, s, k, heard
}

// told returns what the hub has said of the rate.
func told(t *testing.T, h *Hub, k *scriptSink) (errors []codec.Error) {
	t.Helper()
	for _, e := range answers(t, h, k) {
		require.Equal(t, codec.TypeError, e.Type)
		var said codec.Error
		require.NoError(t, e.Decode(&said))
		require.Equal(t, codec.CodeRateLimited, said.Code)
		errors = append(errors, said)
	}
	return errors
}

func TestASpokeSendsItsBurstAndThenItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, _, heard := limited(t, Config{})
		time.Sleep(time.Hour) // which saves up no more than a burst
		for range 21 {
			say(s, "a:1")
		}
		require.Equal(t, 20, *heard)
		for i := range 15 { // then one has its place every 100 ms
			time.Sleep(100*time.Millisecond - 1)
			say(s, "a:1")
			require.Equal(t, 20+i, *heard)
			time.Sleep(time.Nanosecond)
			say(s, "a:1")
			require.Equal(t, 21+i, *heard)
		}
		require.EqualValues(t, 16, h.Stats().RateLimited)
		require.EqualValues(t, 35, h.Stats().Received)
		time.Sleep(time.Second) // fills a half of the bucket
		for range 15 {
			say(s, "a:1")
		}
		require.Equal(t, 45, *heard)
	})
}

func TestARunOfRefusalsIsToldAtItsBeginningAndItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, k, heard := limited(t, Config{})
		for range 20 + 7 {
			say(s, "a:1")
		}
		require.Equal(t, 20, *heard)
		said := told(t, h, k)
		require.Len(t, said, 1, "not one for each")
		require.Equal(t, codec.Error{
			Code: codec.CodeRateLimited, Refused: 1, RetryAfterMs: 2000,
			Message: "a spoke may send 10 messages a second, 20 at once: what is beyond is not taken; after 2000 ms without any, 20 may be sent at once again",
		}, said[0])

		time.Sleep(500 * time.Millisecond)
		say(s, "a:1") // taken; the run goes on
		require.Len(t, told(t, h, k), 1)
		time.Sleep(1500 * time.Millisecond)
		say(s, "a:1")
		said = told(t, h, k)
		require.Len(t, said, 2)
		require.Equal(t, 7, said[1].Refused)
		require.Equal(t, "a spoke may send 10 messages a second, 20 at once: 7 were refused before this one", said[1].Message)

		say(s, "a:1")
		require.Len(t, told(t, h, k), 2, "told once")
		for range 20 {
			say(s, "a:1")
		}
		require.Len(t, told(t, h, k), 3, "the next run")
	})
}

// A run that is over may be followed by a refusal instead of a message that is taken.
func TestANewRunTellsOfTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, k, _ := limited(t, Config{SpokeRatePerSec: 1, SpokeBurst: 10})
		for range 10 + 3 {
			say(s, "a:1")
		}
		time.Sleep(999 * time.Millisecond)
		say(s, "a:1") // of the same run
		require.Len(t, told(t, h, k), 1)
		time.Sleep(1000 * time.Millisecond)
		say(s, "a:1") // taken: there was time for it
		said := told(t, h, k)
		require.Len(t, said, 2)
		require.Equal(t, 4, said[1].Refused)
	})
}

func TestASpokeThatGoesOnAboveItsRateIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, k, heard := limited(t, Config{})
		for range 20 + 19 {
			say(s, "a:1")
		}
		h.Flush()
		closed, _, _ := k.ending()
		require.False(t, closed)
		for range 1000 {
			say(s, "a:1")
		}
		h.Flush()
		closed, code, reason := k.ending()
		require.True(t, closed)
		require.Equal(t, codec.ClosePolicy, code)
		require.Equal(t, "rate limited: 20 messages refused, a spoke may send 10 messages a second, 20 at once", reason)
		time.Sleep(time.Hour)
		say(s, "a:1")
		require.Equal(t, 20, *heard, "nothing more is looked at")
		require.EqualValues(t, 20, h.Stats().RateLimited)
		require.Len(t, told(t, h, k), 1)
	})
}

// At a steady rate above the limit, refusals come singly between messages that are taken: they are one run.
func TestASteadyExcessIsOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, k, _ := limited(t, Config{})
		sent := 0
		for closed := false; !closed; closed, _, _ = k.ending() {
			say(s, "a:1")
			sent++
			h.Flush()
			time.Sleep(80 * time.Millisecond) // 12.5 a second
		}
		require.Len(t, told(t, h, k), 1)
		require.InDelta(t, 20*5+20*5, sent, 10) // a fifth is too many: until the burst is used up, then 20 refusals
	})
}

func TestEveryKindOfMessageCounts(t *testing.T) {
	for _, message := range []string{`{"type":"a"}`, `{"type":"__subscribe","id":"a:1"}`, `{"type":"__unsubscribe","id":"a:1"}`,
		`{"type":"__auth","payload":{"token":"x"}}`, "nonsense"} {
		synctest.Test(t, func(t *testing.T) {
			h, s, k, _ := limited(t, Config{SpokeRatePerSec: 2, SpokeBurst: 3, BadEnvelopesPerMin: 100})
			for range 4 {
				s.Receive([]byte(message))
			}
			require.EqualValues(t, 1, h.Stats().RateLimited, message)
			all := answers(t, h, k)
			require.Equal(t, "__error", all[len(all)-1].Type)
		})
	}
}

func TestEachSpokeHasItsOwnRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, _, heard := limited(t, Config{})
		other, _ := connect(t, h)
		for range 30 {
			say(s, "a:1")
		}
		for range 20 {
			say(other, "a:1")
		}
		require.Equal(t, 40, *heard)
	})
}

func TestWithoutARateASpokeSendsWhatItLikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, _, heard := limited(t, Config{SpokeRatePerSec: -1, BadEnvelopesPerMin: 1})
		for range 3 * DefaultSpokeRatePerSec {
			say(s, "a:1")
		}
		require.Equal(t, 3*DefaultSpokeRatePerSec, *heard)
		require.Zero(t, h.Stats().RateLimited)
		s.Receive([]byte("nonsense"))
		say(s, "a:1")
		require.Equal(t, 3*DefaultSpokeRatePerSec, *heard, "but not once it is being closed for something else")
	})
}

func TestRatesThatCannotBe(t *testing.T) {
	for _, c := range []Config{{SpokeRatePerSec: MaxSpokeRatePerSec + 1}, {SpokeBurst: -1}} {
		_, err := New(c)
		require.Error(t, err, "%+v", c)
	}
	r, err := newRate(0, 0)
	require.NoError(t, err)
	require.Equal(t, "a spoke may send 10000 messages a second, 20000 at once", fmt.Sprint(r))
}

// What a spoke takes of idle memory is counted in bytes: with the connection around it, it fills a size
// class of the allocator to the last one.
func TestTheRateCostsAnIdleSpokeNothing(t *testing.T) {
	require.EqualValues(t, 112, unsafe.Sizeof(Spoke{}))
}
