package fleet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPUOf returns the user and system time that a process has used, its own threads' and to the
// nanosecond; 0 if there is no such process.
func CPUOf(pid int) time.Duration {
	const schedClock = 2 // linux/posix-timers.h: the clock of a process, by number
	return clock(int32(^pid<<3 | schedClock))
}

// SelfCPU is CPUOf this process.
func SelfCPU() time.Duration { return clock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(id, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// ResidentBytes returns the size of a process in memory, 0 if there is no such process.
func ResidentBytes(pid int) int64 {
	// statm is cheap and, on some kernels, a few pages per core off.
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if fields := strings.Fields(string(b)); len(fields) > 1 {
		pages, _ := strconv.ParseInt(fields[1], 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}
