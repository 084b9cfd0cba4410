package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/bytedance/sonic"
)

const doctorSynopsis = `hub doctor: look whether this machine can carry the hub that the flags describe.

It takes the flags of hub serve, and has to run where and as whom the hub will: under its unit, in its
container. For each thing it says what is, what should be, and the command or setting that changes it. The
exit code is 1 if something is bad: it would bite under the load that the flags allow.`

// verdict is how well a finding is.
type verdict string

const (
	fine  verdict = "ok"
	risky verdict = "warn" // may bite, or makes the hub slower
	bad   verdict = "bad"  // will bite when the limits in the flags are reached, or at once
)

// finding is one thing that was looked at.
type finding struct {
	Name    string  `json:"name"`
	Verdict verdict `json:"verdict"`
	Is      string  `json:"is"`
	Want    string  `json:"want,omitempty"` // empty if all is well
	Fix     string  `json:"fix,omitempty"`  // a command, or a setting and where it stands
}

// errUnwell makes the exit code 1 when the report has said why.
var errUnwell = errors.New("something is bad, see above")

func doctor(_ context.Context, args []string) error {
	return runDoctor(args, thisMachine{}, os.Stdout)
}

func runDoctor(args []string, m machine, out io.Writer) error {
	var c config
	inJSON := false
	f := serveFlags(&c)
	f.set.Init("doctor", flag.ContinueOnError)
	f.synopsis = doctorSynopsis
	addSwitch(f, &inJSON, "json", "report in JSON")
	if _, err := parseConfig(f, &c, args); err != nil {
		return err
	}
	findings := append(lookAtVariables(f.strangers(m.environ())), examine(&c, m)...)
	if err := report(out, findings, inJSON); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Verdict == bad {
			return errUnwell
		}
	}
	return nil
}

// examine looks at everything.
func examine(c *config, m machine) []finding {
	p := &patientMachine{machine: m, c: c}
	for _, look := range []func(*patientMachine){
		checkDescriptors, checkAddresses, checkMigration, checkBacklog, checkPorts, checkTCPMemory, checkBuffers, checkNotSentLowat,
		checkTracking, checkMemory, checkCPUs, checkClock, checkClockSource, checkCertificates, checkFiles,
	} {
		look(p)
	}
	return p.findings
}

// lookAtVariables makes findings of the variables that mean nothing to hub serve.
func lookAtVariables(strangers []string) (findings []finding) {
	for _, what := range strangers {
		name, is, _ := strings.Cut(what, ": ")
		findings = append(findings, finding{Name: name, Verdict: risky, Is: is, Want: "the twin of a flag, or no variable", Fix: "unset " + name + "; hub config shows the twins that there are"})
	}
	return findings
}

// patientMachine is the machine under examination, with what was found.
type patientMachine struct {
	machine
	c        *config
	findings []finding
}

// note adds a finding. fix is for what is not fine.
func (p *patientMachine) note(name string, v verdict, is, want, fix string) {
	if v == fine {
		want, fix = "", ""
	}
	p.findings = append(p.findings, finding{Name: name, Verdict: v, Is: is, Want: want, Fix: fix})
}

// unknown notes what could not be read.
func (p *patientMachine) unknown(name string, err error) {
	p.note(name, risky, "unknown: "+err.Error(), "readable", "run hub doctor where /proc and /sys can be read")
}

func report(out io.Writer, findings []finding, inJSON bool) error {
	if inJSON {
		text, err := sonic.ConfigStd.MarshalIndent(findings, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s\n", text)
		return err
	}
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%-4s  %-16s %s\n", f.Verdict, f.Name, f.Is)
		if f.Want != "" {
			fmt.Fprintf(&b, "%6s%-16s want: %s\n", "", "", f.Want)
		}
		if f.Fix != "" {
			fmt.Fprintf(&b, "%6s%-16s fix:  %s\n", "", "", f.Fix)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
