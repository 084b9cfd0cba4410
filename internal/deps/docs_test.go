package deps

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLinksBetweenDocumentsLeadSomewhere, and llms.txt and README.md lead to every document.
func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	const root = "../.."
	pages, err := filepath.Glob(root + "/docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	decisions, err := filepath.Glob(root + "/docs/decisions/*.md")
	require.NoError(t, err)
	top := []string{root + "/README.md", root + "/llms.txt"}
	for _, page := range append(append(top, pages...), decisions...) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(text), -1) {
			target, _, _ := strings.Cut(link[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(page), target))
			require.NoError(t, err, "a link of %s", page)
		}
	}
	for _, page := range top {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, p := range pages {
			require.Contains(t, string(text), "docs/"+filepath.Base(p), page)
		}
	}
}

// TestDecisionsHaveNumbersOfTheirOwn, one after another, for code and pages name them by these.
func TestDecisionsHaveNumbersOfTheirOwn(t *testing.T) {
	decisions, err := filepath.Glob("../../docs/decisions/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, decisions)
	for i, d := range decisions { // sorted
		require.Truef(t, strings.HasPrefix(filepath.Base(d), fmt.Sprintf("%04d-", i+1)), "%s is number %d", d, i+1)
	}
}
