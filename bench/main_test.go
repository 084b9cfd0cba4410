package bench

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/internal/leak"
	"github.com/alkdev/hub/loop"
)

// role is the environment variable that makes the test binary a child process.
const (
	role        = "HUB_BENCH_ROLE"
	roleClients = "clients"
	roleHub     = "hub"
)

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case roleClients:
		exit(clientsMain())
	case roleHub:
		exit(hubMain())
	}
	flag.Parse()
	if f := flag.Lookup("test.bench"); f != nil && f.Value.String() != "" {
		fmt.Println("machine:", machine())
	}
	leak.Main(m)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(role)+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// machine describes what the numbers depend on, in one line.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return fmt.Sprintf("%s, %s %s, %s, %d cores, GOMAXPROCS %d, ulimit -n %d",
		runtime.Version(), unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]),
		cpuModel(), runtime.NumCPU(), runtime.GOMAXPROCS(0), loop.DescriptorLimit())
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
