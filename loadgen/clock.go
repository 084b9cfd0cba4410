package loadgen

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// clockBase is where the times in events count from.
var clockBase = time.Now()

// now returns nanoseconds since clockBase, on the monotonic clock.
func now() int64 { return int64(time.Since(clockBase)) }

// cores returns how many this process may use at a time.
func cores() int { return min(runtime.GOMAXPROCS(0), runtime.NumCPU()) }

// selfCPU returns the user and system time that this process has used.
func selfCPU() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
