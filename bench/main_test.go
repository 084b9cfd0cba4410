package bench

import (
	"testing"

	"github.com/alkdev/hub/internal/fleet"
	"github.com/alkdev/hub/internal/leak"
)

// roleHub is a child process with a hub and nothing else.
const roleHub = "hub"

func TestMain(m *testing.M) {
	fleet.Main(map[string]func() error{roleHub: hubMain})
	leak.Main(m)
}
