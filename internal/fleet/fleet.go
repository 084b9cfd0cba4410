package fleet

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Fleet is a child process full of clients, as its parent sees it.
type Fleet struct {
	*Child
	board    *board
	shared   *os.File // the board
	progress *os.File // read end
	clients  Clients
}

// Launch starts a fleet without connections, on the core that is the clients'. Like everything that
// it holds it ends with b.
func Launch(b testing.TB) *Fleet {
	b.Helper()
	fd, err := unix.MemfdCreate("board", unix.MFD_CLOEXEC)
	require.NoError(b, err)
	mem := os.NewFile(uintptr(fd), "board")
	b.Cleanup(func() { _ = mem.Close() })
	shared, err := mapBoard(mem)
	require.NoError(b, err)
	b.Cleanup(shared.unmap)

	var p [2]int
	require.NoError(b, unix.Pipe2(p[:], unix.O_CLOEXEC))
	require.NoError(b, unix.SetNonblock(p[0], true))
	progress, theirs := os.NewFile(uintptr(p[0]), "progress"), os.NewFile(uintptr(p[1]), "progress")
	defer theirs.Close()
	b.Cleanup(func() { _ = progress.Close() })
	f := &Fleet{Child: Start(b, roleClients, theirs, mem), board: shared, shared: mem, progress: progress}
	JoinClients(f.PID())
	return f
}

// StartPublisher starts a role that publishes to these clients itself, see Inherited.
func (f *Fleet) StartPublisher(b testing.TB, name string) *Child {
	b.Helper()
	return Start(b, name, f.progress, f.shared)
}

// StartPublisherTo is StartPublisher for the clients of several fleets.
func StartPublisherTo(b testing.TB, name string, fleets ...*Fleet) *Child {
	b.Helper()
	var files []*os.File
	for _, f := range fleets {
		files = append(files, f.progress, f.shared)
	}
	return Start(b, name, files...)
}

// Inherited returns the clients that a process which StartPublisher has started publishes to, for
// Source.Run. They obey the parent alone.
func Inherited() (*Fleet, error) { return InheritedFrom(0) }

// InheritedFrom is Inherited for the fleet of that number of StartPublisherTo.
func InheritedFrom(i int) (*Fleet, error) {
	const each = boardFD - progressFD + 1
	shared, err := mapBoard(os.NewFile(uintptr(boardFD+i*each), "board"))
	return &Fleet{board: shared, progress: os.NewFile(uintptr(progressFD+i*each), "progress")}, err
}

// Connect makes these connections instead of those there are, and returns once each of them counts.
func (f *Fleet) Connect(c Clients) (n Count, err error) {
	c.setDefaults()
	if c.Reading < c.Groups {
		return n, errors.New("fleet: there are more groups than clients that read")
	}
	f.clients = c
	return n, f.Ask(command{Op: opConnect, Connect: c}, &n)
}

// Disconnect resets every connection.
func (f *Fleet) Disconnect() (n Count, err error) {
	return n, f.Ask(command{Op: opDisconnect}, &n)
}

// Begin makes the fleet count from 0, for events like ev. Nothing may be under way.
func (f *Fleet) Begin(ev Event) (n Count, err error) {
	f.board.published.Store(0)
	return n, f.Ask(command{Op: opBegin, Event: ev}, &n)
}

// Report says how it went since Begin. It is an error if a client has not got exactly what was
// published. Everything published must have been waited for.
func (f *Fleet) Report() (n Count, err error) { return n, f.Ask(command{Op: opReport}, &n) }

// TakersOf returns how many deliveries so many events are.
func (f *Fleet) TakersOf(events uint64) uint64 {
	readers, groups := uint64(f.clients.Reading), uint64(f.clients.Groups)
	if groups == 0 {
		return events * readers
	}
	takers := events / groups * readers
	for g := range events % groups {
		takers += (readers + groups - 1 - g) / groups
	}
	return takers
}

// Window returns a window for the next events after Begin.
func (f *Fleet) Window(size int) *Window {
	return &Window{board: f.board, size: uint64(size), news: func() (uint64, error) {
		var numbers [64 * 8]byte
		n, err := f.progress.Read(numbers[:])
		if err != nil {
			return 0, err
		}
		return lastNumber(numbers[:n])
	}}
}

var (
	errStuck = errors.New("an event has not arrived everywhere for too long, or a client has lost its connection")
	errGone  = errors.New("the fleet is gone")
)

// lastNumber returns how many events are complete, of what was read from the progress pipe. Numbers
// are written in one piece each, so they are read in one piece.
func lastNumber(b []byte) (uint64, error) {
	if len(b) < 8 {
		return 0, errGone
	}
	completed := binary.NativeEndian.Uint64(b[len(b)-8:])
	if completed == stuck {
		return 0, errStuck
	}
	return completed, nil
}
