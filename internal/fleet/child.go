package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Child is a process, as a rule of this binary in another role. It ends when its standard input does.
type Child struct {
	cmd     *exec.Cmd
	in      io.Closer
	ask     *json.Encoder
	answers *json.Decoder
}

// Start starts the role, with files as its descriptors from 3 on. The child ends with b, or before
// that with Stop.
func Start(b testing.TB, name string, files ...*os.File) *Child {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+name)
	return StartCommand(b, cmd, files...)
}

// StartCommand is Start for another program, which does what Obey does.
func StartCommand(b testing.TB, cmd *exec.Cmd, files ...*os.File) *Child {
	b.Helper()
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = files
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	c := &Child{cmd: cmd, in: in, ask: json.NewEncoder(in), answers: json.NewDecoder(out)}
	b.Cleanup(c.Stop)
	return c
}

// reply is what a child answers.
type reply[A any] struct {
	Error  string
	Answer A
}

func newReply[A any](a A, err error) reply[A] {
	r := reply[A]{Answer: a}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// Ask sends a question to the role's Obey and waits for the answer, which may be nil if it does not
// matter.
func (c *Child) Ask(question, answer any) error {
	if err := c.ask.Encode(question); err != nil {
		return err
	}
	r := reply[any]{Answer: answer}
	if err := c.answers.Decode(&r); err != nil {
		return fmt.Errorf("the child has ended: %w", err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

// PID returns the number of the process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// CPU returns the user and system time that the child has used.
func (c *Child) CPU() time.Duration { return CPUOf(c.PID()) }

// Stop ends the child. Later calls do nothing.
func (c *Child) Stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// pause stops the child's process, and returns when it stands still.
func (c *Child) pause() {
	_ = unix.Kill(c.PID(), unix.SIGSTOP)
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.PID()))
		if _, state, _ := strings.Cut(string(b), ") "); err != nil || strings.HasPrefix(state, "T") {
			return
		}
		runtime.Gosched()
	}
}

// resume lets it go on.
func (c *Child) resume() { _ = unix.Kill(c.PID(), unix.SIGCONT) }
