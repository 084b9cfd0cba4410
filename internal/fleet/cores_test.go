package fleet

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCoresAreGivenBack(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	LeaveClientsTheirCore()()
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil && set != allCores {
		t.Errorf("cores are %v, were %v", set, allCores)
	}
	if n := runtime.GOMAXPROCS(0); n != procs {
		t.Errorf("GOMAXPROCS is %d, was %d", n, procs)
	}
}
