package loadgen

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// reservedDescriptors are those that are no spokes: epoll, standard streams, the publisher, and the
// second one that each handshake under way needs for a moment.
const reservedDescriptors = 32 + handshakesAtOnce

// A LimitError says why this process cannot have so many spokes, and what to do about it.
type LimitError struct{ message string }

func (e *LimitError) Error() string { return e.message }

// checkLimits returns a *LimitError if there are too few descriptors or local ports.
func (c *Config) checkLimits() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		if err := c.checkDescriptors(limit.Cur); err != nil {
			return err
		}
	}
	return c.checkPorts(localPorts())
}

func (c *Config) checkDescriptors(have uint64) error {
	need := uint64(c.Spokes + reservedDescriptors)
	if need <= have {
		return nil
	}
	return &LimitError{fmt.Sprintf("%d spokes need %d file descriptors, this process may have %d: raise the limit (ulimit -n %d), "+
		"or run several load generators with fewer spokes each", c.Spokes, need, have, need)}
}

// checkPorts looks whether each local address has a port for its part of the spokes.
func (c *Config) checkPorts(ports int) error {
	addresses := max(1, len(c.Sources))
	if c.Spokes <= addresses*ports {
		return nil
	}
	need := (c.Spokes + ports - 1) / ports
	return &LimitError{fmt.Sprintf("%d spokes need %d local addresses of about %d ports each, there are %d: "+
		"name more, as in --source 127.0.0.2,127.0.0.3 for a hub on this machine", c.Spokes, need, ports, addresses)}
}

// localPorts returns how many ports the kernel hands out by itself.
func localPorts() int {
	const usual = 60999 - 32768 + 1
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	var low, high int
	if n, _ := fmt.Sscan(string(text), &low, &high); n != 2 || high < low {
		return usual
	}
	return high - low + 1
}
