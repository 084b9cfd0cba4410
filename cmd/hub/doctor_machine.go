package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/loop"
)

// machine is what hub doctor reads. Tests have one of paper.
type machine interface {
	// read returns a file of /proc or /sys, without the blanks around it.
	read(path string) (string, error)
	// descriptors returns RLIMIT_NOFILE.
	descriptors() (soft, hard uint64, err error)
	// lowat returns what TCP_NOTSENT_LOWAT is on a socket on which it was set to n.
	lowat(n int) (int, error)
	// listen opens a port for a moment.
	listen(address string) error
	// join looks whether a port in use could be shared, without taking part.
	join(address string) error
	// hub reports whether a hub answers at an address.
	hub(address string) bool
	// clock returns the wall clock, and whether it is kept by another.
	clock() (now time.Time, synchronised bool, err error)
	// procs returns GOMAXPROCS and the CPUs that there are.
	procs() (gomaxprocs, cpus int)
	// env is os.Getenv.
	env(name string) string
	// environ is os.Environ.
	environ() []string
}

// thisMachine is the one that runs us.
type thisMachine struct{}

func (thisMachine) read(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// descriptors: Go's runtime raises the soft limit to the hard one when a program starts.
func (thisMachine) descriptors() (soft, hard uint64, err error) {
	var limit unix.Rlimit
	err = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return limit.Cur, limit.Max, err
}

func (thisMachine) lowat(n int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	return unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
}

func (thisMachine) listen(address string) error {
	ln, err := loop.Listen(address)
	if err != nil {
		return cause(err)
	}
	return ln.Close()
}

// readiness matches what the two sides of a hub say of it at /readyz.
var readiness = regexp.MustCompile(`^(ready|not ready|draining|short of memory)\n$|"status":"ready"|"code":"not_ready"`)

// hub asks what both sides of a hub answer without a token.
func (thisMachine) hub(address string) bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + nearby(address) + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return err == nil && readiness.Match(answer)
}

// join binds and does not listen: a listener would be given connections.
func (thisMachine) join(address string) error {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(append(a.IP.To16(), make([]byte, 16)...)[:16])})
	if ip := a.IP.To4(); ip != nil {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	return unix.Bind(fd, sa)
}

func (thisMachine) clock() (time.Time, bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	const timeError = 5 // TIME_ERROR, TIME_BAD
	return time.Now(), state != timeError && t.Status&unix.STA_UNSYNC == 0, os.NewSyscallError("adjtimex", err)
}

func (thisMachine) procs() (gomaxprocs, cpus int) { return runtime.GOMAXPROCS(0), runtime.NumCPU() }

func (thisMachine) env(name string) string { return os.Getenv(name) }

func (thisMachine) environ() []string { return os.Environ() }

// numbers reads a file of numbers.
func numbers(m machine, path string, n int) ([]int64, error) {
	text, err := m.read(path)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(text)
	if len(fields) < n {
		return nil, fmt.Errorf("%s: %q is not %d numbers", path, text, n)
	}
	values := make([]int64, n)
	for i := range values {
		if values[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return values, nil
}

// number1 reads a file of one number.
func number1(m machine, path string) (int64, error) {
	values, err := numbers(m, path, 1)
	if err != nil {
		return 0, err
	}
	return values[0], nil
}

// memInfo returns a line of /proc/meminfo, in bytes.
func memInfo(m machine, name string) (int64, error) {
	text, err := m.read("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, name+":"); found {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo: no " + name)
}

// cgroup is the limits of the control groups that we are in, the tightest on the way up.
type cgroup struct {
	memory, used int64   // bytes; memory is 0 without a limit
	cpus         float64 // 0 without a quota
}

// readCgroup reads both hierarchies, the unified one (v2) and those by controller (v1).
func readCgroup(m machine) cgroup {
	var g cgroup
	text, _ := m.read("/proc/self/cgroup")
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for dir := filepath.Clean("/" + parts[2]); ; dir = filepath.Dir(dir) {
			g.readLevel(m, parts[1], dir)
			if dir == "/" {
				break
			}
		}
	}
	return g
}

// readLevel takes the limits of one group into account.
func (g *cgroup) readLevel(m machine, controllers, dir string) {
	has := func(name string) bool {
		for c := range strings.SplitSeq(controllers, ",") {
			if c == name {
				return true
			}
		}
		return false
	}
	if controllers == "" {
		root := "/sys/fs/cgroup" + dir
		g.limitMemory(m, root+"/memory.max", root+"/memory.current")
		if text, err := m.read(root + "/cpu.max"); err == nil {
			var quota, period float64
			if _, err := fmt.Sscan(text, &quota, &period); err == nil { // "max" is no number
				g.limitCPUs(quota, period)
			}
		}
	}
	if has("memory") {
		root := "/sys/fs/cgroup/memory" + dir
		g.limitMemory(m, root+"/memory.limit_in_bytes", root+"/memory.usage_in_bytes")
	}
	if has("cpu") {
		root := "/sys/fs/cgroup/cpu" + dir
		quota, err := number1(m, root+"/cpu.cfs_quota_us")
		period, err2 := number1(m, root+"/cpu.cfs_period_us")
		if err == nil && err2 == nil {
			g.limitCPUs(float64(quota), float64(period))
		}
	}
}

func (g *cgroup) limitMemory(m machine, limitPath, usedPath string) {
	limit, err := number1(m, limitPath) // "max" is no number
	used, err2 := number1(m, usedPath)
	const unlimited = 1 << 60 // of v1, which has no word for it
	if err == nil && err2 == nil && limit < unlimited && (g.memory == 0 || limit-used < g.memory-g.used) {
		g.memory, g.used = limit, used
	}
}

func (g *cgroup) limitCPUs(quota, period float64) {
	if quota > 0 && period > 0 && (g.cpus == 0 || quota/period < g.cpus) {
		g.cpus = quota / period
	}
}

// portOf returns the port of an address, 0 if it has none.
func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, _ := net.LookupPort("tcp", port)
	return n
}
