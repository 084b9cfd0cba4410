package examples

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestProgramsOfTheLibraryPage looks that what docs/library.md shows stands so in the file that it names.
func TestProgramsOfTheLibraryPage(t *testing.T) {
	page := read(t, "../docs/library.md")
	blocks := regexp.MustCompile("(?ms)^<!-- (\\S+) -->\n```go\n(.*?)^```").FindAllStringSubmatch(page, -1)
	if all := strings.Count(page, "```go\n"); len(blocks) != all || all == 0 {
		t.Fatalf("%d of %d programs name their file", len(blocks), all)
	}
	for _, block := range blocks {
		source := strings.ReplaceAll(read(t, filepath.Join("..", block[1])), "\n\t", "\n")
		if !strings.Contains(source, block[2]) {
			t.Errorf("%s does not have:\n%s", block[1], block[2])
		}
	}
}

// TestProgramOfTheReadme compiles it.
func TestProgramOfTheReadme(t *testing.T) {
	page := read(t, "../README.md")
	block := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(page, -1)
	if len(block) != 1 {
		t.Fatalf("%d programs, this is about one", len(block))
	}
	source := fmt.Sprintf(`package main
import (
	"context"
	"log"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)
func main() {
	ctx := context.Background()
	%s
	_, _ = receipt, err
}
`, block[0][1])
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", os.DevNull, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, source)
	}
}

func read(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
