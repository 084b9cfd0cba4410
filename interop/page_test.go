package interop

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A browser that starts, and draws, takes its time on a machine that has other things to do.
const pagePatience = 2 * time.Minute

func TestThePageInChromium(t *testing.T) {
	h := startHub(t, "--node", "page <b>")
	out := run(t, "node", "page.mjs", h.admin, h.spokes)
	for _, step := range []string{"charts", "published", "disconnected", "everywhere", "gone?"} {
		expectWithin(t, out, step, pagePatience)
	}
	require.NoError(t, h.cmd.Process.Kill())
	expectWithin(t, out, "gone", pagePatience)
	startHub(t, "--admin", strings.TrimPrefix(h.admin, "http://"))
	expectWithin(t, out, "back", pagePatience)
}

func TestThePageAsksForTheToken(t *testing.T) {
	const token = "open sesame"
	h := startHub(t, "--admin-token", token)
	out := run(t, "node", "page.mjs", h.admin, h.spokes, token)
	expectWithin(t, out, "signed in", pagePatience)
}
