package hostile

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

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

// seconds is how long each attack lasts in the long form; without it the form is short.
var seconds = flag.Int("hostile.seconds", 0, "how long each attack lasts; 0 for the short form, which bounds no times")

// form says how long and how wide the attacks are.
type form struct {
	Long bool
	// spokes take the stream of events, of which so many come under attack, before it and after it.
	spokes                int
	during, before, after int
	// asks and comes are the intervals of those who ask, and come and go.
	asks, comes time.Duration
}

// eventsPerSec is the pace of the stream.
const eventsPerSec = 100

func formNow() form {
	if *seconds > 0 {
		n := *seconds * eventsPerSec
		return form{Long: true, spokes: 40, during: n, before: n, after: n, asks: 5 * time.Millisecond, comes: 20 * time.Millisecond}
	}
	return form{spokes: 8, during: eventsPerSec / 5, after: 2, asks: 15 * time.Millisecond, comes: 40 * time.Millisecond}
}
