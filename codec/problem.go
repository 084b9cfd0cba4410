package codec

import (
	"slices"
	"strings"
)

// packages are those of this module whose errors begin with their names.
var packages = []string{"admin", "auth", "client", "cluster", "codec", "embedded", "fanout", "loop"}

// Problem returns the text of an error for those who do not know the packages of this module: without their names in
// front of it and of the errors that it wraps. What else an error quotes stays as it is.
func Problem(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	begin, rest, ok := strings.Cut(text, ": ")
	if ok && slices.Contains(packages, begin) {
		text = rest
	}
	for _, inner := range unwrap(err) {
		if inner != nil {
			text = strings.Replace(text, inner.Error(), Problem(inner), 1)
		}
	}
	return text
}

func unwrap(err error) []error {
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return []error{err.Unwrap()}
	case interface{ Unwrap() []error }:
		return err.Unwrap()
	}
	return nil
}
