package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAQueueKeepsTheRoomOfWhatIsTakenUntilTheNextTake(t *testing.T) {
	q := newQueue[string](10)
	require.True(t, q.put("a", 6))
	require.False(t, q.put("b", 5), "there is room for 4")
	require.True(t, q.put("c", 0), "what takes no room always has it")
	require.Len(t, q.wakec, 1)

	taken := q.take(nil)
	require.Equal(t, []string{"a", "c"}, taken)
	require.EqualValues(t, 6, q.size())
	require.True(t, q.put("d", 4))
	require.False(t, q.put("e", 1), "a is not done with")

	taken = q.take(taken)
	require.Equal(t, []string{"d"}, taken)
	require.EqualValues(t, 4, q.size(), "a is done with")
	require.True(t, q.put("f", 6))
	require.Equal(t, []string{"f"}, q.take(taken))
	require.Empty(t, q.take(nil))
	require.Zero(t, q.size())
}
