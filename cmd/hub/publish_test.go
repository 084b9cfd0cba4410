package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// Whoever publishes a file knows after a mistake where to go on: all before the line is published, and nothing of the
// rest, whoever finds the mistake.
func TestPublishSaysWhichLineIsWrongAndWhatWasPublishedBefore(t *testing.T) {
	for name, c := range map[string]struct{ input, want, reached string }{
		"no envelope":         {"{\"type\":\"a\"}\n\n{\"type\":\"b\"}\n{\"type\":7}\n{\"type\":\"c\"}\n", "line 4: bad envelope: at byte 8: type must be a string, not a number; events published before: 2, from there on: none", "a b"},
		"first of all":        {"x\n{\"type\":\"c\"}\n", "line 1: bad envelope: ", ""},
		"refused by the hub":  {"{\"type\":\"a\"}\n\n\n{\"type\":\"__b\"}\n{\"type\":\"c\"}\n", "line 4: the hub says 422 Unprocessable Entity: types that begin with __ are reserved for the hub; events published before: 1, from there on: none", "a"},
		"the first is":        {"{\"type\":\"__a\"}\n{\"type\":\"c\"}\n", "line 1: the hub says 422", ""},
		"in a later batch":    {strings.Repeat("{\"type\":\"a\"}\n", batchLines) + "{\"type\":\"__b\"}\n", "line 1001: the hub says 422 Unprocessable Entity: types that begin with __ are reserved for the hub; events published before: 1000, from there on: none", strings.TrimSpace(strings.Repeat("a ", batchLines))},
		"last, not a newline": {"{\"type\":\"a\"}\n{\"type\":\"b\"", "line 2: bad envelope: ", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			spokes, admin, _ := startHub(t)
			out, want := newLines(), strings.Fields(c.reached)
			tailed := make(chan error, 1)
			go func() { tailed <- runTail(t.Context(), spokes, "", nil, len(want)+1, false, out) }()
			connected(t, admin, 1)
			file := filepath.Join(t.TempDir(), "events")
			require.NoError(t, os.WriteFile(file, []byte(c.input), 0o600))
			err := publish(t.Context(), []string{"--admin", admin, "--quiet", "--file", file})
			require.Error(t, err)
			require.Contains(t, codec.Problem(err), c.want)
			require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "end"}))
			require.NoError(t, <-tailed)
			var got []string
			for line := range strings.Lines(out.String()) {
				e, err := codec.ParseEnvelope([]byte(strings.TrimSpace(line)))
				require.NoError(t, err)
				got = append(got, e.Type)
			}
			require.Equal(t, append(want, "end"), got)
		})
	}
}

// Nobody knows what became of a request that was not answered, and the message says so.
func TestPublishDoesNotClaimWhatItDoesNotKnow(t *testing.T) {
	p := publisher{accepted: 3}
	require.ErrorContains(t, p.at("line 4", os.ErrDeadlineExceeded), "published before: 3, from there on: unknown")
	require.ErrorContains(t, p.at("line 4", &refusedError{index: -1}), "published before: 3, from there on: none")
}

func TestPublishingNothingIsSaid(t *testing.T) {
	_, admin, _ := startHub(t)
	out := captured(t, func() error { return publish(t.Context(), []string{"--admin", admin, "--file", os.DevNull}) })
	require.Equal(t, "accepted 0, matched 0\n", out)
}
