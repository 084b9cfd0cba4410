package fanout

import (
	"fmt"
	"strings"
	"time"
)

// Policy says what happens to an event for a spoke that is over a limit.
type Policy uint8

// The policies. Under each of them whole events are lost or none, and the spoke is told: by a
// __gap event in the place of what is missing, or by the close frame.
const (
	// Disconnect gives up what is queued and closes the connection with Config.SlowCloseCode.
	Disconnect Policy = iota
	// DropOldest lets events leave from the head of the queue until the new one fits.
	DropOldest
	// DropNewest does not queue the new event.
	DropNewest
	// Conflate keeps of each topic only the newest event, in its place. What is then still over the
	// limit leaves from the head.
	Conflate
	numPolicies
)

var policyNames = []string{"disconnect", "drop-oldest", "drop-newest", "conflate"}

func (p Policy) String() string { return policyNames[p] }

// ParsePolicy reads the name of a policy.
func ParsePolicy(s string) (Policy, error) {
	for i, name := range policyNames {
		if s == name {
			return Policy(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not a policy, it is one of %s", s, strings.Join(policyNames, ", "))
}

// Limits bound what slow spokes may hold.
type Limits struct {
	// SpokeBytes is what may be queued for one spoke, in bytes of frames. It is also the size of
	// the largest event that can be dispatched.
	SpokeBytes int64
	// SpokeLag is how old the oldest event queued for a spoke may become; 0 sets no limit.
	SpokeLag time.Duration
	// TotalBytes is what the queued frames of the whole hub may hold, each counted once, with 256
	// bytes for what an event takes beside its frame. The same bound holds for what is dispatched and not yet given to the spokes.
	TotalBytes int64
}

// The defaults of Limits.
const (
	DefaultSpokeBytes = 256 << 10
	DefaultSpokeLag   = 10 * time.Second
	DefaultTotalBytes = 256 << 20
)

// LossReason says which limit made the hub lose events, in __gap, in logs and as a metric label.
type LossReason uint8

// The reasons.
const (
	OverSpokeBytes LossReason = iota // the spoke's queue was full
	OverSpokeLag                     // the spoke's queue was too old
	OverTotalBytes                   // the hub's queues together were too large
	Closed                           // the connection ended with events in its queue
	numLossReasons
)

var lossReasonNames = [numLossReasons]string{"spoke_buffer", "spoke_lag", "total_buffer", "closed"}

func (r LossReason) String() string { return lossReasonNames[r] }

// maxReservedBytes bounds the answers and errors that wait for a spoke, which are outside the
// limits and never dropped. A spoke that goes on asking without reading is closed.
const maxReservedBytes = 64 << 10
