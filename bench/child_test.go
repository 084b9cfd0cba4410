package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// child is a process of this test binary in another role. It ends when its standard input does.
type child struct {
	cmd     *exec.Cmd
	in      io.Closer
	ask     *json.Encoder
	answers *json.Decoder
}

// startChild starts the role, with files as its descriptors from 3 on. The child ends with b, or
// before that with stop.
func startChild(b testing.TB, r string, files ...*os.File) *child {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+r, coreOfClients+"="+strconv.Itoa(lastCore()))
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = files
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	c := &child{cmd: cmd, in: in, ask: json.NewEncoder(in), answers: json.NewDecoder(out)}
	b.Cleanup(c.stop)
	return c
}

// do sends a command and waits for the reply.
func (c *child) do(cmd command) (reply, error) {
	var r reply
	if err := c.ask.Encode(cmd); err != nil {
		return r, err
	}
	if err := c.answers.Decode(&r); err != nil {
		return r, fmt.Errorf("the child has ended: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// stop ends the child. Later calls do nothing.
func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}
