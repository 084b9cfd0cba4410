package hostile

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// What attackers do before they are spokes, and how they leave.

// slowHandshakes sends requests byte by byte.
func slowHandshakes(a *attacker) {
	interval := 20 * time.Millisecond
	if a.Long {
		interval = time.Second
	}
	a.each(a.pick(100, 3000), func(int) {
		c := a.dial(a.Spokes, 0)
		if c == nil {
			return
		}
		defer c.Close()
		a.units.Add(1)
		for _, b := range request("/ws", false) {
			if !a.send(c, []byte{b}) {
				return
			}
			a.rest(interval)
		}
	})
}

// silence opens connections and says nothing: as many as both sides have descriptors for, less some for
// those who come and go meanwhile.
func silence(a *attacker) {
	a.each(a.pick(500, 19_500), func(int) {
		c := a.dial(a.Spokes, 0)
		if c == nil {
			return
		}
		defer c.Close()
		a.units.Add(1)
		a.awaitEnd(c)
	})
}

// awaitEnd reads until the hub or the attack ends the connection.
func (a *attacker) awaitEnd(c net.Conn) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, c)
	}()
	select {
	case <-ended:
	case <-a.ctx.Done():
		_ = c.Close()
		<-ended
	}
}

// resets connects, says half of a request or all of it, and resets.
func resets(a *attacker) {
	r := request("/ws", false)
	a.each(8, func(i int) {
		c := a.dial(a.Spokes, 0)
		if c == nil {
			return
		}
		if i%4 > 0 {
			_, _ = c.Write(r[:len(r)*min(i%4, 2)/2])
		}
		_ = c.Close()
		a.units.Add(1)
	})
}

// headless sends the head of a request that does not end.
func headless(a *attacker) {
	line := bytes.Repeat([]byte("x"), 64<<10)
	a.each(8, func(int) {
		c := a.dial(a.Spokes, 0)
		if c == nil {
			return
		}
		defer c.Close()
		if a.send(c, []byte("GET /ws HTTP/1.1\r\nHost: ")) {
			a.send(c, line)
		}
		a.units.Add(1)
	})
}

// vanished connects spokes and makes their kernel discard whatever comes from then on: a socket filter
// that lets nothing through, so nothing is acknowledged, as if the cable had been cut.
// The hub must find out by itself: they do not even close.
func vanished(a *attacker) {
	a.crowd(a.pick(50, 2000), manner{path: "/ws?topic=*", stays: true}, func(_ int, c *net.TCPConn) {
		rc, err := c.SyscallConn()
		if err == nil {
			nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
			err = rc.Control(func(fd uintptr) {
				err := unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
				if err != nil {
					panic(err)
				}
			})
		}
		if err != nil {
			panic(err)
		}
	})
}

// closes has spokes leave all at once, again and again.
func closes(a *attacker) {
	bye := frame(ws.OpClose, nil)
	a.each(1, func(int) {
		var burst []net.Conn
		for range a.pick(50, 1000) {
			if c := a.spoke(manner{}); c != nil {
				burst = append(burst, c)
			}
		}
		for _, c := range burst {
			_, _ = c.Write(bye)
			a.units.Add(1)
		}
		for _, c := range burst {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	})
}

// slowReader takes a byte a second while events for it go on.
func slowReader(a *attacker) {
	a.crowd(a.pick(50, 1000), manner{path: "/ws?topic=*", receiveBytes: 4 << 10}, func(_ int, c *net.TCPConn) {
		one := make([]byte, 1)
		for !a.over() {
			if _, err := c.Read(one); err != nil {
				return
			}
			a.rest(time.Second)
		}
	})
}

// What attackers send as spokes.

func pings(a *attacker) {
	b, n := a.repeated(frame(ws.OpPing, nil))
	a.flood(4, manner{reads: true}, n, b)
}

func largePings(a *attacker) {
	b, n := a.repeated(frame(ws.OpPing, bytes.Repeat([]byte("p"), 125)))
	a.flood(4, manner{reads: true}, n, b)
}

func pingsUnread(a *attacker) {
	b, n := a.repeated(frame(ws.OpPing, bytes.Repeat([]byte("p"), 125)))
	a.flood(8, manner{receiveBytes: 4 << 10}, n, b)
}

func fragments(a *attacker) {
	message := []byte(`{"type":"a","payload":"` + strings.Repeat("x", a.pick(1000, 10_000)) + `"}`)
	var b []byte
	for i, c := range message {
		h := ws.Header{OpCode: ws.OpContinuation, Fin: i == len(message)-1}
		if i == 0 {
			h.OpCode = ws.OpText
		}
		b = append(b, framed(h, []byte{c})...)
	}
	a.flood(4, manner{reads: true}, len(message), b)
}

func emptyFrames(a *attacker) {
	b, n := a.repeated(framed(ws.Header{OpCode: ws.OpContinuation}, nil))
	a.flood(4, manner{reads: true}, n, b, framed(ws.Header{OpCode: ws.OpText}, nil))
}

func emptyMessages(a *attacker) {
	b, n := a.repeated(frame(ws.OpText, nil))
	a.flood(4, manner{reads: true}, n, b)
}

// envelope returns the frame of an event with a payload of so many bytes.
func envelope(payloadBytes int) []byte {
	return text(`{"type":"flood","payload":"` + strings.Repeat("x", payloadBytes) + `"}`)
}

func largeMessages(a *attacker) {
	b := envelope(64<<10 - 100)
	a.flood(4, manner{reads: true}, len(b)>>10, b)
}

func smallMessages(a *attacker) {
	b, n := a.repeated(envelope(2))
	a.flood(4, manner{reads: true}, n, b)
}

// endless sends all but the last byte of a message, and keeps the connection.
func endless(a *attacker) {
	b := envelope(64<<10 - 100)
	a.crowd(a.pick(50, 5000), manner{reads: true}, func(_ int, c *net.TCPConn) { a.send(c, b[:len(b)-1]) })
}

func badAtOnce(a *attacker) {
	b, n := a.repeated(text("x"))
	a.flood(4, manner{reads: true}, n, b)
}

func badAtTheEnd(a *attacker) {
	b := text(`{"type":"flood","payload":"` + strings.Repeat("x", 64<<10-100) + `"]`)
	a.flood(4, manner{reads: true}, 1, b)
}

func deep(a *attacker) {
	b := text(`{"type":"flood","payload":` + strings.Repeat("[", 60_000))
	a.flood(4, manner{reads: true}, 1, b)
}

func hugeIDs(a *attacker) {
	b := text(`{"type":"flood","id":"` + strings.Repeat("x", 60_000) + `"}`)
	a.flood(4, manner{reads: true}, 1, b)
}

func brokenFrames(a *attacker) {
	a.flood(8, manner{reads: true}, 1, []byte{0xff, 0xff, 0xff, 0xff})
}

// subscriptions come and go, each of another topic.
func subscriptions(a *attacker) {
	var b []byte
	n := a.pick(16, 512)
	for _, typ := range []string{"__subscribe", "__unsubscribe"} {
		for i := range n {
			b = append(b, text(fmt.Sprintf(`{"type":%q,"id":"flood:%d"}`, typ, i))...)
		}
	}
	a.flood(4, manner{reads: true}, 2*n, b)
}

func subscriptionsUnread(a *attacker) {
	b, n := a.repeated(text(`{"type":"__subscribe","id":"flood:1"}`))
	a.flood(8, manner{receiveBytes: 4 << 10}, n, b)
}

// widePattern is left and joined again by spokes among many that stay in it, while its events flow.
func widePattern(a *attacker) {
	var crowd sync.WaitGroup
	defer crowd.Wait()
	crowd.Go(func() {
		a.crowd(a.pick(100, 200), manner{path: "/ws?topic=watch:*", reads: true}, func(int, *net.TCPConn) {})
	})
	b, n := a.repeated(append(text(`{"type":"__unsubscribe","id":"watch:*"}`), text(`{"type":"__subscribe","id":"watch:*"}`)...))
	a.flood(4, manner{reads: true}, 2*n, b)
}

// coveringPattern has many topics, and a pattern over all of them that comes and goes.
func coveringPattern(a *attacker) {
	b, n := a.repeated(append(text(`{"type":"__subscribe","id":"flood:*"}`), text(`{"type":"__unsubscribe","id":"flood:*"}`)...))
	a.flood(4, manner{reads: true}, 2*n, b, topics(0, 1023, 5))
}

// topics subscribes to so many, with ids of so many bytes.
func topics(number, n, idBytes int) (b []byte) {
	for from := 0; from < n; from += 200 {
		var list []string
		for i := range min(200, n-from) {
			list = append(list, fmt.Sprintf(`"flood:%d-%0*d"`, number, idBytes, from+i))
		}
		b = append(b, text(`{"type":"__subscribe","payload":{"topics":[`+strings.Join(list, ",")+`]}}`)...)
	}
	return b
}

// manyTopics has spokes that subscribe to as many as they may, nobody else's and with long ids.
func manyTopics(a *attacker) {
	a.crowd(a.pick(5, 500), manner{reads: true}, func(i int, c *net.TCPConn) { a.send(c, topics(i, 1024, 240)) })
}

// tooManyTopics names thousands in one message.
func tooManyTopics(a *attacker) {
	list := strings.Repeat(`"a:1",`, 10_000)
	b := text(`{"type":"__unsubscribe","payload":{"topics":[` + list[:len(list)-1] + `]}}`)
	a.flood(4, manner{reads: true}, 1, b)
}

// bombs are events of 64 KiB in some hundred bytes.
func bombs(a *attacker) {
	b, n := a.repeated(deflated([]byte(`{"type":"flood","payload":"` + strings.Repeat("x", 64<<10-100) + `"}`)))
	a.flood(4, manner{deflate: true, reads: true}, n, b)
}

// heavyBombs would be 64 MiB each, 1 MiB in the short form.
func heavyBombs(a *attacker) {
	b := deflated(bytes.Repeat([]byte("x"), a.pick(1<<20, 64<<20)))
	a.flood(4, manner{deflate: true, reads: true}, 1, b)
}

// slowDeflate is data made to be slow: last blocks of two bytes.
func slowDeflate(a *attacker) {
	b := compressed(bytes.Repeat([]byte{0x03, 0x00}, 32<<10))
	a.flood(4, manner{deflate: true, reads: true}, 1, b)
}

// slowTables is the same: dynamic Huffman blocks of 90 bits, each with tables for the end of the block alone.
func slowTables(a *attacker) {
	block := "0" + "01" + // not the last, dynamic
		"00000" + "00000" + "0111" + // 257 literals and lengths, 1 distance, 18 lengths of codes for lengths:
		"000000" + "100" + strings.Repeat("000", 14) + "100" + // 1 bit for a run of zeros, and for a one
		"1" + "1111111" + "1" + "1101011" + "0" + "0" + // 138 and 118 zeros; the end of the block, a distance
		"0" // the end of the block
	four := make([]byte, len(block)/2) // as many bytes as four blocks have
	for i, bit := range strings.Repeat(block, 4) {
		four[i/8] |= byte(bit-'0') << (i % 8)
	}
	b := compressed(append(bytes.Repeat(four, 64<<10/len(four)), 0))
	a.flood(4, manner{deflate: true, reads: true}, 1, b)
}

// What attackers do to the admin side.

func slowAdmin(a *attacker) {
	a.each(a.pick(50, 1000), func(int) {
		c := a.dial(a.Admin, 0)
		if c == nil {
			return
		}
		defer c.Close()
		a.units.Add(1)
		for a.send(c, []byte("x")) {
			a.rest(50 * time.Millisecond)
		}
	})
}

// adminBodies are as large as the hub lets them be, and every other one is announced as larger.
func adminBodies(a *attacker) {
	chunk := bytes.Repeat([]byte("["), a.pick(2<<20, 1<<20)) // of which the short form sends four
	a.each(a.pick(2, 4), func(i int) {
		c := a.dial(a.Admin, 0)
		if c == nil {
			return
		}
		defer c.Close()
		length := 8 << 20
		if i%2 > 0 {
			length = 1e9
		}
		if !a.send(c, fmt.Appendf(nil, "POST /v1/events HTTP/1.1\r\nHost: hub.example\r\nContent-Length: %d\r\n\r\n", length)) {
			return
		}
		for ; length > 0 && a.send(c, chunk); length -= len(chunk) {
			a.units.Add(int64(len(chunk) >> 20))
		}
	})
}

// adminStreams asks for streams and does not read them, while spokes send events for them.
func adminStreams(a *attacker) {
	var streams sync.WaitGroup
	defer streams.Wait()
	for range 40 { // more than there may be
		streams.Go(func() {
			if c := a.dial(a.Admin, 4<<10); c != nil {
				defer c.Close()
				a.send(c, []byte("GET /v1/events HTTP/1.1\r\nHost: hub.example\r\n\r\n"))
				<-a.ctx.Done()
			}
		})
	}
	b := envelope(1000)
	a.each(2, func(int) {
		c := a.spoke(manner{reads: true})
		if c == nil {
			return
		}
		defer c.Close()
		for left := times; (a.Long || left > 0) && a.send(c, b); left-- {
			a.units.Add(1)
			a.pause()
		}
	})
}
