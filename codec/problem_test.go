package codec

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProblemLeavesThePackagesOut(t *testing.T) {
	closed := errors.New("fanout: the hub is closed")
	_, bad := ParsePattern("__x: codec: tick") // whose quotation stays as it is
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("nothing in front"), "nothing in front"},
		{closed, "the hub is closed"},
		{fmt.Errorf("auth: %w: no keys yet", closed), "the hub is closed: no keys yet"},
		{fmt.Errorf("--engine: %w", fmt.Errorf("cluster: %w", closed)), "--engine: the hub is closed"},
		{errors.Join(closed, fmt.Errorf("line 2: %w", &EnvelopeError{Problem: "no type"})), "the hub is closed\nline 2: bad envelope: no type"},
		{fmt.Errorf("client: dial: %w; the last attempt gave: %w", closed, closed), "dial: the hub is closed; the last attempt gave: the hub is closed"},
		{fmt.Errorf("client: %w", errors.New("auth method: unknown")), "auth method: unknown"},
		{errors.New("the file loop: it is not there"), "the file loop: it is not there"},
		{errors.New("nats: no servers"), "nats: no servers"}, // a library of others
		{fmt.Errorf("--topics: %w", bad), `--topics: topic "__x: codec: tick" names a type of the hub (__...)`},
	} {
		require.Equal(t, c.want, Problem(c.err))
	}
}
