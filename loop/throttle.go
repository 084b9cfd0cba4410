package loop

import (
	"encoding/binary"
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// throttle says how fast handshakes may come: Config.ConnectRate in all, Config.ConnectRatePerIP from
// one address. What it refuses counts for nothing: who keeps trying, however fast, gets in at the rate,
// not never. One address that has used its rate up takes nothing from the others.
//
// Each limit is a virtual clock that a handshake puts forward by what it may take ("generic cell rate
// algorithm"): one number where a bucket of tokens needs two.
type throttle struct {
	// Set by newThrottle, read-only afterwards.
	all, each pace

	mu sync.Mutex // a leaf
	// +checklocks:mu
	clock time.Duration // of all
	// +checklocks:mu
	invited time.Duration // when the last one that was refused for all has been asked to come back
	// +checklocks:mu
	addresses *addressClocks // nil while addresses do not count
}

// newThrottle returns nil if there is no limit.
func newThrottle(c *Config) *throttle {
	if c.ConnectRate == 0 && c.ConnectRatePerIP == 0 {
		return nil
	}
	t := &throttle{all: paceOf(c.ConnectRate, c.ConnectRate), each: paceOf(c.ConnectRatePerIP, c.ConnectBurstPerIP)}
	if c.ConnectRatePerIP > 0 {
		t.addresses = newAddressClocks()
	}
	return t
}

// throttled says that a handshake comes too fast.
func (c *conn) throttled() *refusal {
	t := c.server.throttle
	if t == nil {
		return nil
	}
	over, wait := t.take(c.addr(), time.Since(c.server.began))
	switch {
	case wait == 0:
		return nil
	case over == RefusedRateForIP:
		return &refusal{status: http.StatusTooManyRequests, problem: "too many handshakes from this address", why: over, wait: wait}
	default:
		return &refusal{status: http.StatusServiceUnavailable, problem: "too many handshakes at the moment", why: over, wait: wait}
	}
}

// longestWait bounds the Retry-After of those who are too many.
const longestWait = time.Minute

// take lets a handshake from this address in, or says which limit it is over and when to come back. now
// goes forward. Whose address is unknown is not counted among those from one.
func (t *throttle) take(from netip.Addr, now time.Duration) (over RefusalReason, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var own *addressClock
	if t.addresses != nil && from.IsValid() {
		if own = t.addresses.of(keyOf(from)); !t.each.fits(own.clock, now) {
			return RefusedRateForIP, t.each.wait(own.clock, now)
		}
	}
	if t.all.every > 0 {
		if !t.all.fits(t.clock, now) {
			// Everybody gets a moment of their own: who is told the same comes back together.
			t.invited = min(max(t.invited, now)+t.all.every, now+longestWait)
			return RefusedRate, t.invited - now
		}
		t.all.take(&t.clock, now)
	}
	if own != nil {
		t.each.take(&own.clock, now)
	}
	return 0, 0
}

// pace is a rate, and how much of it may come at once.
type pace struct {
	every time.Duration // of time for one; 0 for no limit
	ahead time.Duration // how far a clock may be ahead of the time
}

func paceOf(perSecond, burst int) pace {
	if perSecond == 0 {
		return pace{}
	}
	every := time.Second / time.Duration(perSecond)
	return pace{every, every * time.Duration(max(burst, 1)-1)}
}

// fits reports whether one more may come.
func (p pace) fits(clock, now time.Duration) bool { return clock-now <= p.ahead }

// wait is how long it is until one more may.
func (p pace) wait(clock, now time.Duration) time.Duration { return clock - now - p.ahead }

func (p pace) take(clock *time.Duration, now time.Duration) { *clock = max(*clock, now) + p.every }

// addressKey is an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber has at
// least. The former stand where 0:ffff::/32 would, which belongs to nobody.
type addressKey uint64

func keyOf(a netip.Addr) addressKey {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return 0xffff<<32 | addressKey(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return addressKey(binary.BigEndian.Uint64(b[:8]))
}

// addressClocks are the clocks of the addresses seen lately, 65,536 at most, in 1 MiB that is there from
// the start: a flood of addresses neither grows it nor has anything swept. An address has one of eight
// places, which ones is not to be foreseen from outside. A new one takes the place of the clock that is
// the furthest back: of an address that may have all of its burst again, if there is one, and if not of
// the one that is the nearest to that, which thereby gets it early.
type addressClocks struct {
	seed   maphash.Seed
	places [8192][8]addressClock
}

type addressClock struct {
	key   addressKey
	clock time.Duration
}

func newAddressClocks() *addressClocks { return &addressClocks{seed: maphash.MakeSeed()} }

// of returns the clock of an address. The place that nobody has taken is as good as one that was given up.
func (a *addressClocks) of(key addressKey) *addressClock {
	places := &a.places[maphash.Comparable(a.seed, key)%uint64(len(a.places))]
	oldest := &places[0]
	for i := range places {
		p := &places[i]
		if p.key == key {
			return p
		}
		if p.clock < oldest.clock {
			oldest = p
		}
	}
	*oldest = addressClock{key: key}
	return oldest
}
