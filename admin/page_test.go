package admin

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

func TestThePageIsServedWithItsPolicy(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	for path, contentType := range map[string]string{
		"/":                               "text/html; charset=utf-8",
		"/assets/main.js":                 "text/javascript; charset=utf-8",
		"/assets/style.css":               "text/css; charset=utf-8",
		"/assets/icon.svg":                "image/svg+xml",
		"/assets/uplot/uPlot.iife.min.js": "text/javascript; charset=utf-8",
		"/assets/uplot/uPlot.min.css":     "text/css; charset=utf-8",
	} {
		r := f.get(t, path)
		require.Equal(t, http.StatusOK, r.status, path)
		require.NotEmpty(t, r.body)
		require.Equal(t, contentType, r.header.Get("Content-Type"))
		policy := r.header.Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'self';")
		require.Contains(t, policy, "frame-ancestors 'none';")
		require.NotContains(t, policy, "unsafe")
		require.Equal(t, "DENY", r.header.Get("X-Frame-Options"))
		require.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))

		again := f.get(t, path, "If-None-Match", r.header.Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.status)
		require.Empty(t, again.body)
		head := f.do(t, http.MethodHead, path, "")
		require.Equal(t, http.StatusOK, head.status)
		require.Equal(t, r.header.Get("Content-Length"), head.header.Get("Content-Length"))
		require.Equal(t, http.StatusMethodNotAllowed, f.do(t, http.MethodPost, path, "").status)
	}
	for _, path := range []string{"/index.html", "/assets", "/assets/", "/assets/index.html", "/assets/none.js", "/assets/../page.go", "/assets/uplot/LICENSE"} {
		require.Equal(t, http.StatusNotFound, f.get(t, path).status, path)
	}
}

// What the page names has to be there, and nothing may come from elsewhere or stand inline: its policy forbids it.
func TestThePageNeedsNothingButItsFiles(t *testing.T) {
	reference := regexp.MustCompile(`(?:src|href)="([^"#]+)"`)
	imported := regexp.MustCompile(`(?m)^import .* from '\./([^']+)'`)
	html := string(pageFiles["/"].content)
	for _, m := range reference.FindAllStringSubmatch(html, -1) {
		require.Contains(t, pageFiles, "/"+m[1])
	}
	require.NotRegexp(t, `<script>|<style|\sstyle=|\son\w+=`, html)
	modules := 0
	for name, file := range pageFiles {
		require.NotEmpty(t, file.contentType, name)
		if strings.HasPrefix(name, "/assets/uplot/") {
			continue
		}
		require.NotRegexp(t, `innerHTML|insertAdjacentHTML|document\.write|\beval\b`, string(file.content), name)
		for _, m := range imported.FindAllStringSubmatch(string(file.content), -1) {
			require.Contains(t, pageFiles, "/assets/"+m[1], name)
			modules++
		}
	}
	require.Greater(t, modules, 10)
}

func TestThePageIsServedWithoutTheTokenAndHoldsNoData(t *testing.T) {
	f := start(t, fanout.Config{}, Config{Token: "secret", Version: "v1.2.3"})
	for path, file := range pageFiles {
		r := f.get(t, path)
		require.Equal(t, http.StatusOK, r.status, path)
		require.Equal(t, string(file.content), r.body, "the same for everybody")
	}
	for _, path := range []string{"/v1/stats", "/v1/events", "/v1/events?from=hub", "/v1/spokes", "/metrics", "/other"} {
		require.Equal(t, http.StatusUnauthorized, f.get(t, path).status, path)
	}
	require.Equal(t, http.StatusForbidden, f.do(t, http.MethodPost, "/", "", "Origin", "https://elsewhere.example").status,
		"pages from elsewhere are refused here as well")
}
