package loop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// closeCodes are the edges of what may stand in a close frame (RFC 6455 sections 7.4.1 and 7.4.2). 1012
// to 1014 were registered with IANA later.
var closeCodes = []struct {
	from, to codec.CloseCode
	valid    bool
}{
	{0, 0, false}, {1, 1, false}, {999, 999, false},
	{1000, 1003, true},
	{1004, 1006, false},
	{1007, 1014, true},
	{1015, 1017, false}, {1099, 1101, false}, {1999, 2001, false}, {2998, 2999, false},
	{3000, 3001, true}, {3999, 4001, true}, {4998, 4999, true},
	{5000, 5001, false}, {65535, 65535, false},
}

func TestRFC6455Section74CloseCodes(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	for _, c := range closeCodes {
		for code := int(c.from); code <= int(c.to); code++ {
			t.Run(fmt.Sprint(code), func(t *testing.T) {
				p := connectBare(t, address)
				p.write(closing(codec.CloseCode(code), "because"))
				if c.valid {
					require.Equal(t, "because", p.requireClose(codec.CloseCode(code)))
				} else {
					p.requireClose(codec.CloseProtocolError)
				}
				p.requireEnd()
			})
		}
	}
}

func TestRFC6455Section551CloseFrames(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	for _, c := range []struct {
		name string
		body string
		code codec.CloseCode
	}{
		{"5.5.1 no body", "", codec.CloseNoStatus},
		{"5.5.1 half a code", "\x03", codec.CloseProtocolError},
		{"5.5.1 a code alone", "\x03\xe8", codec.CloseNormal},
		{"5.5.1 the longest reason", "\x03\xe8" + strings.Repeat("é", 61) + "x", codec.CloseNormal},
		{"8.1 a reason that is not UTF-8", "\x03\xe8\xce\xba\xe1\xbd\xb9\xed\xa0\x80", codec.CloseInvalidUTF8},
		{"8.1 a reason that is cut off", "\x03\xe8\xe2\x82", codec.CloseInvalidUTF8},
	} {
		t.Run(c.name, func(t *testing.T) {
			exchange(t, address, whole(ws.OpClose, []byte(c.body)), nil, c.code)
		})
	}
}

// The server answers a close frame, sends nothing more (5.5.1), takes nothing more (1.4), and is the one
// that closes the connection (7.1.1).
func TestRFC6455Section7ClosingHandshakeOfTheClient(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{})
	bye := closing(codec.CloseNormal, "bye")
	for name, sent := range map[string][]byte{
		"alone":                    bye,
		"a ping behind it":         join(bye, whole(ws.OpPing, nil)),
		"a message behind it":      join(bye, text("late")),
		"another behind it":        join(bye, closing(4000, "")),
		"nonsense behind it":       join(bye, []byte{0xff, 0xff, 0xff}),
		"within a message":         join(frame(more(ws.OpText), []byte("half")), bye),
		"the rest of a message":    join(frame(more(ws.OpText), []byte("half")), bye, frame(fin(ws.OpContinuation), nil)),
		"a frame begins behind it": join(bye, text("late")[:3]),
	} {
		t.Run(name, func(t *testing.T) {
			p := connectBare(t, address)
			p.write(join(text("first"), sent))
			p.requireFrame(ws.OpText, []byte("first"))
			require.Equal(t, "bye", p.requireClose(codec.CloseNormal))
			p.requireEnd()
		})
	}
}

// 7.1.2: the server begins, reads on until the client answers, answers nothing meanwhile, and closes.
func TestRFC6455Section7ClosingHandshakeOfTheServer(t *testing.T) {
	for name, answer := range map[string][]byte{
		"with the same code":    closing(4000, "enough"),
		"with another code":     closing(codec.CloseNormal, ""),
		"without a code":        whole(ws.OpClose, nil),
		"behind other frames":   join(text("late"), whole(ws.OpPing, nil), closing(4000, "")),
		"in the middle of some": join(frame(more(ws.OpText), []byte("half")), closing(4000, "")),
	} {
		t.Run(name, func(t *testing.T) {
			var hc fanout.Config
			life := watch(&hc)
			_, address := startEcho(t, hc, Config{CloseTimeout: time.Minute})
			p := connectBare(t, address)
			receive(t, life.began, "the spoke connects").Close(4000, "enough")
			require.Equal(t, "enough", p.requireClose(4000))
			require.Empty(t, life.ended)
			for _, b := range answer {
				p.write([]byte{b})
			}
			p.requireEnd()
			require.Equal(t, fanout.LocalSide, receive(t, life.ended, "the spoke is gone").Side)
		})
	}
}
