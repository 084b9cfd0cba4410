package interop

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePageInChromium(t *testing.T) {
	h := startHub(t)
	out := run(t, "node", "page.mjs", h.admin, h.spokes)
	for _, step := range []string{"charts", "published", "disconnected", "everywhere", "gone?"} {
		expect(t, out, step)
	}
	require.NoError(t, h.cmd.Process.Kill())
	expect(t, out, "gone")
	startHub(t, "--admin", strings.TrimPrefix(h.admin, "http://"))
	expect(t, out, "back")
}

func TestThePageAsksForTheToken(t *testing.T) {
	const token = "open sesame"
	h := startHub(t, "--admin-token", token)
	out := run(t, "node", "page.mjs", h.admin, h.spokes, token)
	expect(t, out, "signed in")
}
