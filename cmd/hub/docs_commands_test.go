package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/loadgen"
)

// TestCommandsOfTheDocuments looks whether there is what the commands in blocks and in the text name: subcommands and
// flags with such values, targets of make, packages and benchmarks.
func TestCommandsOfTheDocuments(t *testing.T) {
	pages := documents(t, "README.md", "docs/*.md")
	checked := 0
	for _, b := range blocks(pages) {
		if b.language != "sh" {
			continue
		}
		for line := range strings.Lines(b.text) {
			n, err := checkLine(line)
			require.NoError(t, err, "%s: %s", b.page, line)
			checked += n
		}
	}
	require.Greater(t, checked, 30)
	for page, text := range pages {
		for _, span := range spans(text) {
			if isCommand.MatchString(span) {
				n, err := checkLine(span)
				require.NoError(t, err, "%s: %s", page, span)
				checked += n
			}
		}
	}
	require.Greater(t, checked, 100)
	for _, wrong := range []string{
		"hub serve --no-such", "hub serve --ping soon", "hub config --spoke-lag", "bin/hub bench --spokes many", "old=1; hub publish --url x", "hub nothing",
		"make nothing", "make soak HOURS=1", "go test -bench Nothing ./bench", "go test ./nothing", "rm -rf x", "hub tail --token $(bin/hub token --subject ada)",
		"docker run hub", "echo HUB_ADMIN=:1 >/etc/hub/a.env", "echo HUB_ADMIN=127.0.0.1:8081 >/etc/hub/hub.env", "install -m 644 deploy/99-hub.conf /etc/99-hub.conf",
		"systemctl start hub@a hubs@b", "install -m 755 bin/hub /usr/bin/hub", "go get github.com/other/hub", "curl http://127.0.0.1:8081/metrics | hub tails",
	} {
		_, err := checkLine(wrong)
		require.Error(t, err, wrong)
	}
}

var isCommand = regexp.MustCompile(`^((bin/)?hub( [a-z-]|$)|(make|go|curl|systemctl|install) \S)`)

// spans returns what stands in a text between backquotes, but for blocks.
func spans(text string) (found []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		found = append(found, strings.Join(strings.Fields(strings.ReplaceAll(m[1], `\|`, "|")), " "))
	}
	return found
}

// checkLine looks at the commands of a line, and returns how many it knows to look at.
func checkLine(line string) (checked int, err error) {
	line, _, _ = strings.Cut(" "+line, " #")
	if line = strings.TrimSpace(line); regexp.MustCompile(`^(docker|kubectl) `).MatchString(line) {
		return 1, checkQuoted(line)
	}
	line = strings.NewReplacer("$(", ";", ")", ";", "&&", ";", "&", ";", "|", ";").Replace(line)
	for command := range strings.SplitSeq(line, ";") {
		words := split(command)
		for len(words) > 0 && regexp.MustCompile(`^(export|until|do|done|sleep|\w+=.*)$`).MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) == 0 {
			continue
		}
		check, known := map[string]func([]string) error{
			"hub": checkHub, "bin/hub": checkHub, "make": checkMake, "go": checkGo, "systemctl": checkSystemctl, "install": checkInstall,
			"echo": checkEcho, "journalctl": checkSystemctl, "sysctl": nil, "curl": nil, "cd": nil, "kill": nil, "grep": nil, "npm": nil, "node": nil, "openssl": nil, "1": nil,
		}[words[0]]
		if !known {
			return checked, fmt.Errorf("nothing is known of %q", words[0])
		}
		if check != nil {
			if err := check(words[1:]); err != nil {
				return checked, err
			}
			checked++
		}
	}
	return checked, nil
}

// split splits a command into words as a shell does, as far as that is needed.
func split(command string) (words []string) {
	for _, m := range regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`).FindAllString(command, -1) {
		words = append(words, strings.NewReplacer("'", "", `"`, "").Replace(m))
	}
	return words
}

// checkHub parses the flags of a subcommand.
func checkHub(args []string) error {
	if len(args) == 0 || args[0] == "version" || args[0] == "started" { // "hub started" is what the log says
		return nil
	}
	name, args := args[0], args[1:]
	switch name {
	case "serve", "config":
		if len(args) == 1 && args[0] == "--help" {
			return nil
		}
		return runShowConfig(args, io.Discard, io.Discard)
	case "bench":
		var c loadgen.Config
		return parseBench(benchFlags(&c, &trust{}, new(bool)), &c, args)
	}
	known := flagsOf(name)
	if known == nil {
		return fmt.Errorf("there is no subcommand %q", name)
	}
	for _, arg := range args {
		if flag, is := strings.CutPrefix(arg, "--"); is {
			if flag, _, _ = strings.Cut(flag, "="); !known[flag] {
				return fmt.Errorf("hub %s has no --%s", name, flag)
			}
		}
	}
	return nil
}

// flagsOf returns the names of a subcommand's flags as its --help shows them, nil if there is no such subcommand.
func flagsOf(name string) map[string]bool {
	command := map[string]func(context.Context, []string) error{
		"serve": serve, "publish": publish, "tail": tail, "bench": bench, "token": token,
		"config": showConfig, "doctor": doctor, "healthcheck": healthcheck,
	}[name]
	if command == nil {
		return nil
	}
	found := map[string]bool{"help": true}
	text := printed(func() { _ = command(context.Background(), []string{"--help"}) })
	for _, m := range regexp.MustCompile(`(?m)^  --([a-z0-9-]+) \(HUB_`).FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	return found
}

// printed returns what fn prints, however much.
func printed(fn func()) string {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		read <- string(text)
	}()
	stdout := os.Stdout
	os.Stdout = w
	fn()
	os.Stdout = stdout
	_ = w.Close()
	defer r.Close()
	return <-read
}

// checkMake looks for the targets, whether they use the variables, and for the flags that tests are run with.
func checkMake(args []string) error {
	text, err := os.ReadFile("../../Makefile")
	if err != nil {
		return err
	}
	for _, arg := range args {
		if name, _, is := strings.Cut(arg, "="); is {
			if !strings.Contains(string(text), "$("+name+")") {
				return fmt.Errorf("the Makefile has no use for %s", name)
			}
		} else if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(arg) + `:`).Match(text) {
			return fmt.Errorf("the Makefile has no target %s", arg)
		}
	}
	out, err := exec.Command("make", append([]string{"-C", "../..", "-n"}, args...)...).Output()
	if err != nil {
		return err
	}
	for _, m := range regexp.MustCompile(`(?m) (\./\S+) -args (.*)$`).FindAllStringSubmatch(string(out), -1) {
		if m[1] != "./cmd/hub" { // hostile looks at its own, being run
			continue
		}
		for _, f := range regexp.MustCompile(`-([a-z.]+)=`).FindAllStringSubmatch(m[2], -1) {
			if flag.Lookup(f[1]) == nil {
				return fmt.Errorf("these tests have no flag -%s", f[1])
			}
		}
	}
	return nil
}

// checkGo looks for the packages, and for benchmarks with such a name.
func checkGo(args []string) error {
	bench := ""
	for i, arg := range args {
		if rest, is := strings.CutPrefix(arg, "github.com/"); is {
			if rest, is = strings.CutPrefix(rest, "alkdev/hub"); !is {
				return fmt.Errorf("%s is not this module", arg)
			}
			arg = "." + rest
		}
		if i > 0 && args[i-1] == "-bench" {
			bench = arg
		}
		if i > 0 && args[i-1] == "-C" {
			arg = "./" + arg
		}
		if !strings.HasPrefix(arg, "./") {
			continue
		}
		declared, err := declarations(strings.TrimPrefix(arg, "./"))
		if err != nil {
			return err
		}
		found := bench == ""
		for name := range declared {
			found = found || strings.HasPrefix(name, "Benchmark") && strings.Contains(name, bench)
		}
		if !found {
			return fmt.Errorf("%s has no benchmark %s", arg, bench)
		}
	}
	return nil
}

// TestProxiesAreForTheHubOfTheGuide: each configuration begins with the command that docs/deploy.md has.
func TestProxiesAreForTheHubOfTheGuide(t *testing.T) {
	guide := blocks(documents(t, "docs/deploy.md"))
	require.Len(t, guide, 1)
	for name, text := range documents(t, "interop/proxies/*") {
		require.Contains(t, text, "# The hub: "+strings.TrimSpace(guide[0].text), name) // and, for haproxy-tls.cfg, its certificate
	}
}

// TestKernelSettingsOfTheGuide: what deploy/99-hub.conf sets stands in docs/deploy.md with the same value.
func TestKernelSettingsOfTheGuide(t *testing.T) {
	guide := documents(t, "docs/deploy.md")["docs/deploy.md"]
	set := regexp.MustCompile(`(?m)^([a-z_.0-9]+) = (\d+)$`).FindAllStringSubmatch(documents(t, "deploy/99-hub.conf")["deploy/99-hub.conf"], -1)
	require.Len(t, set, 3)
	for _, m := range set {
		require.Regexp(t, "(?m)^\\|[^|]*`"+regexp.QuoteMeta(m[1])+"`[^|]*: "+m[2]+" \\|", guide)
	}
}

// checkSystemctl knows one unit, of which there are instances.
func checkSystemctl(args []string) error {
	if _, err := os.Stat("../../deploy/hub@.service"); err != nil {
		return err
	}
	for _, arg := range args {
		if !regexp.MustCompile(`^(enable|disable|start|stop|--now|-u|hub@[ab])$`).MatchString(arg) {
			return fmt.Errorf("%q is neither a verb of systemctl nor an instance that deploy/hub@.service speaks of", arg)
		}
	}
	return nil
}

// checkInstall wants the binary where the unit starts it, and a file of the kernel's settings where that says that it belongs.
func checkInstall(args []string) error {
	if len(args) != 4 {
		return errors.New("install MODE, FROM and TO are expected")
	}
	from, to := args[2], args[3]
	if from == "bin/hub" {
		return contains("deploy/hub@.service", "\nExecStart="+to+" serve\n")
	}
	return contains(from, "# "+to+";")
}

// checkEcho wants what is written to a file of the unit's to be flags, as deploy/hub.env has them for it.
func checkEcho(args []string) error {
	if len(args) != 2 || !regexp.MustCompile(`^>/etc/hub/[ab]\.env$`).MatchString(args[1]) {
		return fmt.Errorf("%q is no file that the unit reads", args)
	}
	return errors.Join(contains("deploy/hub.env", "#   "+args[0]+"\n"), contains("deploy/hub@.service", "\nEnvironmentFile=-/etc/hub/%i.env\n"))
}

// checkQuoted wants a command for Docker or a cluster, neither of which is here, to be the one at the top of a file in
// deploy/, and the flags in it to exist.
func checkQuoted(line string) error {
	files, err := filepath.Glob("../../deploy/*")
	if err != nil {
		return err
	}
	found := false
	for _, file := range files {
		found = found || contains(strings.TrimPrefix(file, "../../"), "# "+line+"\n") == nil
	}
	if !found {
		return fmt.Errorf("no file in deploy/ has %q", line)
	}
	var args []string
	for _, m := range regexp.MustCompile(` -e (HUB_\w+)=(\S+)`).FindAllStringSubmatch(line, -1) {
		args = append(args, "--"+flagName(m[1])+"="+strings.Replace(m[2], "...", "0123456789abcdef", 1)) // a secret that is left to the reader
	}
	return runShowConfig(args, io.Discard, io.Discard)
}

// contains returns an error unless a file of the project contains a text.
func contains(file, text string) error {
	b, err := os.ReadFile("../../" + file)
	if err == nil && !strings.Contains(string(b), text) {
		err = fmt.Errorf("%s has no %q", file, text)
	}
	return err
}
