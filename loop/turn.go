package loop

import "time"

// A poller serves its connections in turn, and what a spoke sends is worked on at once. So that one that
// sends without end, or what is dear to work on, does not keep the others waiting, a turn ends when
// its time is over, and a connection whose bytes have turned out to be dear is read in smaller portions:
// 64 KiB of compressed messages may be 30 MiB inflated.
const (
	// turnTime is how long a connection is read from before the others have a turn.
	turnTime = 100 * time.Microsecond
	// smallRead is the smallest portion; reads of less are not even timed.
	smallRead = 512
	// compressedRead bounds the portions of a spoke that may compress: before it is known how dear they
	// are, one of 64 KiB could keep a poller for a tenth of a second.
	compressedRead = 4 << 10
	// firstDear is how dear a connection is taken to be before that is known: a portion of 64 KiB may be ten
	// thousand messages. Who is cheap has whole portions after as many reads.
	firstDear = 4
	// cipherRead bounds the portions of a connection with TLS, as they arrive. What they cost is not known until
	// a record is complete, which is worked on in portions of its own then.
	cipherRead = 16 << 10
	// firstRead bounds what is read of a connection in the moment it is accepted: mostly a request.
	firstRead = 2 << 10
)

// portion returns how many bytes are read from c at once, into a buffer of size bytes.
func (c *conn) portion(size int) int {
	if c.has(flagTLS) {
		return min(size, cipherRead)
	}
	return c.affordable(size)
}

// affordable returns how many of size bytes are worked on at once. What is behind the request for a handshake
// may be compressed already.
func (c *conn) affordable(size int) int {
	f := c.flags.Load()
	if f&(flagCompressed|flagUpgraded) != flagUpgraded {
		size = min(size, compressedRead)
	}
	if f&flagUpgraded == 0 { // most of it is a request
		return size
	}
	return min(size, max(size>>c.dear, smallRead))
}

// pricePlain is price, but for TLS: that counts when records are opened.
func (c *conn) pricePlain(portion int, took time.Duration) {
	if !c.has(flagTLS) {
		c.price(portion, took)
	}
}

// price notes that a portion took so long to be worked on. The next are halved until they should take
// less than half a turn, or doubled if it took less than an eighth.
func (c *conn) price(portion int, took time.Duration) {
	if took < turnTime/8 && c.dear > 0 {
		c.dear--
	}
	for ; took > turnTime/2 && portion > smallRead; took, portion = took/2, portion/2 {
		c.dear++
	}
}
