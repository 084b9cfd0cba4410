package admin

import (
	"go/version"
	"runtime"
	"strings"
)

var fastPath = sonicFastPath(runtime.GOARCH, runtime.Version())

// sonicFastPath reports whether sonic compiles its own code in a program built for arch by the given
// Go. Elsewhere it falls back to encoding/json, which takes several times as long. The bound is that
// of the build tags of sonic v1.15.5: amd64 or arm64, Go before 1.28.
func sonicFastPath(arch, goVersion string) bool {
	if arch != "amd64" && arch != "arm64" {
		return false
	}
	for word := range strings.FieldsSeq(goVersion) { // "devel go1.27-abcdef Mon ...", "go1.26.1 X:exp"
		word, _, _ = strings.Cut(word, "-")
		if version.IsValid(word) {
			return version.Compare(version.Lang(word), "go1.28") < 0
		}
	}
	return false
}

func (s *Server) buildLabels() []string {
	version := s.config.Version
	if version == "" {
		version = "unknown"
	}
	return []string{version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
}
