package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/fleet"
	"github.com/alkdev/hub/internal/leak"
)

const roleAttacker = "attacker"

func TestMain(m *testing.M) {
	fleet.Main(map[string]func() error{roleAttacker: attackerMain})
	var err error
	if buildDir, err = os.MkdirTemp("", "hostile"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := leak.Run(m)
	_ = os.RemoveAll(buildDir)
	os.Exit(code)
}

var buildDir string

// build returns the daemon, with the race detector if the tests have it.
var build = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(buildDir, "hub")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/hub")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
})

// secondsVariable is how long each attack lasts in the long form; without it the form is short.
const secondsVariable = "HUB_HOSTILE_SECONDS"

// form says how long and how wide the attacks are, and what is forgiven.
type form struct {
	Long bool
	// events is how many are published in quiet, and again under attack.
	events int
	// slack is what may come on top of twice the time that something takes in quiet: short forms run
	// beside the tests of other packages, which have the cores for whole turns of the scheduler.
	slack time.Duration
}

// eventsPerSec is the pace of the stream.
const eventsPerSec = 100

func formOf(t testing.TB) form {
	t.Helper()
	text := os.Getenv(secondsVariable)
	if text == "" {
		return form{events: eventsPerSec / 2, slack: 250 * time.Millisecond}
	}
	seconds, err := strconv.Atoi(text)
	require.NoError(t, err, secondsVariable)
	return form{Long: true, events: seconds * eventsPerSec, slack: 25 * time.Millisecond}
}
