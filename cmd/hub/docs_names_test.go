package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bytedance/sonic"
	"github.com/stretchr/testify/require"
)

// TestWhatTheDocumentsNameExists: flags and their twins, metrics and their labels, endpoints, alerts, settings of the unit,
// files, tests, and what packages declare.
func TestWhatTheDocumentsNameExists(t *testing.T) {
	n := newNames(t)
	for page, text := range documents(t, "README.md", "docs/*.md") {
		for _, span := range spans(text) {
			require.NoError(t, n.check(span), page)
		}
	}
	for what, least := range map[string]int{
		"flag": 300, "variable": 6, "metric": 60, "endpoint": 25, "alert": 20, "setting": 4, "file": 15, "test": 40, "declaration": 60, "JSON": 6,
	} {
		require.GreaterOrEqual(t, n.seen[what], least, what)
	}
	for _, wrong := range []string{
		"--no-such", "--slow-for tick=conflate --nothing", "HUB_NO_SUCH=1", "hub_no_such_total", `hub_limit{limit="no_such"}`, "hub_spokes / hub_nothing",
		"GET /v1/nothing", "PUT /v1/events", "/v1/no", "HubIsBored", "TimeoutStopSec=1", "fanout/nothing.go", "fanout.TestNothing", "TestNothingAtAll", "fanout.Nothing",
		"loop.Config.Nothing", `{"type":"tick",}`,
	} {
		require.Error(t, n.check(wrong), wrong)
	}
}

// names is what there is to be named.
type names struct {
	t            *testing.T
	flags        map[string]bool
	metrics      func(expr string) error
	admin        string
	alerts, unit string
	tests        map[string]bool // of all packages
	packages     map[string]map[string]bool
	seen         map[string]int
}

func newNames(t *testing.T) *names {
	n := &names{t: t, flags: map[string]bool{}, tests: map[string]bool{}, packages: map[string]map[string]bool{}, seen: map[string]int{}}
	for _, command := range []string{"serve", "publish", "tail", "bench", "token", "config", "doctor", "healthcheck"} {
		for name := range flagsOf(command) {
			n.flags[name] = true
		}
	}
	families := served(t)
	n.metrics = func(expr string) error { return checkExpression(families, expr) }
	_, n.admin, _ = startHub(t, "--pprof")
	for file, into := range map[string]*string{"alerts.yaml": &n.alerts, "hub@.service": &n.unit} {
		text, err := os.ReadFile("../../deploy/" + file)
		require.NoError(t, err)
		*into = string(text)
	}
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if base := d.Name(); base == "node_modules" || strings.HasPrefix(base, ".") && base != ".." || base == "testdata" {
			return filepath.SkipDir
		}
		dir := strings.TrimPrefix(strings.TrimPrefix(filepath.ToSlash(path), "../.."), "/")
		declared, err := declarations(dir)
		if err != nil {
			return nil // no package
		}
		n.packages[dir] = declared
		for name := range declared {
			if isTest.MatchString(name) {
				n.tests[name] = true
			}
		}
		return nil
	}))
	return n
}

var isTest = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w*$`)

// Flags of other programs, which stand in the same form.
var strangers = map[string]bool{"stop-timeout": true, "ulimit": true}

// check returns an error about a name of nothing.
func (n *names) check(span string) error {
	for _, m := range regexp.MustCompile(`(?:^|\s)--([a-z][a-z0-9-]*[a-z0-9])(?:[\s=]|$)`).FindAllStringSubmatch(span, -1) {
		n.seen["flag"]++
		if !n.flags[m[1]] && !strangers[m[1]] {
			return fmt.Errorf("there is no flag --%s", m[1])
		}
	}
	if m := regexp.MustCompile(`^(HUB_[A-Z_]+[A-Z])(=|$)`).FindStringSubmatch(span); m != nil && m[1] != "HUB_VERIFY" { // which is the tests'
		n.seen["variable"]++
		if !n.flags[flagName(m[1])] {
			return fmt.Errorf("%s is no flag's twin", m[1])
		}
	}
	if regexp.MustCompile(`^(hub|process|go)_[a-z]`).MatchString(span) {
		n.seen["metric"]++
		return n.metrics(span)
	}
	if m := regexp.MustCompile(`^(?:([A-Z]+) )?(/(?:v1/|metrics|livez|readyz|debug)\S*)$`).FindStringSubmatch(span); m != nil {
		n.seen["endpoint"]++
		return n.ask(m[1], m[2])
	}
	if regexp.MustCompile(`^Hubs?[A-Z][a-z]\w+$`).MatchString(span) {
		n.seen["alert"]++
		return has(n.alerts, "- alert: "+span+"\n", span)
	}
	if regexp.MustCompile(`^(Type|WatchdogSec|TimeoutStopSec)=|^(LimitNOFILE|TimeoutStopSec)$`).MatchString(span) {
		n.seen["setting"]++
		return has(n.unit, "\n"+span, span)
	}
	if regexp.MustCompile(`^[\w@.-]+(/[\w@*.-]+)+\.(go|mjs|yaml|json|md|conf|env|service)$`).MatchString(span) {
		n.seen["file"]++
		if files, _ := filepath.Glob("../../" + span); len(files) == 0 && !strings.HasPrefix(span, "docs/plots/") { // which are made
			return fmt.Errorf("there is no file %s", span)
		}
		return nil
	}
	if isTest.MatchString(span) {
		n.seen["test"]++
		if !n.tests[span] {
			return fmt.Errorf("there is no %s", span)
		}
	}
	if strings.HasPrefix(span, `{"`) && strings.Contains(span, `":`) && !strings.Contains(span, "...") {
		n.seen["JSON"]++
		var any any
		return sonic.UnmarshalString(span, &any)
	}
	return n.checkDeclared(span)
}

func has(text, part, name string) error {
	if !strings.Contains(text, part) {
		return fmt.Errorf("there is no %s", name)
	}
	return nil
}

// ask looks whether the hub has an endpoint.
func (n *names) ask(method, target string) error {
	ctx, cancel := context.WithCancel(n.t.Context()) // some go on for ever
	defer cancel()
	target = regexp.MustCompile(`\|[^&]*`).ReplaceAllString(target, "")
	target = strings.NewReplacer("{id}", "0000", "limit=n", "limit=3", "topic=...", "topic=a:b").Replace(target)
	if method == "" {
		method = "GET"
	}
	req, err := http.NewRequestWithContext(ctx, method, n.admin+target, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusMethodNotAllowed || strings.Contains(string(body), `"not_found"`) || resp.StatusCode == http.StatusBadRequest && method == "GET" {
		return fmt.Errorf("%s %s: %s %s", method, target, resp.Status, body)
	}
	return nil
}

// checkDeclared looks for names like loop.Config.TLS in the packages.
func (n *names) checkDeclared(span string) error {
	for _, m := range regexp.MustCompile(`(?:^|[^\w./-])((?:[a-z]+/)?[a-z]+)\.([A-Za-z]\w*)(?:\.([A-Za-z]\w*))?`).FindAllStringSubmatch(span, -1) {
		declared := n.packages[m[1]]
		if declared == nil {
			continue
		}
		for _, name := range m[2:] {
			if name == "" {
				continue
			}
			n.seen["declaration"]++
			if isTest.MatchString(name) {
				n.seen["test"]++
			}
			if !declared[name] {
				return fmt.Errorf("%s declares no %s", m[1], name)
			}
		}
	}
	return nil
}

// declarations returns the names that a package in a directory below the top of the project declares, its tests' and those
// of fields and methods as well.
func declarations(dir string) (map[string]bool, error) {
	files, err := filepath.Glob("../../" + dir + "/*.go")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("there is no package in %q", dir)
	}
	names := make(map[string]bool)
	for _, file := range files {
		f, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(f, func(node ast.Node) bool {
			switch d := node.(type) {
			case *ast.FuncDecl:
				names[d.Name.Name] = true
			case *ast.TypeSpec:
				names[d.Name.Name] = true
			case *ast.ValueSpec:
				for _, name := range d.Names {
					names[name.Name] = true
				}
			case *ast.Field:
				for _, name := range d.Names {
					names[name.Name] = true
				}
			}
			return true
		})
	}
	return names, nil
}
