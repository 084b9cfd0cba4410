package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
	"time"
)

// The checks of memory, CPUs, clocks and files.

// Memory of an idle spoke, docs/capacity.md.
const (
	processBytesPerSpoke       = 512
	processBytesPerSecureSpoke = 4352
	kernelBytesPerSpoke        = 5 << 10
)

// bytesPerSpoke returns the memory of an idle spoke, and what to call it.
func (c *config) bytesPerSpoke() (n int64, what string) {
	if c.tlsCert != "" {
		return processBytesPerSecureSpoke + kernelBytesPerSpoke, "spokes over TLS"
	}
	return processBytesPerSpoke + kernelBytesPerSpoke, "spokes"
}

func checkMemory(p *patientMachine) {
	const name = "memory"
	available, err := memInfo(p, "MemAvailable")
	if err != nil {
		p.unknown(name, err)
		return
	}
	g := readCgroup(p)
	where := "available"
	if g.memory > 0 && g.memory-g.used < available {
		available, where = g.memory-g.used, fmt.Sprintf("left of the %s of the control group", roughly(g.memory))
	}
	n, said := p.spokes()
	each, what := p.c.bytesPerSpoke()
	fixed := 2*p.c.totalBuffer + int64(p.c.pollers)*p.c.readBuffer
	need := n*each + fixed
	room := max(0, available-fixed) / each
	is := fmt.Sprintf("%s %s, room for %s idle %s beside --total-buffer", roughly(available), where, grouped(uint64(room)), what)
	want := fmt.Sprintf("%s: %s %s of %s, and twice --total-buffer %s", roughly(need), grouped(uint64(n)), what, roughly(each), showSize(p.c.totalBuffer))
	const fix = "more memory (MemoryMax= in the unit, the limit of the container), a smaller --total-buffer or --max-spokes"
	switch {
	case need <= available*4/5:
		p.note(name, fine, is, "", "")
	case need > available && (said || fixed > available):
		p.note(name, bad, is, want, fix)
	default:
		p.note(name, risky, is, want+", and a fifth to spare", fix)
	}
	if g.memory > 0 {
		checkMemoryLimit(p, g.memory)
	}
}

// checkMemoryLimit: what the hub takes for its limit has to be less than what the control group has.
func checkMemoryLimit(p *patientMachine, group int64) {
	const name = "memory limit"
	limit := p.c.memoryLimit
	is := fmt.Sprintf("--memory-limit %s in a control group of %s", showMemoryLimit(limit), roughly(group))
	const want, fix = "somewhat less than the control group has: the hub sheds queues instead of being killed", "--memory-limit auto"
	switch {
	case limit > group*19/20:
		p.note(name, bad, is, want, fix)
	case limit == memoryOff, limit == memoryAuto && p.env("GOMEMLIMIT") == "off":
		p.note(name, risky, is+", GOMEMLIMIT="+p.env("GOMEMLIMIT"), want, fix)
	default:
		p.note(name, fine, is, "", "")
	}
}

func checkCPUs(p *patientMachine) {
	const name = "CPUs"
	procs, cpus := p.procs()
	quota := readCgroup(p).cpus
	is := fmt.Sprintf("GOMAXPROCS %d of %d CPUs", procs, cpus)
	if quota > 0 {
		is += fmt.Sprintf(", the control group has a quota of %.2g", quota)
	}
	switch {
	case quota > 0 && float64(procs) > max(2, math.Ceil(quota)): // Go itself takes at least two
		p.note(name, bad, is, "no more than the quota: the kernel stops all threads for the rest of a period once it is used up",
			fmt.Sprintf("unset GOMAXPROCS, so that Go looks at the quota, or GOMAXPROCS=%.0f", math.Ceil(quota)))
	case procs > cpus:
		p.note(name, risky, is, "no more than there are", "unset GOMAXPROCS")
	case p.c.shards > procs:
		p.note(name, risky, fmt.Sprintf("%s, --shards %d", is, p.c.shards), "no more shards than GOMAXPROCS: they would wait for each other", fmt.Sprintf("--shards %d", procs))
	default:
		p.note(name, fine, is, "", "")
	}
}

// checkClock: the wall clock decides when tokens expire; nothing else in the hub looks at it.
func checkClock(p *patientMachine) {
	const name = "clock"
	now, synchronised, err := p.clock()
	tokens := len(p.c.authKey) > 0 || p.c.authJWKS != ""
	is := now.UTC().Format(time.RFC3339)
	const fix = "timedatectl set-ntp true, or run chronyd"
	switch {
	case now.Year() < 2025 || now.Year() > 2100:
		v := risky
		if tokens {
			v = bad
		}
		p.note(name, v, is, "today: tokens expire by it", fix)
	case errors.Is(err, syscall.EPERM): // ProtectClock= and its like
		v := fine
		if tokens {
			v = risky
		}
		p.note(name, v, is+"; whether synchronised may not be asked here", "synchronised: tokens expire by it", "timedatectl, outside the unit or container")
	case err != nil:
		p.unknown(name, err)
	case !synchronised && tokens:
		p.note(name, risky, is+", not synchronised", "synchronised: tokens expire by it", fix)
	case !synchronised:
		p.note(name, fine, is+", not synchronised; nothing depends on it without tokens", "", "")
	default:
		p.note(name, fine, is+", synchronised", "", "")
	}
}

// checkClockSource: every pass and read asks for the time, which is cheap if it needs no system call.
func checkClockSource(p *patientMachine) {
	const name, dir = "clock source", "/sys/devices/system/clocksource/clocksource0/"
	source, err := p.read(dir + "current_clocksource")
	if err != nil {
		p.unknown(name, err)
		return
	}
	v := risky
	switch {
	case source == "tsc", source == "kvm-clock", source == "arch_sys_counter", strings.HasPrefix(source, "hyperv_clocksource_tsc"):
		v = fine // those that the vDSO reads
	}
	there, _ := p.read(dir + "available_clocksource")
	p.note(name, v, source, "one that is read without a system call, of: "+there, "echo tsc > "+dir+"current_clocksource, or clocksource=tsc for the kernel")
}

// renewal is how long before its end a certificate should have been replaced.
const renewal = 7 * 24 * time.Hour

func checkCertificates(p *patientMachine) {
	e := &p.c.engine
	p.checkCertificate("certificate", p.c.tlsCert, p.c.tlsKey, "a new pair in the same files: the hub reads them again")
	const fix = "a new pair in the same files, and a restart"
	p.checkCertificate("engine certificate", e.cert, e.key, fix)
	p.checkCertificate("cluster certificate", e.peerCert, e.peerKey, fix)
	p.checkAuthorities("engine authorities", e.ca)
	p.checkAuthorities("cluster authorities", e.peerCA)
}

func (p *patientMachine) checkCertificate(name, certFile, keyFile, fix string) {
	if certFile == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		fix := "ls -l " + certFile + " " + keyFile
		if strings.Contains(err.Error(), "does not match") {
			fix = "the two that were made together: openssl x509 -noout -pubkey -in " + certFile + " and openssl pkey -pubout -in " + keyFile + " show the same for a pair"
		}
		p.note(name, bad, err.Error(), "a certificate and its key that the hub may read", fix)
		return
	}
	now, _, _ := p.clock()
	is := fmt.Sprintf("%s, good from %s until %s", certFile, pair.Leaf.NotBefore.UTC().Format(time.RFC3339), pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	p.note(name, goodAt(now, pair.Leaf.NotBefore, pair.Leaf.NotAfter), is, "one that is good now and for another week", fix)
}

func (p *patientMachine) checkAuthorities(name, file string) {
	if file == "" {
		return
	}
	if _, err := mutualTLS("", "", file); err != nil {
		p.note(name, bad, err.Error(), "a file of certificates, in PEM, that the hub may read", "ls -l "+file)
		return
	}
	p.note(name, fine, file, "", "")
}

// goodAt says how good a certificate is at a moment.
func goodAt(now, begins, ends time.Time) verdict {
	switch {
	case now.Before(begins), now.After(ends):
		return bad
	case ends.Sub(now) < renewal:
		return risky
	}
	return fine
}

func checkFiles(p *patientMachine) {
	if file := p.c.authJWKS; file != "" && !strings.Contains(file, "://") {
		if _, err := os.Stat(file); err != nil {
			p.note("key set", bad, "--auth-jwks: "+err.Error(), "a file that the hub may read", "ls -l "+file)
			return
		}
		p.note("key set", fine, file, "", "")
	}
}
