package loop

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/verify"
)

// What nbio hands from goroutine to goroutine is out of the race detector's sight. Each of these would
// be a race.
func TestUseByOthersThanTheOwnerIsFoundWhereInvariantsAreChecked(t *testing.T) {
	s, _, address := startServer(t, fanout.Config{}, Config{})
	c := connOf(t, s, connect(t, address))
	await(t, func() bool { return c.has(flagUpgraded) && !c.has(flagReading) }, "its poller, which the spoke's shard was faster than, is done")
	buf := make([]byte, 1)
	s.engine.checkPoller(buf)
	for name, use := range map[string]func(){
		"a write that is not the shard's":   func() { _, _ = c.Write(nil) },
		"reading without the flag":          func() { c.onBytes(nil) },
		"reading while somebody else reads": func() { c.set(flagReading | flagInRead); defer c.leaveSide(flagReading | flagInRead); c.onBytes(nil) },
		"writing before the upgrade, not reading": func() {
			other := &conn{server: s}
			other.inFlight.Store(1)
			other.sock = c.sock
			_, _ = other.Write(nil)
		},
	} {
		if verify.On {
			require.Panics(t, use, name)
		} else {
			require.NotPanics(t, use, name)
		}
	}
	if verify.On {
		done := make(chan bool)
		go func() {
			defer func() { done <- recover() != nil }()
			s.engine.checkPoller(buf)
		}()
		require.True(t, <-done, "the buffer of another poller")
	}
}
