package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// saidBy returns what f writes to standard error.
func saidBy(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	before := os.Stderr
	os.Stderr = w
	said := make(chan string, 1)
	go func() { b, _ := io.ReadAll(r); said <- string(b) }()
	func() {
		defer func() { os.Stderr = before }()
		f()
	}()
	require.NoError(t, w.Close())
	defer r.Close()
	return <-said
}

func TestPublishingToAPatternIsWarnedOf(t *testing.T) {
	_, admin, _ := startHub(t)
	for topic, warned := range map[string]bool{"tick:*": true, "tick:42": false, "tick": false, "tick:a*": false} {
		said := saidBy(t, func() {
			require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", topic, "1"}))
		})
		require.Equal(t, warned, strings.Contains(said, "warning"), "%s: %s", topic, said)
	}
}

// runProcess runs a command in a process of its own, and returns what it says and whether it goes well.
func runProcess(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+strings.Join(args, " "))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Whoever reads standard error sees why a tail has ended, once.
func TestTailSaysOnceWhyItEnds(t *testing.T) {
	spokes, _, _ := startHub(t, "--auth-jwt-key="+strings.Repeat("k", 32))
	for address, why := range map[string]string{"ws://127.0.0.1:1/ws": "nothing listens at ws://127.0.0.1:1: is the hub running, and is this its --url address? (connection refused)", spokes: "401 Unauthorized"} {
		said, err := runProcess(t, "tail", "--once", "--url", address)
		require.Error(t, err)
		require.Contains(t, said, why)
		require.Equal(t, 1, strings.Count(said, "\n"), said)
	}
}

func TestVersionIsShownEitherWay(t *testing.T) {
	want, err := runProcess(t, "version")
	require.NoError(t, err)
	got, err := runProcess(t, "--version")
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Contains(t, got, versionText())
}
