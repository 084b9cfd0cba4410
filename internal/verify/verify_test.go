package verify

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGoroutinesHaveNumbersOfTheirOwn(t *testing.T) {
	own := Goroutine()
	require.Equal(t, own, Goroutine())
	other := make(chan uint64)
	go func() { other <- Goroutine() }()
	require.NotEqual(t, own, <-other)
}
