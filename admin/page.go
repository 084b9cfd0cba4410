package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// assets is the operator's page: all that a browser needs for it, and nothing that has to be built.
//
//go:embed assets/*.html assets/*.css assets/*.js assets/*.svg assets/uplot/*.js assets/uplot/*.css
var assets embed.FS

// pageHeader is what the page may do: run what is served here and talk to who has served it. No other page
// may have it in a frame, where its buttons could be clicked by people who see something else.
var pageHeader = map[string]string{
	"Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
		"object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
	"X-Frame-Options":              "DENY",
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-cache", // ask whether it is still the same
}

// contentTypes are given here so that no table of the machine's has a say.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// asset is one file of the page.
type asset struct {
	content     []byte
	contentType string
	etag        string
}

// pageFiles are the files of the page by their path in the address. Anybody may have them: they
// hold no data, which the page asks for with the token.
var pageFiles = loadPage()

func loadPage() map[string]*asset {
	files := make(map[string]*asset)
	err := fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := assets.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		files["/"+name] = &asset{content, contentTypes[path.Ext(name)], `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		panic("admin: page: " + err.Error()) // it is part of the program
	}
	files["/"] = files["/assets/index.html"]
	delete(files, "/assets/index.html")
	return files
}

// page serves the operator's page and its files.
func (s *Server) page(w http.ResponseWriter, r *http.Request) *problem {
	file := pageFiles[r.URL.Path]
	if file == nil {
		return nothingAt(r)
	}
	h := w.Header()
	for name, value := range pageHeader {
		h.Set(name, value)
	}
	h.Set("Content-Type", file.contentType)
	h.Set("ETag", file.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
	return nil
}

// isOpen reports whether a path is served without a token: health, and the page.
func isOpen(path string) bool {
	return path == "/livez" || path == "/readyz" || path == "/" || strings.HasPrefix(path, "/assets/")
}
