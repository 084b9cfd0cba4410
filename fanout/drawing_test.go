package fanout

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestDrawingOfThePolicies does what docs/backpressure.md draws.
func TestDrawingOfThePolicies(t *testing.T) {
	text, err := os.ReadFile("../docs/backpressure.md")
	require.NoError(t, err)
	lines := regexp.MustCompile("(?s)```text\npublished +(.*?)\n[ |]+from.*?\n\n(.*?)\n```").FindSubmatch(text)
	require.NotNil(t, lines)
	for line := range strings.Lines(string(lines[2])) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy, err := ParsePolicy(name)
				require.NoError(t, err)
				h := newHub(t, Config{Policy: policy, Limits: Limits{SpokeBytes: 400}})
				_, k := stall(t, h)
				events := strings.Fields(string(lines[1]))
				for n, event := range events {
					dispatch(t, h, sized(t, event[:1]+":x", n+1, 100))
				}
				h.Flush()
				k.resume()
				synctest.Wait()
				require.Equal(t, strings.Join(strings.Fields(want), " "), drawn(t, k, events))
			})
		})
	}
}

// drawn is what the kernel took, as the document has it.
func drawn(t *testing.T, k *scriptSink, events []string) string {
	if k.cause.Code != 0 {
		return fmt.Sprintf("close %d %q", k.cause.Code, regexp.MustCompile(`=[^ ]+`).ReplaceAllString(k.cause.Reason, "=..."))
	}
	got := regexp.MustCompile(`\w+#(\d)`).ReplaceAllStringFunc(arrived(t, k), func(s string) string {
		return events[s[len(s)-1]-'1']
	})
	got = regexp.MustCompile(`gap (\d+) 0`).ReplaceAllString(got, "gap(dropped $1)")
	return regexp.MustCompile(`gap 0 (\d+)`).ReplaceAllString(got, "gap(conflated $1)")
}
