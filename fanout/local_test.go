package fanout

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func TestLocalsAreSpokesWithoutASocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended []Cause
		h := newHub(t, Config{OnDisconnection: func(_ *Spoke, c Cause) { ended = append(ended, c) }})
		var got []string
		tick, err := codec.ParsePattern("tick:*")
		require.NoError(t, err)
		l, err := h.Connect(func(e codec.Envelope) { got = append(got, e.Topic()) }, tick)
		require.NoError(t, err)

		var heard []codec.Envelope
		_, err = h.AddListener("ask:*", func(s *Spoke, e codec.Envelope) {
			require.Same(t, l.Spoke(), s)
			heard = append(heard, e)
			_, err := s.Dispatch(event("answer", e.ID, 2))
			require.NoError(t, err)
		})
		require.NoError(t, err)

		want := []string{"__welcome:"}
		for i := range 100 {
			dispatch(t, h, event("tick", fmt.Sprint(i), 2))
			dispatch(t, h, event("other", "", 2))
			want = append(want, fmt.Sprint("tick:", i))
		}
		require.NoError(t, l.Dispatch(event("ask", "1", 2)))
		synctest.Wait()
		require.Equal(t, append(want, "answer:1"), got)
		require.Len(t, heard, 1)

		l.Close()
		l.Close()
		synctest.Wait()
		require.Zero(t, dispatch(t, h, event("tick", "", 2)))
		require.ErrorIs(t, l.Dispatch(event("ask", "1", 2)), ErrClosed)
		require.Equal(t, []Cause{CauseOf(PeerSide, codec.CloseNormal, "")}, ended)
	})
}

func TestSlowLocalIsTreatedAsASlowSpoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{Shards: 1, Policy: DropOldest, Limits: Limits{SpokeBytes: 2000}})
		resume := make(chan struct{})
		var got []codec.Envelope
		l, err := h.Connect(func(e codec.Envelope) {
			got = append(got, e)
			<-resume
		})
		require.NoError(t, err)
		synctest.Wait() // it holds on to __welcome
		for i := range 100 {
			dispatch(t, h, event("tick", fmt.Sprint(i), 100))
		}
		h.Flush()
		close(resume)
		synctest.Wait()
		require.Equal(t, codec.TypeGap, got[1].Type)
		require.Equal(t, "tick:99", got[len(got)-1].Topic())
		var gap codec.Gap
		require.NoError(t, got[1].Decode(&gap))
		require.Equal(t, 100, int(gap.Dropped)+len(got)-2)
		l.Close()
		synctest.Wait()
	})
}

func TestHubCloseEndsLocals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		_, err := h.Connect(func(codec.Envelope) {})
		require.NoError(t, err)
		h.Close()
		synctest.Wait() // and the bubble ends only without goroutines
	})
}

func TestLocalsGetEventsThatAreLargerThanAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Config{})
		var lengths []int
		l, err := h.Connect(func(e codec.Envelope) {
			if !e.Reserved() {
				lengths = append(lengths, len(e.Payload))
			}
		})
		require.NoError(t, err)
		defer l.Close()
		want := []int{100, 200 << 10, 3, 128 << 10, 255 << 10, 10}
		for _, n := range want {
			_, err := h.Dispatch(codec.Envelope{Type: "a", Payload: []byte(`"` + strings.Repeat("x", n-2) + `"`)})
			require.NoError(t, err)
			synctest.Wait()
		}
		require.Equal(t, want, lengths)
	})
}
