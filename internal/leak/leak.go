// Package leak looks for what the tests of a package leave behind: goroutines and descriptors.
//
//	func TestMain(m *testing.M) { leak.Main(m) }
//
// A test that passes and leaves a goroutine or an open file fails the run, and is named by the stack
// or by what the descriptor refers to.
package leak

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long what is about to end may take to do so.
const patience = 10 * time.Second

// Main runs the tests of a package and exits: with their code, or with 1 if they passed and left
// something behind.
func Main(m *testing.M, options ...goleak.Option) { os.Exit(Run(m, options...)) }

// Run is Main for a package that has something to do before it exits with the code.
func Run(m *testing.M, options ...goleak.Option) (code int) {
	warmUp()
	before := Descriptors()
	if code = m.Run(); code == 0 {
		code = report(before, options)
	}
	return code
}

// report prints what was left behind. It returns the exit code.
func report(before map[string]int, options []goleak.Option) int {
	err := goleak.Find(options...) // waits, but not for long
	for began := time.Now(); err != nil && time.Since(began) < patience; {
		err = goleak.Find(options...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "leak:", err)
		return 1
	}
	if err := AwaitDescriptors(before); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// warmUp opens what the runtime and package net open once and keep: the descriptors of the poller.
func warmUp() {
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = ln.Close()
	}
}

// Descriptors counts the open descriptors of this process by what they refer to: "socket", "pipe",
// "anon_inode:[eventpoll]", or the path of a file. Where there is no /proc it finds none.
func Descriptors() map[string]int {
	const dir = "/proc/self/fd"
	count := make(map[string]int)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return count
	}
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue // the descriptor that the directory was read with
		}
		if kind, _, ok := strings.Cut(target, ":["); ok && kind != "anon_inode" {
			target = kind // without the number of the inode
		}
		count[target]++
	}
	return count
}

// AwaitDescriptors waits until no more descriptors of any kind are open than before. The error says
// which are.
func AwaitDescriptors(before map[string]int) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		var more []string
		for target, n := range Descriptors() {
			if n > before[target] {
				more = append(more, fmt.Sprintf("%s: %d, %d before", target, n, before[target]))
			}
		}
		if len(more) == 0 {
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("leak: descriptors left open: %s", strings.Join(more, "; "))
		}
	}
}
