package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alkdev/hub/codec"
)

// envPrefix begins the environment twin of every flag: --spoke-buffer is HUB_SPOKE_BUFFER.
const envPrefix = "HUB_"

// flags is a flag.FlagSet that reads environment twins, and goes on after a mistake so that all of
// them are reported at once.
type flags struct {
	set      *flag.FlagSet
	synopsis string
	from     string // what Set is being called for, for messages
	problems []string
	given    map[string]string // by flag, where its value comes from unless it is the default
	blank    map[string]bool   // of these, whether it is empty
	secret   map[string]bool   // flags whose values are not shown
}

func newFlags(name, synopsis string) *flags {
	f := &flags{
		set: flag.NewFlagSet(name, flag.ContinueOnError), synopsis: synopsis,
		given: make(map[string]string), blank: make(map[string]bool), secret: make(map[string]bool),
	}
	f.set.SetOutput(io.Discard)
	return f
}

// add defines a flag. parse turns its text into a value; its error says what is allowed. show turns
// a value into text.
func add[T any](f *flags, p *T, name, usage string, parse func(string) (T, error), show func(T) string) {
	f.set.Var(&value{
		set: func(s string) {
			v, err := parse(s)
			if err != nil {
				f.problem("%s: %s", f.source(name), codec.Problem(err))
				return
			}
			*p = v
			f.given[name], f.blank[name] = f.origin(), s == ""
		},
		text: func() string { return show(*p) },
	}, name, usage)
}

// addSwitch defines a flag that may stand alone.
func addSwitch(f *flags, p *bool, name, usage string) {
	add(f, p, name, usage, parseBool, func(b bool) string { return fmt.Sprint(b) })
	f.set.Lookup(name).Value.(*value).isSwitch = true
}

// value is a flag.Value whose Set never fails: mistakes are collected.
type value struct {
	set      func(string)
	text     func() string
	isSwitch bool
}

func (v *value) Set(s string) error { v.set(s); return nil }
func (v *value) String() string {
	if v.text == nil { // the zero value, by which package flag tells whether a default is one
		return ""
	}
	return v.text()
}
func (v *value) IsBoolFlag() bool { return v.isSwitch }

func (f *flags) problem(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

func (f *flags) source(name string) string {
	if f.from != "" {
		return f.from
	}
	return "--" + name
}

// The places that a flag's value may come from, as hub config shows them.
const (
	fromDefault     = "default"
	fromEnvironment = "environment"
	fromCommandLine = "command line"
)

func (f *flags) origin() string {
	if f.from != "" {
		return fromEnvironment
	}
	return fromCommandLine
}

// addSecret defines a flag whose value is not shown, and which file:PATH reads from a file. No error of parse may
// repeat what it is given.
func addSecret[T any](f *flags, p *T, name, usage string, parse func(string) (T, error)) {
	read := func(s string) (v T, err error) {
		text, err := readSecret(s)
		if err != nil {
			return v, err
		}
		if v, err = parse(text); err != nil && strings.HasPrefix(s, fromFile) {
			err = fmt.Errorf("%q: %w", s, err)
		}
		return v, err
	}
	add(f, p, name, usage+"; file:PATH reads it from a file", read, func(T) string { return "" })
	f.secret[name] = true
}

const fromFile = "file:" // begins the value of a secret that stands in a file

// readSecret returns the secret that s is, or that is in the file which s names, without the newline at its end. No
// error repeats a secret.
func readSecret(s string) (string, error) {
	path, isFile := strings.CutPrefix(s, fromFile)
	if !isFile {
		// Only what looks like a path: a word may happen to be the name of a file.
		if strings.ContainsAny(s, "/.") {
			if info, err := os.Stat(s); err == nil && info.Mode().IsRegular() {
				return "", errors.New("there is a file of that name; file:PATH reads it")
			}
		}
		return s, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%q: %w", s, errors.Unwrap(err))
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("%q: the file is empty", s)
	}
	return text, nil
}

func envName(flagName string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// errHelp is returned by parse when the usage was asked for, and printed.
var errHelp = flag.ErrHelp

// parse reads the environment, then args, and returns the arguments that are not flags. The error
// holds every mistake.
func (f *flags) parse(args []string) (rest []string, err error) {
	f.set.VisitAll(func(fl *flag.Flag) {
		if text, ok := os.LookupEnv(envName(fl.Name)); ok {
			f.from = envName(fl.Name)
			_ = fl.Value.Set(text)
		}
	})
	f.from = ""
	for {
		err := f.set.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			f.usage(os.Stdout)
			return nil, errHelp
		}
		if err != nil { // package flag has consumed the culprit
			f.problem("%s", f.explain(err))
		}
		args = f.set.Args()
		if err != nil && strings.HasPrefix(err.Error(), "bad flag syntax") {
			args = args[1:] // which it leaves there
		}
		if err == nil && len(args) == 0 {
			return rest, f.result()
		}
		// Not a flag: an argument, or what was meant as the value of an unknown flag.
		for len(args) > 0 && (len(args[0]) < 2 || args[0][0] != '-') {
			if err == nil {
				rest = append(rest, args[0])
			}
			err, args = nil, args[1:]
		}
	}
}

// explain rewrites the messages of package flag.
func (f *flags) explain(err error) string {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		return "--" + strings.TrimPrefix(name, "-") + ": there is no such flag" + f.nearest(strings.TrimPrefix(name, "-"))
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		return fmt.Sprintf("--%s: needs a value", name)
	}
	return err.Error()
}

// nearest asks whether the flag was meant that is spelt most like name, if one is.
func (f *flags) nearest(name string) string {
	if best := f.nearestName(name); best != "" {
		return "; did you mean --" + best + "?"
	}
	return ""
}

// nearestName returns the flag that is spelt most like name, "" if none is like it.
func (f *flags) nearestName(name string) string {
	best, least := "", 1+len(name)/3 // more than a third of it changed is another word
	f.set.VisitAll(func(fl *flag.Flag) {
		if d := distance(name, fl.Name); d <= least && (best == "" || d < least) {
			best, least = fl.Name, d
		}
	})
	return best
}

// distance returns how many letters have to be put in, taken out or changed to make a of b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// result returns all mistakes as one error.
func (f *flags) result() error {
	switch len(f.problems) {
	case 0:
		return nil
	case 1:
		return errors.New(f.problems[0])
	}
	return fmt.Errorf("%d mistakes:\n  %s", len(f.problems), strings.Join(f.problems, "\n  "))
}

func (f *flags) usage(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nFlags, with the environment variable that means the same:\n\n", f.synopsis)
	f.set.VisitAll(func(fl *flag.Flag) {
		fmt.Fprintf(w, "  --%s (%s)\n        %s", fl.Name, envName(fl.Name), fl.Usage)
		if fl.DefValue != "" {
			fmt.Fprintf(w, " (default %s)", fl.DefValue)
		}
		fmt.Fprintln(w)
	})
}
