package client

import (
	"fmt"
	"time"
)

// State is where a client stands.
type State uint8

// The states.
const (
	// Connected: the hub has taken the connection.
	Connected State = iota + 1
	// Waiting: there is no connection, the next attempt comes after Status.RetryIn.
	Waiting
	// Closed: the client has ended. No callback follows.
	Closed
)

func (s State) String() string {
	switch s {
	case Connected:
		return "connected"
	case Waiting:
		return "waiting"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Status is a change of state.
type Status struct {
	State State
	// Err is nil when Connected. When Waiting it says why: a *CloseError for a connection that ended, a
	// *RefusedError or another error for one that was not made. When Closed it is what Err returns.
	Err error
	// RetryIn is the time to the next attempt, when Waiting.
	RetryIn time.Duration
	// Failures counts the connections lost and not made since the last stable one, when Waiting.
	Failures int
}
