package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// defaultAdmin is where hub serve has its admin side.
const defaultAdmin = "http://127.0.0.1:8081"

// addOperator defines --admin and --admin-token for a command that asks the admin side of a hub. Both are named as
// hub serve names them, and so are their environment twins: what is set for one command is right for all. address
// is empty if it is off.
func addOperator(f *flags, address, token *string, usage string) {
	add(f, address, "admin", usage, parseOperator, func(s string) string {
		if s == "" {
			return "off"
		}
		return s
	})
	addSecret(f, token, "admin-token", "the hub's --admin-token", parseText)
}

// parseOperator reads where the admin side of a hub is, as hub serve has it (host:port) or as an HTTP address.
func parseOperator(s string) (string, error) {
	if s == "off" {
		return "", nil
	}
	if _, err := parseAddress(s); err == nil {
		return "http://" + nearby(s), nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery+u.Fragment != "" {
		return "", fmt.Errorf("%q is not the address of a hub's admin side, which looks like 127.0.0.1:8081 or http://127.0.0.1:8081", s)
	}
	return strings.TrimRight(s, "/"), nil
}

// nearby returns the address at which this machine reaches a listener: one for all addresses of the
// machine is asked at the loopback address.
func nearby(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if isEverywhere(host) {
		if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
			host = "::1"
		} else {
			host = "127.0.0.1"
		}
	}
	return net.JoinHostPort(host, port)
}

// authorize shows the hub's --admin-token, if there is one.
func authorize(r *http.Request, token string) {
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
}

// explainDial makes the end of a request that no hub has answered one that says what to do.
func explainDial(err error, address, flag string) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens at %s: is the hub running, and is this its %s address? (%w)", address, flag, syscall.ECONNREFUSED)
	}
	return explainTrust(err)
}
