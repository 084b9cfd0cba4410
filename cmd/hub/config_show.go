package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/bytedance/sonic"
)

const configSynopsis = `hub config: show the flags that hub serve would run with, and where each comes from.

It takes the flags of hub serve. Secrets are not shown. Environment variables that look like a flag's
twin and are none go to standard error.`

// setting is one flag in force.
type setting struct {
	Flag        string `json:"flag"`
	Environment string `json:"environment"`
	Value       string `json:"value"` // empty if it is a secret
	From        string `json:"from"`
	Secret      bool   `json:"secret,omitempty"`
	Set         bool   `json:"set"` // false for a secret that is not there
}

func showConfig(_ context.Context, args []string) error {
	return runShowConfig(args, os.Stdout, os.Stderr)
}

func runShowConfig(args []string, out, log io.Writer) error {
	var c config
	inJSON := false
	f := serveFlags(&c)
	f.set.Init("config", flag.ContinueOnError)
	f.synopsis = configSynopsis
	own := func(name string) bool { return name == "json" }
	addSwitch(f, &inJSON, "json", "report in JSON")
	warnings, err := parseConfig(f, &c, args)
	if err != nil {
		return err
	}
	settings := f.settings(own)
	for _, w := range append(warnings, f.strangers(os.Environ())...) {
		fmt.Fprintln(log, w)
	}
	if inJSON {
		text, err := sonic.ConfigStd.MarshalIndent(settings, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s\n", text)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range settings {
		value := s.Value
		if s.Secret && s.Set {
			value = "(hidden)"
		}
		from := s.From
		if from == fromEnvironment {
			from += ", " + s.Environment
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Flag, value, from)
	}
	return w.Flush()
}

// Secrets in addresses, shown as net/url shows passwords: passwords, names without one, which are tokens, and passwords
// among the parameters.
var (
	passwords  = regexp.MustCompile(`://([^/?#@:,]*):[^/?#,]*@`)
	tokens     = regexp.MustCompile(`://[^/?#@:,]+@`)
	parameters = regexp.MustCompile(`([?&][^=&#,]*password=)[^&#,]*`)
)

func withoutSecrets(value string) string {
	value = passwords.ReplaceAllString(value, "://$1:xxxxx@")
	value = tokens.ReplaceAllString(value, "://xxxxx@")
	return parameters.ReplaceAllString(value, "${1}xxxxx")
}

// settings returns all flags by name, but those of the subcommand itself.
func (f *flags) settings(own func(name string) bool) []setting {
	var settings []setting
	f.set.VisitAll(func(fl *flag.Flag) {
		if own(fl.Name) {
			return
		}
		s := setting{
			Flag: "--" + fl.Name, Environment: envName(fl.Name), Value: withoutSecrets(fl.Value.String()),
			From: fromDefault, Secret: f.secret[fl.Name], Set: true,
		}
		if from, ok := f.given[fl.Name]; ok {
			s.From = from
		} else if s.Secret {
			s.Set = false
		}
		settings = append(settings, s)
	})
	return settings
}

// strangers says of the variables in env that begin like the twin of a flag and are none what they are: mostly a
// mistyped name.
func (f *flags) strangers(env []string) []string {
	known := map[string]bool{envPrefix + "VERIFY": true} // which package verify reads
	f.set.VisitAll(func(fl *flag.Flag) { known[envName(fl.Name)] = true })
	var found []string
	for _, variable := range env {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, envPrefix) && !known[name] && !serviceLink.MatchString(name) {
			found = append(found, name+": no flag of hub serve has this twin"+f.nearestTwin(name))
		}
	}
	slices.Sort(found)
	return found
}

// serviceLink matches what Kubernetes tells every container of a service that is named hub.
var serviceLink = regexp.MustCompile(`^HUB_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_.*)?)$`)

// nearestTwin asks whether the twin was meant that is spelt most like name, if one is.
func (f *flags) nearestTwin(name string) string {
	meant := f.nearestName(strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, envPrefix), "_", "-")))
	if meant == "" {
		return ""
	}
	return "; did you mean " + envName(meant) + "?"
}
