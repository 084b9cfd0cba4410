package bench

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Parent and child share three things: commands and replies, one JSON value each, over the child's
// standard input and output; the progress pipe, on which the child writes how many events are
// complete, eight bytes at a time; and the board, a piece of memory.

// The descriptors that the child inherits.
const (
	progressFD = 3
	boardFD    = 4
)

// stuck is what the child writes on the progress pipe when there will be no more progress.
const stuck = ^uint64(0)

// command is what a child is to do.
type command struct {
	Op string

	// connect
	Address          string
	Clients, Stalled int // both together are connected
	Checked          int // every so manieth client has its frames compared, 0 for none

	// begin
	Frame    []byte // of an event
	NumberAt int    // where the number of the event stands in it
}

// The values of command.Op.
const (
	opConnect    = "connect"    // clients
	opBegin      = "begin"      // clients: count from 0, for frames like this
	opReport     = "report"     // clients: how it went, once everything has arrived
	opDisconnect = "disconnect" // clients
	opMeasure    = "measure"    // hub: look at memory
)

// reply is the answer to a command.
type reply struct {
	Error string
	CPU   time.Duration // of the child until now, user and system

	// connect and report
	Elapsed       time.Duration // connect: from the first to the last
	P50, P99, Max time.Duration // connect: to the welcome; report: publication to delivery
	Deliveries    uint64

	// the hub
	Address                  string
	ResidentBytes, HeapBytes int64
	Spokes, Goroutines       int
}

// boardSlots is how many events may be on the board at the same time, a power of two.
const boardSlots = 1 << 13

// board is memory that both processes see.
type board struct {
	published atomic.Uint64            // how many events
	at        [boardSlots]atomic.Int64 // when, by number, on the clock of now
}

func (b *board) slot(event uint64) *atomic.Int64 { return &b.at[event%boardSlots] }

func mapBoard(f *os.File) (*board, error) {
	const size = int(unsafe.Sizeof(board{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, os.NewSyscallError("ftruncate", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return (*board)(unsafe.Pointer(&mem[0])), nil
}

func (b *board) unmap() {
	_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(b)), unsafe.Sizeof(*b)))
}

// clockBase ties Go's clock, which is read without a system call, to the one that processes share.
var clockBase = struct {
	at   time.Time
	mono int64
}{time.Now(), monotonic()}

func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// now returns nanoseconds on a clock that is the same in every process.
func now() int64 { return clockBase.mono + int64(time.Since(clockBase.at)) }

// selfCPU returns the user and system time that this process has used.
func selfCPU() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
