package fleet

import (
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Parent and children share three things: questions and answers, one JSON value each, over the
// child's standard input and output; the progress pipe, on which the clients write how many events
// are complete, eight bytes at a time; and the board, a piece of memory. Who publishes, the parent or
// the floor, writes to the board and reads the pipe.

// The descriptors that a child inherits.
const (
	progressFD = 3
	boardFD    = 4
)

// stuck is what the clients write on the progress pipe when there will be no more progress.
const stuck = ^uint64(0)

// boardSlots is how many events may be on the board at the same time, a power of two.
const boardSlots = 1 << 13

// MaxWindow is the largest window.
const MaxWindow = boardSlots - 1

// board is memory that the processes share.
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
