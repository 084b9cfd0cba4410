package loop

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

func TestTheKernelTellsOfAConnection(t *testing.T) {
	_, h, address := startServer(t, fanout.Config{Limits: fanout.Limits{SpokeBytes: 8 << 20}}, tight)
	p := slowly(t, address)
	spoke := h.Spokes()[0]
	k := spoke.Info().Kernel
	require.NotNil(t, k)
	require.Positive(t, k.RTT, "from the handshake of TCP")
	require.Zero(t, k.Unsent)
	for i := range 200 {
		dispatch(t, h, numbered(i, 1<<10))
	}
	await(t, func() bool { return spoke.Info().Kernel.Unsent > 0 }, "the window of the peer is full")
	require.NoError(t, p.tcp.Close())
	await(t, func() bool { return h.Spoke(spoke.ID()) == nil }, "the spoke has gone")
	require.Nil(t, spoke.Info().Kernel)
}
