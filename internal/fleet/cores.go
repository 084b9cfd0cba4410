package fleet

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// The clients have a core to themselves, the last one, and whatever is measured has the others. Left
// alone, the kernel puts the writer and its only reader on one core at times and on two at others,
// for seconds, and then a write costs half as much again.

// allCores are those that this process may use, before any of this.
var allCores = func() (all unix.CPUSet) {
	_ = unix.SchedGetaffinity(0, &all)
	return all
}()

// sharedOut returns the core of the clients and those of what is measured, and reports whether there
// is anything to share out.
func sharedOut() (clients, others unix.CPUSet, ok bool) {
	if allCores.Count() < 2 {
		return allCores, allCores, false
	}
	last := -1
	for cpu, left := 0, allCores.Count(); left > 0; cpu++ {
		if allCores.IsSet(cpu) {
			last = cpu
			left--
		}
	}
	clients.Set(last)
	others = allCores
	others.Clear(last)
	return clients, others, true
}

// LeaveClientsTheirCore keeps this process on the other cores until the returned function is called,
// with as many goroutines at a time as there are cores, as if it had been started there. Processes
// started meanwhile stay there; a fleet and a floor find their places themselves.
func LeaveClientsTheirCore() (undo func()) {
	_, others, ok := sharedOut()
	if !ok {
		return func() {}
	}
	setCores(os.Getpid(), &others)
	procs := runtime.GOMAXPROCS(others.Count())
	return func() {
		runtime.GOMAXPROCS(procs)
		setCores(os.Getpid(), &allCores)
	}
}

// JoinClients keeps every thread that the process has, and those to come, on the core of the clients.
func JoinClients(pid int) {
	clients, _, _ := sharedOut()
	setCores(pid, &clients)
}

// KeepOffClients keeps every thread that the process has, and those to come, on the cores that are
// not the clients'. A Go program should be started there instead, under LeaveClientsTheirCore: it
// counts the cores once.
func KeepOffClients(pid int) {
	_, others, _ := sharedOut()
	setCores(pid, &others)
}

// GiveAllCores undoes JoinClients and KeepOffClients.
func GiveAllCores(pid int) { setCores(pid, &allCores) }

// setCores applies to every thread there is; those to come inherit it. Where it is forbidden, the
// numbers are less steady.
func setCores(pid int, set *unix.CPUSet) {
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.SchedSetaffinity(id, set)
		}
	}
}
