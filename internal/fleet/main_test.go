package fleet

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/leak"
)

// roleDoubling answers a number with twice as much.
const roleDoubling = "doubling"

func TestMain(m *testing.M) {
	Main(map[string]func() error{
		roleDoubling: func() error {
			return Obey(func(n int) (int, error) {
				if n == 0 {
					return 0, errors.New("nothing")
				}
				return 2 * n, nil
			})
		},
	})
	leak.Main(m)
}

func TestChildAnswers(t *testing.T) {
	c := Start(t, roleDoubling)
	var n int
	require.NoError(t, c.Ask(21, &n))
	require.Equal(t, 42, n)
	require.EqualError(t, c.Ask(0, &n), "nothing")
	require.NoError(t, c.Ask(1, nil))
	require.Positive(t, c.CPU())
	require.Positive(t, ResidentBytes(c.PID()))
	c.Stop()
	require.Error(t, c.Ask(1, &n))
	c.Stop()
}
