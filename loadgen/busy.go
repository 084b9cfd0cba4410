package loadgen

import (
	"fmt"
	"os"
	"time"
)

// busyShare is from when on the client counts as the limit: of the cores that it may use, or of a
// reader's time.
const busyShare = 0.9

// usage is what the process and its readers have used until a point in time.
type usage struct {
	cpu     time.Duration
	readers []readerUsage // empty over TLS
}

type readerUsage struct {
	waited int64 // nanoseconds in which there was nothing to read
	cpu    int64 // nanoseconds on a core
}

// usage counts the wait that a reader is in up to the given time.
func (r *run) usage(until int64) usage {
	u := usage{cpu: selfCPU()}
	for _, rd := range r.readers {
		if rd.epoll < 0 {
			continue
		}
		ru := readerUsage{waited: rd.waitedNanos.Load(), cpu: threadCPU(rd.thread.Load())}
		if since := rd.waitsSince.Load(); since != 0 {
			ru.waited += max(0, until-since)
		}
		u.readers = append(u.readers, ru)
	}
	return u
}

// threadCPU returns the nanoseconds that a thread of this process has run, 0 if that is not known.
func threadCPU(id int64) (ran int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/schedstat", id))
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscan(string(text), &ran) // the first of three numbers
	return ran
}

// since says how busy the client was in the wall time until the last arrival. After that it only
// waited.
func (u usage) since(before usage, wall time.Duration) Client {
	c := Client{CPUSeconds: (u.cpu - before.cpu).Seconds(), Cores: cores()}
	c.CPUShare = c.CPUSeconds / wall.Seconds() / float64(c.Cores)
	for i, ru := range u.readers {
		idle := min(max(0, ru.waited-before.readers[i].waited), int64(wall))
		if busy := 1 - float64(idle)/float64(wall); busy >= c.ReaderBusyShare {
			c.ReaderBusyShare = busy
			c.ReaderCPUShare = float64(ru.cpu-before.readers[i].cpu) / float64(wall)
		}
	}
	c.judge()
	return c
}

// judge decides whether the client was the limit. A reader that is always behind is one even when it
// has little of a core: what it measures then is its own delay.
func (c *Client) judge() {
	switch {
	case c.CPUShare > busyShare:
		c.Busy = true
		c.Why = fmt.Sprintf("it used %.0f%% of its %d cores", 100*c.CPUShare, c.Cores)
	case c.ReaderBusyShare > busyShare:
		c.Busy = true
		c.Why = fmt.Sprintf("a thread that reads had something waiting %.0f%% of the time", 100*c.ReaderBusyShare)
		if c.ReaderCPUShare > 0 && c.ReaderCPUShare < 0.8*c.ReaderBusyShare {
			c.Why += fmt.Sprintf(", and a core for %.0f%% of it: it shares them with something as busy, maybe the hub itself", 100*c.ReaderCPUShare)
		}
	}
}
