package fleet

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// floor is everything in the floor's process.
type floor struct {
	accepting acceptor
	board     *board
	numbers   [64 * 8]byte // of the progress pipe

	window     *Window
	load       Load
	joined     []byte // one window of frames
	frameBytes int
	gathered   int // how many of them are to be written
	written    uint64
}

func floorMain() error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 30)
	if err := unix.SetNonblock(progressFD, false); err != nil {
		return err
	}
	shared, err := mapBoard(os.NewFile(boardFD, "board"))
	if err != nil {
		return err
	}
	l := &floor{board: shared}
	defer func() { l.accepting.close() }()
	var accepted chan error
	return Obey(func(cmd floorCommand) (a floorAnswer, err error) {
		if accepted != nil {
			err = <-accepted
			accepted = nil
		}
		switch {
		case err != nil:
		case cmd.Accept > 0:
			l.accepting.close()
			l.accepting = acceptor{prefix: []byte("GET " + cmd.Prefix)}
			if a.Address, err = l.accepting.listen(); err == nil {
				accepted = make(chan error, 1)
				go func() { accepted <- l.accepting.accept(cmd.Accept, cmd.Groups) }() // the next command waits for it
			}
		case cmd.Load.Window > 0:
			a.Turn, err = l.measure(cmd.Load)
		}
		return a, err
	})
}

// measure publishes a load.
func (l *floor) measure(load Load) (t Turn, err error) {
	l.load, l.gathered, l.frameBytes = load, 0, len(load.Event.Frame)
	l.window = &Window{board: l.board, size: uint64(load.Window), news: l.news}
	frames := load.Window
	switch {
	case load.Burst > 0:
		frames = load.Burst
	case l.atOnce():
		frames = 1
	}
	l.joined = bytes.Repeat(load.Event.Frame, frames)
	written, began, cpu := l.written, now(), SelfCPU()
	err = load.run(l.window, l.publish, l.flush)
	return Turn{
		CPU: SelfCPU() - cpu, Wall: time.Duration(now() - began),
		Events: l.window.published, Writes: l.written - written,
	}, err
}

// atOnce reports whether an event is written as soon as it is published.
func (l *floor) atOnce() bool {
	return l.load.Burst == 0 && (l.load.Every > 0 || l.accepting.groups != nil)
}

// news waits for what the clients say.
func (l *floor) news() (uint64, error) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_READ, progressFD, addressOf(l.numbers[:]), uintptr(len(l.numbers)))
	if errno != 0 {
		return 0, errno
	}
	return lastNumber(l.numbers[:r])
}

func (l *floor) publish(n uint64) error {
	frame := l.joined[l.gathered*l.frameBytes:]
	PutNumber(frame[l.load.Event.NumberAt:], n)
	to := l.accepting.all
	if groups := l.accepting.groups; groups != nil {
		group := n % uint64(len(groups))
		if at := l.load.Event.GroupAt; at > 0 {
			PutNumber(frame[at:], group)
		}
		to = groups[group]
	}
	l.gathered++
	if l.atOnce() || l.window.Full() {
		return l.write(to)
	}
	return nil
}

// flush writes what has gathered for everyone.
func (l *floor) flush() error { return l.write(l.accepting.all) }

func (l *floor) write(to []int32) error {
	b := l.joined[:l.gathered*l.frameBytes]
	l.gathered = 0
	if len(b) == 0 {
		return nil
	}
	writes, err := WriteAll(to, b)
	l.written += writes
	return err
}
