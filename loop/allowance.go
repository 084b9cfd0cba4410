package loop

import "time"

// A spoke that sends without end would keep a poller, and what answers it a shard, busy without end. The
// others have their turns meanwhile, but turns of a core that is never idle. So reading one spoke takes at most
// Config.SpokeCPU of a core: beyond that it is not read from for a while, and what it sends waits on its own side,
// as flow control has it. What a connection has used is forgotten at the rate at which it may use it.

// allowance is how much of a core's time a connection may take, in microseconds for each stampUnit; 0 sets no limit.
type allowance uint32

func allowanceOf(share float64) allowance {
	if share < 0 {
		return 0
	}
	return allowance(max(1, share*float64(stampUnit/time.Microsecond)))
}

const (
	// leastCharge is what a read costs at least, most of it the system calls. Small ones are not timed.
	leastCharge = 2 * time.Microsecond
	// mostCharge is what one costs at most. Where it seems to take longer, the kernel has had something else to do.
	mostCharge = time.Millisecond
)

// atOnce is what may be used after a rest.
func (a allowance) atOnce() uint32 { return 2 * uint32(a) }

// rested forgets what c has used as long ago as that.
func (c *conn) rested(since stamp) {
	c.spent -= uint32(min(uint64(c.spent), uint64(since)*uint64(c.server.allowance)))
}

// charge notes that c has been worked on for so long, and returns how long it is not to be read from.
func (c *conn) charge(took time.Duration) (wait time.Duration) {
	a := c.server.allowance
	if a == 0 {
		return 0
	}
	c.spent += uint32(min(max(took, leastCharge), mostCharge) / time.Microsecond)
	if c.spent <= a.atOnce() {
		return 0
	}
	over := c.spent - uint32(a) // so that as much is there again as one stampUnit brings
	return time.Duration((over+uint32(a)-1)/uint32(a)) * stampUnit
}

// suspend has c not be read from for a while.
func (c *conn) suspend(wait time.Duration) {
	c.set(flagSuspended)
	c.server.suspensions.Add(1)
	c.server.warnOfSuspension(c)
	repoll(c)
	time.AfterFunc(wait, c.wake)
}

func (c *conn) wake() {
	c.flags.And(^uint32(flagSuspended))
	repoll(c)
	if c.has(flagPaused) {
		c.server.engine.revisit(c)
	}
}
