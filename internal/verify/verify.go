// Package verify checks invariants where HUB_VERIFY=1 asks for it, as the tests do.
package verify

import (
	"fmt"
	"os"
)

// On says whether Check looks. It does not change while the program runs.
var On = os.Getenv("HUB_VERIFY") == "1"

// Check panics with the formatted message if On and ok is false. Guard arguments that cost
// something with On.
func Check(ok bool, format string, args ...any) {
	if On && !ok {
		panic("verify: " + fmt.Sprintf(format, args...))
	}
}
