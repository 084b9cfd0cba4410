package loop

import (
	"unsafe"

	"github.com/alkdev/hub/internal/verify"
)

// Who touches what is checked here, with HUB_VERIFY=1. The functions of nbio are hidden from the race
// detector, and with them what a connection gets from hand to hand through the engine: two that read
// it at once would not be seen.

// checkRead holds that the caller has the reading side.
func (c *conn) checkRead() {
	verify.Check(c.has(flagReading), "a connection is read, and nobody has said so: flags %b", c.flags.Load())
}

// checkWrite holds that the caller is the shard, or before the upgrade whoever reads.
func (c *conn) checkWrite() {
	f := c.flags.Load() // once: while its welcome is written, a spoke may become one, and not be read any more
	if f&flagTLS != 0 && f&(flagShaking|flagCloseSent) != 0 {
		return // the handshake's goroutine; or close_notify, by whoever finds that all else has left
	}
	if f&flagUpgraded != 0 {
		c.spoke.CheckWrite(c.inFlight.Load())
		return
	}
	verify.Check(f&flagReading != 0, "a write before the upgrade by somebody who does not read: flags %b", f)
}

// enterSide notes that somebody is in one side of the connection, until leaveSide.
func (c *conn) enterSide(side uint32) {
	verify.Check(c.set(side), "two at once in one side of a connection: flags %b", c.flags.Load())
}

func (c *conn) leaveSide(side uint32) { c.flags.And(^side) }

// checkPoller holds that a poller's buffer is used by that poller alone.
func (e *engine) checkPoller(buf []byte) {
	own := verify.Goroutine()
	owner, _ := e.pollers.LoadOrStore(unsafe.SliceData(buf), own)
	verify.Check(owner == own, "goroutine %d has the buffer of poller %d", own, owner)
}
