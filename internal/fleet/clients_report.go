package fleet

import "fmt"

// begin makes every client count from 0.
func (c *clients) begin(ev Event) error {
	c.frameBytes = 0
	if ev.Marker == "" {
		c.frameBytes = uint64(len(ev.Frame))
	}
	groups, inflates := uint64(max(1, c.config.Groups)), newInflater()
	members := make([]int32, groups)
	for i := range c.all {
		cl := &c.all[i]
		if cl.phase != counting {
			continue
		}
		if cl.fd < 0 {
			return fmt.Errorf("client %d is not connected any more", i)
		}
		members[cl.group]++
		cl.bytes, cl.frames, cl.stream = 0, 0, nil
		switch {
		case len(ev.Messages) > 0:
			cl.stream = newCutter(&ev, cl, groups, c.config.Deflate, inflates)
		case cl.check || ev.Marker != "":
			cl.stream = newStream(&ev, cl.group, groups)
		}
	}
	if c.config.Groups > 0 {
		c.groups.begin(members)
	} else {
		c.tally.begin(int(members[0]))
	}
	return nil
}

// report looks whether every client has got everything, and nothing else.
func (c *clients) report() (n Count, err error) {
	published := c.board.published.Load()
	for i := range c.all {
		cl := &c.all[i]
		if cl.phase != counting {
			continue
		}
		n.Bytes += cl.bytes
		want := published
		if groups := uint64(c.config.Groups); groups > 0 {
			want = (published + groups - 1 - cl.group) / groups
		}
		switch {
		case cl.frames != want || cl.bytes%max(1, c.frameBytes) != 0:
			return n, fmt.Errorf("client %d has got %d events of %d, %d bytes", i, cl.frames, want, cl.bytes)
		case cl.stream != nil && cl.stream.broken() != nil:
			return n, fmt.Errorf("client %d: %w", i, cl.stream.broken())
		}
	}
	if c.config.Groups > 0 {
		n.take(&c.groups.latency)
	} else {
		n.take(&c.tally.latency)
	}
	return n, c.failure
}
