package main

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/loop"
)

// The parsers of flag values. Their errors quote what was given and say what is allowed.

func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return b, nil
}

func parseText(s string) (string, error) { return s, nil }

func showText(s string) string { return s }

// number returns a parser of integers within bounds.
func number(low, high int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("%q is not a number from %d to %d", s, low, high)
		}
		return n, nil
	}
}

// size returns a parser of byte sizes within bounds, such as 65536, 64KiB or 1.5MB.
func size(low, high int64) func(string) (int64, error) {
	return func(s string) (int64, error) {
		n, err := humanize.ParseBytes(s)
		if err != nil || n > math.MaxInt64 || int64(n) < low || int64(n) > high {
			return 0, fmt.Errorf("%q is not a size from %s to %s, sizes look like 65536, 64KiB or 1.5MB", s, showSize(low), showSize(high))
		}
		return int64(n), nil
	}
}

// parseShare reads a part of the whole, below all of it, such as 10%.
func parseShare(s string) (float64, error) {
	number, ok := strings.CutSuffix(s, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if s == "0" {
		ok = true
	}
	if err != nil || !ok || !(percent >= 0 && percent < 100) {
		return 0, fmt.Errorf("%q is not a share from 0%% to below 100%%, shares look like 10%% or 0.5%%", s)
	}
	return percent / 100, nil
}

func showShare(share float64) string { return strconv.FormatFloat(100*share, 'f', -1, 64) + "%" }

func showSize(n int64) string {
	if n != 0 {
		for _, unit := range []struct {
			name string
			size int64
		}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
			if n%unit.size == 0 {
				return fmt.Sprint(n/unit.size, unit.name)
			}
		}
	}
	return fmt.Sprint(n)
}

// duration returns a parser of durations within bounds.
func duration(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if s == "0" {
			d, err = 0, nil
		}
		if err != nil || d < low || d > high {
			return 0, fmt.Errorf("%q is not a duration from %v to %v, durations look like 500ms, 10s or 1m30s", s, low, high)
		}
		return d, nil
	}
}

func showDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}

// oneOf returns a parser of words.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("%q is not one of %s", s, strings.Join(words, ", "))
		}
		return s, nil
	}
}

// parseList splits at commas.
func parseList(s string) ([]string, error) {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list, nil
}

// parseOrigins reads browser origins with commas between them.
func parseOrigins(s string) ([]string, error) {
	origins, _ := parseList(s)
	for _, o := range origins {
		scheme, host, _ := strings.Cut(o, "://")
		if loop.CheckOrigin(o) != nil || o != "*" && (scheme == "" || host == "" || strings.Contains(host, "/")) {
			return nil, fmt.Errorf("%q is not an origin, origins look like https://example.com, without a path, or *", o)
		}
	}
	return origins, nil
}

// parseAddresses reads IP addresses with commas between them.
func parseAddresses(s string) ([]netip.Addr, error) {
	var addresses []netip.Addr
	parts, _ := parseList(s)
	for _, part := range parts {
		a, err := netip.ParseAddr(part)
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of IP addresses, as in 127.0.0.2,127.0.0.3", s)
		}
		addresses = append(addresses, a)
	}
	return addresses, nil
}

func showAddresses(addresses []netip.Addr) string {
	var parts []string
	for _, a := range addresses {
		parts = append(parts, a.String())
	}
	return showList(parts)
}

// parsePrefixes reads networks and single addresses with commas between them.
func parsePrefixes(s string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	parts, _ := parseList(s)
	for _, part := range parts {
		p, err := netip.ParsePrefix(part)
		if a, e := netip.ParseAddr(part); e == nil && a.Zone() == "" {
			a = a.Unmap()
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is neither an IP address nor a network, they look like 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32", part)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

func showPrefixes(prefixes []netip.Prefix) string {
	var parts []string
	for _, p := range prefixes {
		if p.IsSingleIP() {
			parts = append(parts, p.Addr().String())
		} else {
			parts = append(parts, p.String())
		}
	}
	return showList(parts)
}

func showList(list []string) string { return strings.Join(list, ",") }

// parsePolicies reads "tick=conflate,order=disconnect".
func parsePolicies(s string) (map[string]fanout.Policy, error) {
	policies := make(map[string]fanout.Policy)
	parts, _ := parseList(s)
	for _, part := range parts {
		typ, name, ok := strings.Cut(part, "=")
		if !ok || typ == "" {
			return nil, fmt.Errorf("%q is not type=policy, as in tick=conflate,order=disconnect", part)
		}
		if err := (codec.Envelope{Type: typ}).Check(); err != nil {
			return nil, fmt.Errorf("%q: %v", part, err)
		}
		p, err := fanout.ParsePolicy(name)
		if err != nil {
			return nil, fmt.Errorf("%q: %v", part, err)
		}
		policies[typ] = p
	}
	return policies, nil
}

func showPolicies(policies map[string]fanout.Policy) string {
	var parts []string
	for typ, p := range policies {
		parts = append(parts, typ+"="+p.String())
	}
	slices.Sort(parts)
	return showList(parts)
}

func parseCloseCode(s string) (codec.CloseCode, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || !codec.CloseCode(n).Sendable() {
		return 0, fmt.Errorf("%q is not a close code that may be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999", s)
	}
	return codec.CloseCode(n), nil
}

func parseLevel(s string) (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s)); err != nil {
		return 0, fmt.Errorf("%q is not one of debug, info, warn, error", s)
	}
	return level, nil
}
