// Command hub is a WebSocket broadcast hub: hub serve runs it, hub publish sends events to one, hub
// tail shows what a spoke receives, hub bench puts one under load.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alkdev/hub/codec"
)

const synopsis = `hub: a WebSocket broadcast hub.

  hub serve        run the hub; also what hub does without a subcommand
  hub publish      send events to a hub, from arguments, a file or standard input
  hub tail         show what a spoke receives
  hub bench        put a hub under load and report how it does
  hub token        make a token for a spoke, to try things out
  hub config       show the flags that hub serve would run with, and where each comes from
  hub doctor       look whether this machine can carry the hub that the flags describe
  hub healthcheck  ask a hub on this machine how it is, for containers
  hub version      show the version, as hub --version does

hub SUBCOMMAND --help shows the flags.
`

// The exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if len(args) > 0 && (args[0] == "--help" || args[0] == "-h" || args[0] == "-help") {
		name = "help"
	} else if len(args) > 0 && (args[0] == "--version" || args[0] == "-version") {
		name, args = "version", args[1:]
	}
	command, ok := map[string]func(context.Context, []string) error{
		"serve": serve, "publish": publish, "tail": tail, "bench": bench, "token": token,
		"config": showConfig, "doctor": doctor, "healthcheck": healthcheck, "version": version, "help": help,
	}[name]
	if !ok {
		complain("hub: there is no subcommand %q\n\n%s", name, synopsis)
		return exitUsage
	}
	// The first signal ends a command in order, the second at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := command(ctx, args)
	var mistake *usageError
	switch {
	case err == nil, errors.Is(err, errHelp):
		return exitOK
	case errors.As(err, &mistake):
		complain("hub %s: %s\nhub %s --help shows what is possible\n", name, codec.Problem(err), name)
		return exitUsage
	}
	complain("hub %s: %s\n", name, codec.Problem(err))
	return exitError
}

// complain says on standard error why the program ends. It waits no longer than logFlush: a pipe that is full
// and that nobody reads must not keep a hub that has failed from being started anew.
func complain(format string, args ...any) {
	said := make(chan struct{})
	go func() { // ends with the program at the latest
		defer close(said)
		fmt.Fprintf(os.Stderr, format, args...)
	}()
	select {
	case <-said:
	case <-time.After(logFlush):
	}
}

// usageError is a mistake in the command line or the environment.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func help(context.Context, []string) error {
	fmt.Print(synopsis)
	return nil
}

// parseFlags parses args and makes mistakes usage errors.
func parseFlags(f *flags, args []string, maxArgs int) ([]string, error) {
	rest, err := f.parse(args)
	if errors.Is(err, errHelp) {
		return nil, err
	}
	if len(rest) > maxArgs {
		f.problem("%q: not expected here", rest[maxArgs])
		err = f.result()
	}
	if err != nil {
		return nil, &usageError{err}
	}
	return rest, nil
}
