package faulty

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Script is what happens to one connection.
type Script struct {
	Up   []Step // on the way to the target
	Down []Step // on the way back
}

// Step is one fault, in one direction.
type Step struct {
	After int // bytes of this direction that pass unharmed before it, since the step before
	Fault Fault
	Pause time.Duration // of Pause
	Bytes int           // of Trickle
}

// Fault is what can happen.
type Fault uint8

const (
	// Pause passes nothing on for a while, and reads nothing: a delay, or a peer that has stalled.
	Pause Fault = iota
	// Trickle passes the next bytes on one by one.
	Trickle
	// HalfClose tells the receiver that nothing more comes, and throws the rest away.
	HalfClose
	// Cut closes both ends, wherever in a frame that is.
	Cut
	// Reset does so with a reset.
	Reset
)

var faultNames = []string{"pause", "trickle", "half-close", "cut", "reset"}

func (f Fault) String() string { return faultNames[f] }

// Ends reports whether the connection does not survive it.
func (f Fault) Ends() bool { return f >= HalfClose }

func (s Step) String() string {
	text := fmt.Sprintf("+%d %v", s.After, s.Fault)
	switch s.Fault {
	case Pause:
		text += " " + s.Pause.String()
	case Trickle:
		text += fmt.Sprintf(" %d", s.Bytes)
	}
	return text
}

func (s Script) String() string {
	join := func(steps []Step) string {
		texts := make([]string, len(steps))
		for i, step := range steps {
			texts[i] = step.String()
		}
		return strings.Join(texts, ", ")
	}
	return "up [" + join(s.Up) + "] down [" + join(s.Down) + "]"
}

// The bounds of what is drawn.
const (
	minPause  = time.Millisecond
	maxUp     = 2 << 10 // bytes between two faults
	maxDown   = 128 << 10
	maxEndUp  = 4 << 10 // bytes before the end
	maxEndAll = 512 << 10
	maxSteps  = 6
)

// Slow draws a script that a connection survives, with no pause longer than the given one.
func Slow(r *rand.Rand, longest time.Duration) Script {
	return Script{Up: slowSteps(r, maxUp, longest), Down: slowSteps(r, maxDown, longest)}
}

// Fatal draws a script that ends the connection at some byte, sooner or later.
func Fatal(r *rand.Rand, longest time.Duration) Script {
	s := Slow(r, longest)
	end := Step{Fault: HalfClose + Fault(r.IntN(3))}
	if r.IntN(2) == 0 {
		end.After = spread(r, maxEndUp)
		s.Up = append(s.Up[:r.IntN(len(s.Up)+1)], end)
	} else {
		end.After = spread(r, maxEndAll)
		s.Down = append(s.Down[:r.IntN(len(s.Down)+1)], end)
	}
	return s
}

func slowSteps(r *rand.Rand, far int, longest time.Duration) []Step {
	steps := make([]Step, r.IntN(maxSteps+1))
	for i := range steps {
		steps[i].After = spread(r, far)
		if r.IntN(3) == 0 {
			steps[i].Fault, steps[i].Bytes = Trickle, 1+spread(r, 1<<10)
			continue
		}
		steps[i].Pause = minPause + time.Duration(spread(r, int(longest-minPause)))
	}
	return steps
}

// spread draws a number below n, of every order of magnitude alike: faults in a handshake and in the
// first frames are as likely as later ones.
func spread(r *rand.Rand, n int) int {
	return int(math.Exp(r.Float64()*math.Log(float64(n)+1))) - 1
}
