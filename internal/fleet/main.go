package fleet

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// role is the environment variable that makes this binary a child process.
const role = "HUB_FLEET_ROLE"

// The roles of this package.
const (
	roleClients = "clients"
	roleFloor   = "floor"
)

// Main belongs at the beginning of TestMain. In a child process it runs what the role asks for, one
// of this package's or one of roles, and exits. Otherwise it parses the flags, says with -bench what
// machine this is, and returns.
func Main(roles map[string]func() error) {
	name := os.Getenv(role)
	switch main := roles[name]; {
	case name == "":
		flag.Parse()
		if f := flag.Lookup("test.bench"); f != nil && f.Value.String() != "" {
			fmt.Println("machine:", Machine())
		}
		return
	case name == roleClients:
		exit(name, clientsMain())
	case name == roleFloor:
		exit(name, floorMain())
	case main == nil:
		exit(name, errors.New("there is no such role"))
	default:
		exit(name, main())
	}
}

func exit(name string, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Obey answers the questions of Child.Ask with fn, one after the other, until the parent ends or
// stops this child.
func Obey[Q, A any](fn func(Q) (A, error)) error {
	questions, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q Q
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := fn(q)
		if err := answers.Encode(newReply(a, err)); err != nil {
			return err
		}
	}
}

// Machine describes what the numbers depend on, in one line.
func Machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	var files unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	return fmt.Sprintf("%s, %s %s, %s, %d cores, GOMAXPROCS %d, ulimit -n %d",
		runtime.Version(), unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]),
		cpuModel(), runtime.NumCPU(), runtime.GOMAXPROCS(0), files.Cur)
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, _ := strings.Cut(s.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
