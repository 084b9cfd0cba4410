package bench

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// fleet is a child process full of clients, as its parent sees it.
type fleet struct {
	*child
	board    *board
	progress *os.File // read end
	blocking bool     // progress is read with read(2), not through Go's poller
	clients  int      // those that read
	numbers  [64 * 8]byte
}

// launch starts a fleet without connections. Like everything that it holds it ends with b. A
// blocking fleet is for a thread that has nothing else to do than to wait for it.
func launch(b testing.TB, blocking bool) *fleet {
	b.Helper()
	fd, err := unix.MemfdCreate("board", unix.MFD_CLOEXEC)
	require.NoError(b, err)
	mem := os.NewFile(uintptr(fd), "board")
	defer mem.Close()
	shared, err := mapBoard(mem)
	require.NoError(b, err)
	b.Cleanup(shared.unmap)

	var p [2]int
	require.NoError(b, unix.Pipe2(p[:], unix.O_CLOEXEC))
	require.NoError(b, unix.SetNonblock(p[0], !blocking))
	progress, theirs := os.NewFile(uintptr(p[0]), "progress"), os.NewFile(uintptr(p[1]), "progress")
	defer theirs.Close()
	b.Cleanup(func() { _ = progress.Close() })
	return &fleet{
		child: startChild(b, roleClients, theirs, mem),
		board: shared, progress: progress, blocking: blocking,
	}
}

// connect opens connections and returns once each has its welcome. The stalled ones, spread among
// the others, then read no more.
func (f *fleet) connect(address string, clients, stalled, checked int) (reply, error) {
	f.clients = clients
	return f.do(command{Op: opConnect, Address: address, Clients: clients, Stalled: stalled, Checked: checked})
}

// begin makes the fleet count from 0, for frames of ev. Nothing may be under way.
func (f *fleet) begin(ev *event) (reply, error) {
	f.board.published.Store(0)
	return f.do(command{Op: opBegin, Frame: ev.frame, NumberAt: ev.numberAt})
}

// report says how it went since begin. Everything published must have been waited for.
func (f *fleet) report() (reply, error) { return f.do(command{Op: opReport}) }

// disconnect resets every connection.
func (f *fleet) disconnect() error {
	_, err := f.do(command{Op: opDisconnect})
	return err
}

var errStuck = errors.New("an event has not arrived everywhere for too long, or a client has lost its connection")

// waitProgress returns, once there is news, how many events are complete.
func (f *fleet) waitProgress() (uint64, error) {
	var n int
	var err error
	if f.blocking {
		r, _, errno := syscall.RawSyscall(syscall.SYS_READ, f.progress.Fd(), addressOf(f.numbers[:]), uintptr(len(f.numbers)))
		if n = int(r); errno != 0 {
			return 0, errno
		}
	} else if n, err = f.progress.Read(f.numbers[:]); err != nil {
		return 0, err
	}
	if n < 8 {
		return 0, errors.New("the fleet is gone")
	}
	// Numbers are written in one piece each, so they are read in one piece.
	completed := binary.NativeEndian.Uint64(f.numbers[n-8:])
	if completed == stuck {
		return 0, errStuck
	}
	return completed, nil
}
