package deps

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/alkdev/hub/"

// allowed lists the imports within the module: codec <- fanout <- loop <- cmd/hub, admin, auth
// and cluster beside loop, client and loadgen on codec alone. Packages below internal may be imported by all.
var allowed = map[string][]string{
	"codec":   {},
	"fanout":  {"codec"},
	"loop":    {"codec", "fanout"},
	"admin":   {"codec", "fanout"},
	"auth":    {"codec", "fanout"},
	"client":  {"codec"},
	"loadgen": {"codec"},
	"bench":   {"codec", "fanout", "loop", "admin"},
	"cmd/hub": {"codec", "fanout", "loop", "admin", "auth", "client", "loadgen", "cluster", "cluster/embedded"},

	"cluster":            {"codec", "fanout"},
	"cluster/embedded":   {"cluster"},
	"cluster/enginetest": {"cluster", "codec", "fanout"}, // for tests
}

func TestImportsPointDownwardsOnly(t *testing.T) {
	seen := map[string]bool{}
	eachImport(t, func(file, pkg, path string) {
		target, ours := strings.CutPrefix(path, module)
		if !ours || strings.HasSuffix(file, "_test.go") || strings.HasPrefix(target, "internal/") {
			return
		}
		seen[pkg] = true
		if strings.HasPrefix(pkg, "internal/") {
			t.Errorf("%s imports %s: what is internal imports nothing of ours", file, target)
			return
		}
		require.Contains(t, allowed, pkg, "a new package needs its line above")
		if !slices.Contains(allowed[pkg], target) {
			t.Errorf("%s: package %s must not import %s", file, pkg, target)
		}
	})
	require.NotEmpty(t, seen)
}

func TestOnlyTheFilesOfThatNameKnowNbio(t *testing.T) {
	found := false
	eachImport(t, func(file, pkg, path string) {
		if !strings.HasPrefix(path, "github.com/lesismal/nbio") {
			return
		}
		found = true
		if base := filepath.Base(file); pkg != "loop" || !strings.HasPrefix(base, "nbio") {
			t.Errorf("%s imports %s", file, path)
		}
	})
	require.True(t, found)
}

// eachImport calls fn for every import of every Go file of the module.
func eachImport(t *testing.T, fn func(file, pkg, path string)) {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != root && (strings.HasPrefix(base, ".") || base == "node_modules" || base == "testdata") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && name != root {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		file, _ := filepath.Rel(root, name)
		for _, imp := range f.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			fn(file, filepath.ToSlash(filepath.Dir(file)), path)
		}
		return nil
	})
	require.NoError(t, err)
}
