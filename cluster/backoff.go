package cluster

import (
	"math/rand/v2"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// Backoff returns the pause before the given attempt, from 1 on, to make a connection: doubling from a
// tenth of a second up to five, less a random part of up to half, so that hubs which lost the engine
// together do not come back together.
func Backoff(attempt int) time.Duration { return backoff(attempt, jitter()) }

func backoff(attempt int, jitter float64) time.Duration {
	pause := maxPause
	if attempt = max(attempt, 1) - 1; attempt < 6 {
		pause = min(maxPause, firstPause<<attempt)
	}
	return pause - time.Duration(jitter*float64(pause)/2)
}

func jitter() float64 { return rand.Float64() }
