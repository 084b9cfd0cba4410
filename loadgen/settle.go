package loadgen

import (
	"errors"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
)

const (
	// settleLimit bounds the wait for what still trickles in.
	settleLimit = time.Minute
	// goodbyeTimeout is how long the hub may take to answer the close frames at the end.
	goodbyeTimeout = 2 * time.Second
	// lookAgain is how often conditions without a signal of their own are looked at.
	lookAgain = 2 * time.Millisecond
)

// settle waits until everything is there, or nothing has come for too long.
func (r *run) settle() {
	began := now()
	for {
		under, _ := r.ledger.underWay()
		quiet := time.Duration(now() - r.ledger.lastArrival.Load())
		if under == 0 || quiet >= r.config.Patience || now()-began > int64(settleLimit) {
			return
		}
		t := time.NewTimer(r.config.Patience - quiet)
		select {
		case <-r.ledger.arrivalsc:
		case <-t.C:
		}
		t.Stop()
	}
}

// examineStalled reads what is there for the stalled spokes, up to the end of their connections if
// the hub has ended them.
func (r *run) examineStalled() {
	r.drained.Store(now())
	waiting := r.resume()
	quiet := int64(min(r.config.Patience, time.Second))
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for began := now(); now()-r.drained.Load() < quiet && now()-began < int64(settleLimit); <-tick.C {
		open := false
		for _, sp := range waiting {
			rd := r.readerOf(sp)
			rd.mu.Lock()
			open = open || sp.phase == draining
			rd.mu.Unlock()
			if open {
				break
			}
		}
		if !open {
			return
		}
	}
}

// resume makes the stalled spokes read again, and returns them. Later calls do nothing.
func (r *run) resume() (resumed []*spoke) {
	if r.resumed {
		return nil
	}
	r.resumed = true
	for _, sp := range r.spokes {
		rd := r.readerOf(sp)
		rd.mu.Lock()
		if sp.phase == stalled {
			sp.phase = draining
			resumed = append(resumed, sp)
			if sp.fd >= 0 {
				if err := rd.watch(sp.fd, sp.index); err != nil {
					rd.endLocked(sp, err)
				}
			}
		}
		rd.mu.Unlock()
	}
	close(r.resumec)
	return resumed
}

var errOurs = errors.New("closed by the load generator")

// disconnect takes leave of the hub with 1000, and resets what is still connected after a while.
func (r *run) disconnect() {
	r.resume()
	body := ws.NewCloseFrameBody(ws.StatusCode(codec.CloseNormal), "")
	open := int64(0)
	ended := r.endings.Load()
	for _, sp := range r.spokes {
		rd := r.readerOf(sp)
		rd.mu.Lock()
		if sp.phase != dialing && sp.phase != gone {
			open++
			if sp.phase != closing {
				rd.leaveLocked(sp)
				sp.phase = closing
				sp.send(ws.OpClose, body)
			}
		}
		rd.mu.Unlock()
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for began := now(); r.endings.Load()-ended < open && now()-began < int64(goodbyeTimeout); {
		<-tick.C
	}
	for _, sp := range r.spokes {
		rd := r.readerOf(sp)
		rd.mu.Lock()
		if sp.phase != dialing && sp.phase != gone {
			if sp.fd >= 0 {
				_ = unix.SetsockoptLinger(sp.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			}
			rd.endLocked(sp, errOurs)
		}
		rd.mu.Unlock()
	}
}
