package logqueue

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// script is a writer that does as it is told.
type script struct {
	gate chan struct{} // if not nil, Write waits until it is closed

	mu    sync.Mutex
	left  int // bytes that it takes before it fails, negative for any number
	taken bytes.Buffer
}

func (s *script) Write(b []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left < 0 {
		return s.taken.Write(b)
	}
	n := min(s.left, len(b))
	s.left -= n
	s.taken.Write(b[:n])
	if n < len(b) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func (s *script) room(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = n
}

func (s *script) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken.String()
}

func missed(n uint64) []byte { return fmt.Appendf(nil, "missed %d\n", n) }

func TestLinesComeInOrder(t *testing.T) {
	out := &script{left: -1}
	w := New(out, 1<<20, missed)
	var want strings.Builder
	for i := range 1000 {
		_, err := fmt.Fprintf(w, "line %d\n", i)
		require.NoError(t, err)
		fmt.Fprintf(&want, "line %d\n", i)
	}
	require.True(t, w.Close(time.Minute))
	require.Equal(t, want.String(), out.String())
	require.Zero(t, w.Dropped()+w.Failed())
}

// 5 bytes and lineBytes each: three fit.
const threeLines = 3 * (5 + lineBytes)

func TestAWriterThatHangsStopsNobodyAndWhatIsLostIsSaidInItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &script{left: -1, gate: make(chan struct{})}
		w := New(out, threeLines, missed)
		for i := range 10 {
			_, err := fmt.Fprintf(w, "%04d\n", i)
			require.NoError(t, err)
		}
		synctest.Wait()
		require.EqualValues(t, 7, w.Dropped())
		require.Empty(t, out.String())
		close(out.gate)
		synctest.Wait()
		require.Equal(t, "0000\n0001\n0002\nmissed 7\n", out.String())
		_, _ = w.Write([]byte("next\n"))
		require.True(t, w.Close(time.Second))
		require.Equal(t, "0000\n0001\n0002\nmissed 7\nnext\n", out.String())
		require.Zero(t, w.Failed())
	})
}

func TestLinesAreSaidToBeMissingBeforeTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &script{left: -1, gate: make(chan struct{})}
		w := New(out, threeLines, missed)
		_, _ = w.Write([]byte("0000\n"))
		synctest.Wait() // it is being written, and still counts
		for _, text := range []string{"0001\n", strings.Repeat("x", threeLines), "0002\n"} {
			_, _ = w.Write([]byte(text))
		}
		close(out.gate)
		require.True(t, w.Close(time.Second))
		require.Equal(t, "0000\n0001\nmissed 1\n0002\n", out.String())
	})
}

func TestAFullDiskIsCountedAndSaidWhenThereIsRoomAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &script{left: 7}
		w := New(out, 1<<20, missed)
		for i := range 4 {
			_, _ = fmt.Fprintf(w, "%04d\n", i)
			synctest.Wait()
		}
		require.EqualValues(t, 3, w.Failed())
		require.Equal(t, "0000\n00", out.String())
		out.room(-1)
		_, _ = w.Write([]byte("0004\n"))
		require.True(t, w.Close(time.Second))
		require.Equal(t, "0000\n00\nmissed 3\n0004\n", out.String())
		require.Zero(t, w.Dropped())
	})
}

func TestCloseWaitsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &script{left: -1, gate: make(chan struct{})}
		w := New(out, 1<<20, missed)
		_, _ = w.Write([]byte("0000\n"))
		began := time.Now()
		require.False(t, w.Close(time.Second))
		require.Equal(t, time.Second, time.Since(began))
		_, _ = w.Write([]byte("late\n"))
		require.EqualValues(t, 1, w.Dropped())
		close(out.gate)
		synctest.Wait()
		require.Equal(t, "0000\nmissed 1\n", out.String())
	})
}
