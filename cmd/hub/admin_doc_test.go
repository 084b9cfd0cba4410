package main

import (
	"bufio"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// TestAdminDocument plays the exchanges of docs/admin.md against hubs.
func TestAdminDocument(t *testing.T) { playDocument(t, "docs/admin.md", 13) }

// exchange is a request to the admin address and its answer, as far as it has been read.
type exchange struct {
	request  *http.Request
	body     []string // lines, until it is sent
	response *http.Response
	lines    *bufio.Scanner // of the answer
}

var (
	requestLine = regexp.MustCompile(`^(GET|POST|PUT|DELETE) (/\S*)$`)
	headerLine  = regexp.MustCompile(`^([A-Z][A-Za-z-]+): (.*)$`)
	statusLine  = regexp.MustCompile(`^([1-5]\d\d) (\S+)$`)
)

// exchange plays a line of a request or an answer. It reports whether the line is one.
func (c *conversation) exchange(number, line string) bool {
	if m := requestLine.FindStringSubmatch(line); m != nil {
		c.finish(number)
		request, err := http.NewRequestWithContext(c.t.Context(), m[1], c.admin+m[2], nil)
		require.NoError(c.t, err)
		c.exchanges[number] = &exchange{request: request}
		return true
	}
	x := c.exchanges[number]
	if x == nil || strings.ContainsRune("$><!", rune(line[0])) {
		return false
	}
	header := headerLine.FindStringSubmatch(line)
	status := statusLine.FindStringSubmatch(line)
	switch {
	case x.response == nil && status != nil:
		x.send(c.t)
		require.Equal(c.t, status[1], strconv.Itoa(x.response.StatusCode))
		require.Equal(c.t, status[2], x.response.Header.Get("Content-Type"))
	case x.response == nil && header != nil:
		x.request.Header.Set(header[1], header[2])
	case x.response == nil:
		x.body = append(x.body, line)
	case header != nil:
		require.Equal(c.t, header[2], x.response.Header.Get(header[1]))
	case line == "end":
		x.requireEnd(c.t)
	default:
		require.True(c.t, x.scan(), "the answer has ended: %v", x.lines.Err())
		c.match(line, x.lines.Text())
	}
	return true
}

func (x *exchange) send(t *testing.T) {
	request := x.request
	if len(x.body) > 0 {
		body, err := http.NewRequestWithContext(t.Context(), request.Method, request.URL.String(), strings.NewReader(strings.Join(x.body, "\n")))
		require.NoError(t, err)
		body.Header = request.Header
		request = body
	}
	var err error
	x.response, err = http.DefaultClient.Do(request)
	require.NoError(t, err)
	x.lines = bufio.NewScanner(x.response.Body)
}

// scan goes on to the next line with something in it.
func (x *exchange) scan() bool {
	for x.lines.Scan() {
		if x.lines.Text() != "" {
			return true
		}
	}
	return false
}

func (x *exchange) requireEnd(t *testing.T) {
	require.False(t, x.scan(), "the answer goes on: %s", x.lines.Text())
	require.NoError(t, x.lines.Err())
}

// finish ends an exchange. What is no stream has been shown whole.
func (c *conversation) finish(number string) {
	x := c.exchanges[number]
	if x == nil {
		return
	}
	require.NotNil(c.t, x.response, "a request without an answer")
	if x.response.Header.Get("Content-Type") == "application/json" {
		x.requireEnd(c.t)
	}
	require.NoError(c.t, x.response.Body.Close())
	delete(c.exchanges, number)
}

// TestAdminDocumentIsComplete holds its codes, endpoints and members against the source.
func TestAdminDocumentIsComplete(t *testing.T) {
	text, err := os.ReadFile("../../docs/admin.md")
	require.NoError(t, err)
	page := string(text)

	shown := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\d{3}) \\|").FindAllStringSubmatch(page, -1) {
		shown[m[1]] = m[2]
	}
	require.Equal(t, codesOfTheSource(t), shown)

	routes, err := os.ReadFile("../../admin/routes.go")
	require.NoError(t, err)
	paths := regexp.MustCompile(`mux\.Handle\("([^"]+)", methods\{(.*)\}\)`).FindAllStringSubmatch(string(routes), -1)
	require.Len(t, paths, 11)
	for _, path := range paths {
		for _, method := range regexp.MustCompile(`"([A-Z]+)":`).FindAllStringSubmatch(path[2], -1) {
			require.Contains(t, page, "`"+method[1]+" "+strings.TrimSuffix(path[1], "{$}")+"`")
		}
	}

	for _, v := range []any{fanout.Record{}, fanout.SpokeInfo{}, fanout.Kernel{}, fanout.EngineInfo{}, fanout.HubInfo{}} {
		for f := range reflect.TypeOf(v).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			require.NotEmpty(t, name)
			require.Contains(t, page, "`"+name+"`", "%T", v)
		}
	}
}

// codesOfTheSource returns the codes that package admin answers with, and the status of each.
func codesOfTheSource(t *testing.T) map[string]string {
	statuses := make(map[string]string)
	for code := 400; code < 600; code++ {
		statuses["Status"+strings.ReplaceAll(http.StatusText(code), " ", "")] = strconv.Itoa(code)
	}
	named := make(map[string]string) // of package codec
	control, err := os.ReadFile("../../codec/control.go")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^\t(Code\w+) += "(\w+)"`).FindAllStringSubmatch(string(control), -1) {
		named[m[1]] = m[2]
	}
	codes := make(map[string]string)
	note := func(status, code ast.Expr) {
		name := ""
		switch e := code.(type) {
		case *ast.BasicLit:
			name, err = strconv.Unquote(e.Value)
			require.NoError(t, err)
		case *ast.SelectorExpr:
			name = named[e.Sel.Name]
		}
		require.NotEmpty(t, name, "a code that is neither a text nor one of package codec")
		if s, ok := status.(*ast.SelectorExpr); ok {
			require.Contains(t, statuses, s.Sel.Name)
			require.Contains(t, []string{"", statuses[s.Sel.Name]}, codes[name], "%s has two statuses", name)
			codes[name] = statuses[s.Sel.Name]
		}
	}
	files, err := filepath.Glob("../../admin/*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		var of ast.Expr // the status of the problem that was made last
		ast.Inspect(f, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.CallExpr:
				if name, ok := n.Fun.(*ast.Ident); ok && name.Name == "newProblem" {
					of = n.Args[0]
					note(of, n.Args[1])
				}
			case *ast.AssignStmt:
				if len(n.Lhs) != len(n.Rhs) {
					break
				}
				status := of
				for i, left := range n.Lhs {
					switch s, _ := left.(*ast.SelectorExpr); {
					case s == nil:
					case s.Sel.Name == "status":
						status = n.Rhs[i]
					case s.Sel.Name == "Code":
						note(status, n.Rhs[i])
					}
				}
			}
			return true
		})
	}
	return codes
}
