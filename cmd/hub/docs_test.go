package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bytedance/sonic"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// What the documents show is run, or held against what there is. docs_commands_test.go has commands,
// docs_names_test.go what the text names.

// block is a fenced block of a page.
type block struct{ page, language, text string }

func (b block) kind() string { return b.page + " " + b.language }

// claims says which test runs the blocks of a page in a language: all of them, and it fails on one that it does not know.
var claims = map[string]string{
	"README.md sh":                    "interop/docs_test.go TestReadme",
	"README.md text":                  "interop/docs_test.go TestReadme",
	"README.md go":                    "examples/docs_test.go TestProgramOfTheReadme",
	"README.md ts":                    "clients/typescript/test/readme.test.mjs README.md",
	"README.md html":                  "clients/typescript/test/readme.test.mjs README.md",
	"clients/typescript/README.md ts": "clients/typescript/test/readme.test.mjs README.md",
	"clients/typescript/README.md sh": "clients/typescript/test/package.test.mjs pack",
	"docs/admin.md conversation":      "cmd/hub/admin_doc_test.go TestAdminDocument",
	"docs/backpressure.md text":       "fanout/drawing_test.go TestDrawingOfThePolicies",
	"docs/cluster.md sh":              "cmd/hub/docs_commands_test.go TestCommandsOfTheDocuments",
	"docs/deploy.md sh":               "cmd/hub/docs_commands_test.go TestCommandsOfTheDocuments",
	"docs/getting-started.md sh":      "interop/docs_test.go TestGettingStarted",
	"docs/getting-started.md html":    "interop/docs_test.go TestGettingStarted",
	"docs/getting-started.md text":    "interop/docs_test.go TestGettingStarted",
	"docs/library.md go":              "examples/docs_test.go TestProgramsOfTheLibraryPage",
	"docs/operating.md sh":            "cmd/hub/docs_run_test.go TestOperatingGuide",
	"docs/operating.md text":          "cmd/hub/docs_run_test.go TestOperatingGuide",
	"docs/protocol.md sh":             "cmd/hub/docs_commands_test.go TestCommandsOfTheDocuments",
	"docs/testing.md sh":              "cmd/hub/docs_commands_test.go TestCommandsOfTheDocuments",
	"docs/tokens.md python":           "cmd/hub/docs_run_test.go TestTokenOfTheDocuments",
	"docs/wire.md conversation":       "cmd/hub/wire_test.go TestWireDocument",
	"docs/wire.md json":               "cmd/hub/docs_test.go TestEnvelopesOfTheDocuments",
}

// notRun is what is not run, and why.
var notRun = map[string]string{
	"docs/architecture.md text": "a drawing of what internal/deps holds the imports to",
}

// documents returns the pages by their paths from the top of the project: for those who use the hub, and all.
func documents(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	for _, pattern := range patterns {
		files, err := filepath.Glob("../../" + pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			pages[strings.TrimPrefix(filepath.ToSlash(file), "../../")] = string(text)
		}
	}
	return pages
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocks returns those of the pages, in their order on each.
func blocks(pages map[string]string) (found []block) {
	for page, text := range pages {
		for _, m := range fence.FindAllStringSubmatch(text, -1) {
			found = append(found, block{page, m[1], m[2]})
		}
	}
	slices.SortStableFunc(found, func(a, b block) int { return strings.Compare(a.page, b.page) })
	return found
}

func TestEveryBlockOfTheDocumentsHasItsTest(t *testing.T) {
	pages := documents(t, "README.md", "docs/*.md", "docs/decisions/*.md", "clients/typescript/README.md", "llms.txt")
	used := make(map[string]bool)
	for _, b := range blocks(pages) {
		used[b.kind()] = true
		if notRun[b.kind()] == "" {
			require.Contains(t, claims, b.kind(), "no test runs this block, and nothing says why:\n%s", b.text)
		}
	}
	for page, text := range pages {
		require.Equal(t, 2*len(fence.FindAllString(text, -1)), len(regexp.MustCompile("(?m)^ *```").FindAllString(text, -1)), "%s has a fence that does not match", page)
	}
	for kind := range notRun {
		require.Contains(t, used, kind)
	}
	for kind, test := range claims {
		require.Contains(t, used, kind, "a claim to nothing")
		file, name, _ := strings.Cut(test, " ")
		text, err := os.ReadFile("../../" + file)
		require.NoError(t, err)
		if strings.HasSuffix(file, ".go") {
			name = "func " + name + "(t *testing.T)"
		}
		require.Contains(t, string(text), name)
	}
}

// TestEnvelopesOfTheDocuments: what is shown as JSON is what the hub reads or says.
func TestEnvelopesOfTheDocuments(t *testing.T) {
	for _, b := range blocks(documents(t, "docs/*.md")) {
		if b.language != "json" {
			continue
		}
		for line := range strings.Lines(b.text) {
			if line = strings.TrimSpace(line); !strings.Contains(line, `"type":"__`) {
				_, err := codec.ParseEnvelope([]byte(line))
				require.NoError(t, err)
				continue
			}
			var gap struct{ Payload codec.Gap }
			require.NoError(t, sonic.UnmarshalString(line, &gap))
			said, err := codec.AppendEnvelope(nil, codec.Control(codec.TypeGap, "", gap.Payload))
			require.NoError(t, err)
			require.Equal(t, line, string(said))
		}
	}
}
