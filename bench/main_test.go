package bench

import (
	"testing"

	"github.com/alkdev/hub/internal/fleet"
	"github.com/alkdev/hub/internal/leak"
)

// Child processes with a hub: one that does nothing else, and two that publish, without compression
// and with it.
const (
	roleHub      = "hub"
	rolePlain    = "plain hub"
	roleDeflated = "deflated hub"

	roleSecureHub = "hub with TLS"
	roleDiscard   = "clients that discard" // see secureClients
	roleScaleHub  = "hub of a cluster"
	roleOperators = "operators" // with pages
)

func TestMain(m *testing.M) {
	fleet.Main(map[string]func() error{
		roleHub: hubMain, rolePlain: plainMain, roleDeflated: deflatedMain, roleSecureHub: secureHubMain, roleDiscard: discardMain, roleScaleHub: scaleHubMain, roleOperators: operatorsMain,
	})
	leak.Main(m)
}
