package loop

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// The server cases of the Autobahn test suite, written anew under their numbers, for it needs a Python
// that is gone. Each asks for what the suite calls a strict result and a clean close: the right frames in
// the right order, the right code, failure at the first wrong byte, and the server closes. Not here:
// 7.1.6 and 7.13, which have no right answer. Categories 9, 12 and 13 are in autobahn_sizes_test.go.

// step is something that the client sends, and what must come back before it sends on.
type step struct {
	sent []byte
	want []wireFrame
}

type autobahnCase struct {
	name  string
	steps []step
	code  codec.CloseCode // with which the server fails the connection; 0: the client closes
}

func (c *autobahnCase) run(t *testing.T, address string) {
	p := connectBare(t, address)
	for _, s := range c.steps {
		p.write(s.sent)
		for _, f := range s.want {
			p.requireFrame(f.op, []byte(f.payload))
		}
	}
	p.requireOutcome(c.code)
}

// one is a case of one step.
func one(name string, code codec.CloseCode, sent []byte, want ...wireFrame) autobahnCase {
	return autobahnCase{name, []step{{sent, want}}, code}
}

// bytewise is one with every byte in a step of its own; what must come back does so at the end.
func bytewise(name string, code codec.CloseCode, sent []byte, want ...wireFrame) autobahnCase {
	c := autobahnCase{name: name, code: code}
	for i := range sent {
		c.steps = append(c.steps, step{sent: sent[i : i+1]})
	}
	c.steps[len(sent)-1].want = want
	return c
}

func echoed(op ws.OpCode, payload string) wireFrame { return wireFrame{op, payload} }

func autobahnCases() (all []autobahnCase) {
	add := func(cases ...autobahnCase) { all = append(all, cases...) }
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		s := strings.Repeat("*", n)
		add(one(fmt.Sprint("1.1.", i+1), 0, text(s), echoed(ws.OpText, s)))
		s = strings.Repeat("\xfe", n)
		add(one(fmt.Sprint("1.2.", i+1), 0, whole(ws.OpBinary, []byte(s)), echoed(ws.OpBinary, s)))
	}
	for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} { // in chops of 997 bytes
		s := strings.Repeat("*", 65536)
		c := autobahnCase{name: fmt.Sprintf("1.%d.8", op)}
		for b := whole(op, []byte(s)); len(b) > 0; {
			n := min(997, len(b))
			c.steps = append(c.steps, step{sent: b[:n]})
			b = b[n:]
		}
		c.steps[len(c.steps)-1].want = []wireFrame{echoed(op, s)}
		add(c)
	}

	ping := func(s string) []byte { return whole(ws.OpPing, []byte(s)) }
	pong := func(s string) wireFrame { return echoed(ws.OpPong, s) }
	long := strings.Repeat("\xfe", 125)
	add(one("2.1", 0, ping(""), pong("")),
		one("2.2", 0, ping("Hello, world!"), pong("Hello, world!")),
		one("2.3", 0, ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), pong("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")),
		one("2.4", 0, ping(long), pong(long)),
		one("2.5", codec.CloseProtocolError, ping(long+"\xfe")),
		bytewise("2.6", 0, ping(long), pong(long)),
		one("2.7", 0, whole(ws.OpPong, nil)),
		one("2.8", 0, whole(ws.OpPong, []byte("unsolicited"))),
		one("2.9", 0, join(whole(ws.OpPong, []byte("unsolicited")), ping("payload")), pong("payload")))
	var pings []byte
	var pongs []wireFrame
	for i := range 10 {
		s := fmt.Sprint("payload-", i)
		pings, pongs = append(pings, ping(s)...), append(pongs, pong(s))
	}
	add(one("2.10", 0, pings, pongs...), bytewise("2.11", 0, pings, pongs...))

	hello := echoed(ws.OpText, "Hello, world!")
	reserved := func(rsv byte, op ws.OpCode, s string) []byte {
		return frame(ws.Header{Fin: true, Rsv: rsv, OpCode: op}, []byte(s))
	}
	good := text("Hello, world!")
	add(one("3.1", codec.CloseProtocolError, reserved(1, ws.OpText, "Hello, world!")),
		one("3.2", codec.CloseProtocolError, join(good, reserved(2, ws.OpText, "Hello, world!"), ping("")), hello),
		one("3.3", codec.CloseProtocolError, join(good, reserved(3, ws.OpText, "Hello, world!"), ping("")), hello),
		bytewise("3.4", codec.CloseProtocolError, join(good, reserved(4, ws.OpText, "Hello, world!")), hello),
		one("3.5", codec.CloseProtocolError, reserved(5, ws.OpBinary, long)),
		one("3.6", codec.CloseProtocolError, reserved(6, ws.OpPing, "Hello, world!")),
		one("3.7", codec.CloseProtocolError, reserved(7, ws.OpClose, "\x03\xe8")))

	for i := range 5 {
		for group, op := range []ws.OpCode{ws.OpCode(3 + i), ws.OpCode(11 + i)} {
			name := fmt.Sprintf("4.%d.%d", group+1, i+1)
			switch i {
			case 0, 1:
				add(one(name, codec.CloseProtocolError, frame(fin(op), []byte(strings.Repeat("x", i)))))
			case 2, 3:
				add(one(name, codec.CloseProtocolError, join(good, frame(fin(op), []byte(strings.Repeat("x", i-2))), ping("")), hello))
			case 4:
				add(bytewise(name, codec.CloseProtocolError, join(good, frame(fin(op), nil)), hello))
			}
		}
	}

	first, middle, last := func(s string) []byte { return frame(more(ws.OpText), []byte(s)) },
		func(s string) []byte { return frame(more(ws.OpContinuation), []byte(s)) },
		func(s string) []byte { return frame(fin(ws.OpContinuation), []byte(s)) }
	both := echoed(ws.OpText, "fragment1fragment2")
	five := echoed(ws.OpText, "fragment1fragment2fragment3fragment4fragment5")
	two := join(first("fragment1"), last("fragment2"))
	add(one("5.1", codec.CloseProtocolError, join(frame(more(ws.OpPing), []byte("fragment1")), last("fragment2"))),
		one("5.2", codec.CloseProtocolError, join(frame(more(ws.OpPong), []byte("fragment1")), last("fragment2"))),
		one("5.3", 0, two, both),
		autobahnCase{"5.4", []step{{first("fragment1"), nil}, {last("fragment2"), []wireFrame{both}}}, 0},
		bytewise("5.5", 0, two, both),
		one("5.6", 0, join(first("fragment1"), ping("ping payload"), last("fragment2")), pong("ping payload"), both),
		autobahnCase{"5.7", []step{{first("fragment1"), nil}, {ping("ping payload"), []wireFrame{pong("ping payload")}}, {last("fragment2"), []wireFrame{both}}}, 0},
		bytewise("5.8", 0, join(first("fragment1"), ping("ping payload"), last("fragment2")), pong("ping payload"), both))
	lone := func(b []byte) []byte { return join(b, good) }
	add(one("5.9", codec.CloseProtocolError, lone(last("non-continuation payload"))),
		autobahnCase{"5.10", []step{{last("non-continuation payload"), nil}}, codec.CloseProtocolError},
		bytewise("5.11", codec.CloseProtocolError, last("non-continuation payload")[:6]),
		one("5.12", codec.CloseProtocolError, lone(middle("non-continuation payload"))),
		autobahnCase{"5.13", []step{{middle("non-continuation payload"), nil}}, codec.CloseProtocolError},
		bytewise("5.14", codec.CloseProtocolError, middle("non-continuation payload")[:6]),
		one("5.15", codec.CloseProtocolError, join(two, middle("fragment3"), text("fragment4")), both),
		one("5.16", codec.CloseProtocolError, join(middle("fragment1"), first("fragment2"), last("fragment3"))),
		one("5.17", codec.CloseProtocolError, join(last("fragment1"), first("fragment2"), last("fragment3"))),
		one("5.18", codec.CloseProtocolError, join(first("fragment1"), text("fragment2"))))
	before := []step{{join(first("fragment1"), middle("fragment2"), ping("pongme 1!")), []wireFrame{pong("pongme 1!")}}}
	after := []step{{join(middle("fragment3"), ping("pongme 2!"), middle("fragment4")), []wireFrame{pong("pongme 2!")}}, {last("fragment5"), []wireFrame{five}}}
	add(autobahnCase{"5.19", append(before, after...), 0},
		one("5.20", 0, join(before[0].sent, after[0].sent, after[1].sent), pong("pongme 1!"), pong("pongme 2!"), five))
	return append(all, autobahnTexts()...)
}

// autobahnTexts are the cases of category 6 that are about fragments.
func autobahnTexts() (all []autobahnCase) {
	first, middle, last := func(s string) []byte { return frame(more(ws.OpText), []byte(s)) },
		func(s string) []byte { return frame(more(ws.OpContinuation), []byte(s)) },
		func(s string) []byte { return frame(fin(ws.OpContinuation), []byte(s)) }
	add := func(cases ...autobahnCase) { all = append(all, cases...) }
	add(one("6.1.1", 0, text(""), echoed(ws.OpText, "")),
		one("6.1.2", 0, join(first(""), middle(""), last("")), echoed(ws.OpText, "")),
		one("6.1.3", 0, join(first(""), middle("middle frame payload"), last("")), echoed(ws.OpText, "middle frame payload")))
	greeting := "Hello-µ@ßöäüàá-UTF-8!!"
	split := func(s string) (b []byte) {
		for i := range len(s) {
			h := more(ws.OpContinuation)
			if i == 0 {
				h = more(ws.OpText)
			}
			h.Fin = i == len(s)-1
			b = append(b, frame(h, []byte{s[i]})...)
		}
		return b
	}
	add(one("6.2.1", 0, text(greeting), echoed(ws.OpText, greeting)),
		one("6.2.2", 0, join(first("Hello-µ@ßöä"), last("üàá-UTF-8!!")), echoed(ws.OpText, greeting)),
		one("6.2.3", 0, split(greeting), echoed(ws.OpText, greeting)),
		one("6.2.4", 0, split("κόσμε"), echoed(ws.OpText, "κόσμε")))

	const valid, wrong, rest = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", "\xed\xa0\x80", "edited"
	add(one("6.3.1", codec.CloseInvalidUTF8, text(valid+wrong+rest)),
		one("6.3.2", codec.CloseInvalidUTF8, split(valid+wrong+rest)))

	// The close frame must come although the message goes on. A ping shows that the server is content with
	// what is before the wrong byte: in one frame it can only be shown by what does not come, so by the byte.
	const beyond = "\xf4\x90\x80\x80"
	inOne := text(valid + beyond + rest)
	content := step{whole(ws.OpPing, nil), []wireFrame{echoed(ws.OpPong, "")}}
	add(autobahnCase{"6.4.1", []step{{first(valid), nil}, content, {middle(beyond), nil}}, codec.CloseInvalidUTF8},
		autobahnCase{"6.4.2", []step{{first(valid + "\xf4"), nil}, content, {middle("\x90"), nil}}, codec.CloseInvalidUTF8},
		one("6.4.3", codec.CloseInvalidUTF8, inOne[:6+len(valid+beyond)]),
		one("6.4.4", codec.CloseInvalidUTF8, inOne[:6+len(valid)+2]))
	return all
}

// autobahnUTF8 are the groups from 6.5 on, of valid and of invalid texts.
var autobahnUTF8 = []struct {
	valid, invalid []string
}{
	{valid: []string{"hello\x24world", "hello\xc2\xa2world", "hello\xe2\x82\xacworld", "hello\xf0\xa4\xad\xa2world", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"}},
	{ // every beginning of that
		valid:   []string{"\xce\xba", "\xce\xba\xe1\xbd\xb9", "\xce\xba\xe1\xbd\xb9\xcf\x83", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"},
		invalid: []string{"\xce", "\xce\xba\xe1", "\xce\xba\xe1\xbd", "\xce\xba\xe1\xbd\xb9\xcf", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce"},
	},
	{valid: []string{"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}, invalid: []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}},
	{valid: []string{"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}, invalid: []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}},
	{valid: []string{"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf"}, invalid: []string{"\xf4\x90\x80\x80"}},
	{invalid: []string{"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf"}},
	{invalid: []string{"\xc0 \xc1 \xc2 \xc3 ", "\xe0 \xe1 \xe2 ", "\xf0 \xf1 \xf2 ", "\xf8 \xf9 \xfa ", "\xfc "}},
	{invalid: []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}},
	{invalid: []string{"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf"}},
	{invalid: []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}},
	{invalid: []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}},
	{invalid: []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}},
	{invalid: []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}},
	{invalid: []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"}},
	{invalid: []string{"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf", "\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf"}},
	{valid: []string{"\xef\xbf\xbe", "\xef\xbf\xbf", "\xf0\x9f\xbf\xbe", "\xf0\xaf\xbf\xbf", "\xf1\x8f\xbf\xbe", "\xf2\xbf\xbf\xbf", "\xf3\xaf\xbf\xbe", "\xf4\x8f\xbf\xbf"}},
	{valid: []string{"\xef\xbf\xb9", "\xef\xbf\xba", "\xef\xbf\xbb", "\xef\xbf\xbc", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xef\xbf\xbf"}},
}

func TestAutobahn(t *testing.T) {
	cases := autobahnCases()
	for group, g := range autobahnUTF8 {
		for i, s := range g.valid {
			cases = append(cases, one(fmt.Sprintf("6.%d valid %d", 5+group, i+1), 0, text(s), echoed(ws.OpText, s)))
		}
		for i, s := range g.invalid {
			cases = append(cases, one(fmt.Sprintf("6.%d invalid %d", 5+group, i+1), codec.CloseInvalidUTF8, text(s)))
		}
	}
	for name, compress := range map[string]bool{"plain": false, "server with --compress": true} {
		_, address := startEcho(t, fanout.Config{}, Config{Compress: compress})
		for _, c := range cases {
			t.Run(name+"/"+c.name, func(t *testing.T) { c.run(t, address) })
		}
	}
}

// Category 7, where the client begins to close.
func TestAutobahnClose(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	hello, bye := text("Hello World!"), closing(codec.CloseNormal, "")
	for name, c := range map[string]struct {
		sent []byte
		want []wireFrame
		code codec.CloseCode
	}{
		"7.1.1":  {join(hello, bye), []wireFrame{echoed(ws.OpText, "Hello World!")}, codec.CloseNormal},
		"7.1.2":  {join(bye, bye), nil, codec.CloseNormal},
		"7.1.3":  {join(bye, whole(ws.OpPing, nil)), nil, codec.CloseNormal},
		"7.1.4":  {join(bye, hello), nil, codec.CloseNormal},
		"7.1.5":  {join(frame(more(ws.OpText), []byte("fragment1")), bye, frame(fin(ws.OpContinuation), []byte("fragment2"))), nil, codec.CloseNormal},
		"7.1.6":  {join(text(strings.Repeat("BAsd7&jh23", 26214)), hello, bye, whole(ws.OpPing, nil)), []wireFrame{echoed(ws.OpText, strings.Repeat("BAsd7&jh23", 26214)), echoed(ws.OpText, "Hello World!")}, codec.CloseNormal},
		"7.3.1":  {whole(ws.OpClose, nil), nil, codec.CloseNoStatus},
		"7.3.2":  {whole(ws.OpClose, []byte("a")), nil, codec.CloseProtocolError},
		"7.3.3":  {bye, nil, codec.CloseNormal},
		"7.3.4":  {closing(codec.CloseNormal, "Hello World!"), nil, codec.CloseNormal},
		"7.3.5":  {closing(codec.CloseNormal, strings.Repeat("*", 123)), nil, codec.CloseNormal},
		"7.3.6":  {closing(codec.CloseNormal, strings.Repeat("*", 124)), nil, codec.CloseProtocolError},
		"7.5.1":  {closing(codec.CloseNormal, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"), nil, codec.CloseInvalidUTF8},
		"7.13.1": {closing(5000, ""), nil, codec.CloseProtocolError},
		"7.13.2": {join(whole(ws.OpClose, []byte{0, 1, 0, 0})), nil, codec.CloseProtocolError},
	} {
		t.Run(name, func(t *testing.T) { exchange(t, address, c.sent, c.want, c.code) })
	}
	for i, code := range []codec.CloseCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		t.Run(fmt.Sprint("7.7.", i+1), func(t *testing.T) { exchange(t, address, closing(code, ""), nil, code) })
	}
	for i, code := range []codec.CloseCode{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		t.Run(fmt.Sprint("7.9.", i+1), func(t *testing.T) {
			exchange(t, address, closing(code, ""), nil, codec.CloseProtocolError)
		})
	}
}

// 10.1: a message of 64 KiB in fragments of 1300 bytes.
func TestAutobahnAutoFragmentation(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	payload := bytes.Repeat([]byte("*"), 65536)
	p := connectBare(t, address)
	p.write(inFragments(ws.OpText, payload, 1300, false))
	p.requireFrame(ws.OpText, payload)
	p.requireOutcome(0)
}

// inFragments returns the frames of a message, compressed or not, with so many bytes in each.
func inFragments(op ws.OpCode, payload []byte, size int, deflated bool) (b []byte) {
	for i := 0; i == 0 || i < len(payload); i += size {
		end := min(i+size, len(payload))
		h := ws.Header{Fin: end == len(payload), OpCode: op, Rsv: ws.Rsv(deflated, false, false)}
		if i > 0 {
			h.OpCode, h.Rsv = ws.OpContinuation, 0
		}
		b = append(b, frame(h, payload[i:end])...)
	}
	return b
}
