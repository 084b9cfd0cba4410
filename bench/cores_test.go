package bench

import (
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The clients have a core to themselves, the last one, and whatever is measured has the others. Left
// alone, the kernel puts the writer and its only reader on one core at times and on two at others,
// for seconds, and then a write costs half as much again. BenchmarkShards alone measures a hub that
// uses all cores, the clients' among them.

// coreOfClients is the environment variable that tells the clients theirs.
const coreOfClients = "HUB_BENCH_CORE"

// allCores are those that this process may use, before any of this.
var allCores = func() (all unix.CPUSet) {
	_ = unix.SchedGetaffinity(0, &all)
	return all
}()

// lastCore returns the number of the last core, or -1 if there is nothing to share out.
func lastCore() int {
	if allCores.Count() < 2 {
		return -1
	}
	last := -1
	for cpu, left := 0, allCores.Count(); left > 0; cpu++ {
		if allCores.IsSet(cpu) {
			last = cpu
			left--
		}
	}
	return last
}

// pinClients keeps this thread on the core that the parent has chosen.
func pinClients() {
	runtime.LockOSThread()
	if cpu, err := strconv.Atoi(os.Getenv(coreOfClients)); err == nil && cpu >= 0 {
		var one unix.CPUSet
		one.Set(cpu)
		_ = unix.SchedSetaffinity(0, &one) // where that is forbidden, the numbers are less steady
	}
}

// leaveClientsTheirCore keeps this process on the other cores until the returned function is called,
// with as many goroutines at a time as there are cores, as if it had been started there.
func leaveClientsTheirCore() (undo func()) {
	last := lastCore()
	if last < 0 {
		return func() {}
	}
	others := allCores
	others.Clear(last)
	setCores(&others)
	procs := runtime.GOMAXPROCS(others.Count())
	return func() {
		runtime.GOMAXPROCS(procs)
		setCores(&allCores)
	}
}

// setCores applies to every thread there is; those to come inherit it.
func setCores(set *unix.CPUSet) {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.SchedSetaffinity(id, set)
		}
	}
}

func TestCoresAreGivenBack(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	leaveClientsTheirCore()()
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil && set != allCores {
		t.Errorf("cores are %v, were %v", set, allCores)
	}
	if n := runtime.GOMAXPROCS(0); n != procs {
		t.Errorf("GOMAXPROCS is %d, was %d", n, procs)
	}
}
