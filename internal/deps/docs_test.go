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
			target, heading, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			_, err := os.Stat(file)
			require.NoError(t, err, "a link of %s", page)
			if heading != "" {
				require.Contains(t, headings(t, file), heading, "a link of %s to %s", page, target)
			}
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

// headings returns what links to the headings of a page end in.
func headings(t *testing.T, page string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(plain, " ", "-"))
	}
	return found
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
