package loadgen

import (
	"fmt"
	"time"
)

// busyShare is from when on the client counts as the limit: of the cores that it may use, or of a
// reader's time.
const busyShare = 0.9

// usage is what the process and its readers have used until a point in time.
type usage struct {
	cpu    time.Duration
	waited []int64 // nanoseconds in which a reader had nothing to read
}

// usage counts the wait that a reader is in up to the given time.
func (r *run) usage(until int64) usage {
	u := usage{cpu: selfCPU()}
	for _, rd := range r.readers {
		if rd.epoll >= 0 {
			waited := rd.waitedNanos.Load()
			if since := rd.waitsSince.Load(); since != 0 {
				waited += max(0, until-since)
			}
			u.waited = append(u.waited, waited)
		}
	}
	return u
}

// since says how busy the client was in the wall time until the last arrival. After that it only
// waited.
func (u usage) since(before usage, wall time.Duration) Client {
	c := Client{CPUSeconds: (u.cpu - before.cpu).Seconds(), Cores: cores()}
	c.CPUShare = c.CPUSeconds / wall.Seconds() / float64(c.Cores)
	for i, waited := range u.waited {
		idle := min(max(0, waited-before.waited[i]), int64(wall))
		c.ReaderBusyShare = max(c.ReaderBusyShare, 1-float64(idle)/float64(wall))
	}
	c.judge()
	return c
}

// judge decides whether the client was the limit.
func (c *Client) judge() {
	switch {
	case c.CPUShare > busyShare:
		c.Busy = true
		c.Why = fmt.Sprintf("it used %.0f%% of its %d cores", 100*c.CPUShare, c.Cores)
	case c.ReaderBusyShare > busyShare:
		c.Busy = true
		c.Why = fmt.Sprintf("a thread that reads was busy %.0f%% of the time, so events waited for it in its sockets", 100*c.ReaderBusyShare)
	}
}
