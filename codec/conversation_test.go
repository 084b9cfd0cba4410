package codec

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// conversation is what one client has sent, see testdata/conversations/README.md.
type conversation struct {
	name     string
	sent     []byte // behind the handshake
	inflates bool   // compression was offered, and so negotiated
	want     string // what is to be read, in the form of describe
}

func conversations(t testing.TB) (all []conversation) {
	t.Helper()
	files, err := filepath.Glob("testdata/conversations/*.bin")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		head, sent, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		require.True(t, ok, "%s has no handshake", file)
		want, err := os.ReadFile(strings.TrimSuffix(file, ".bin") + ".want")
		require.NoError(t, err)
		all = append(all, conversation{
			name: strings.TrimSuffix(filepath.Base(file), ".bin"), sent: sent,
			inflates: bytes.Contains(head, []byte("permessage-deflate")), want: string(want),
		})
	}
	return all
}

// conversationMax is the largest message in them.
const conversationMax = 1200

// manner is one of the ways in which a reader deals with compressed messages.
type manner struct {
	eager    bool
	gathered int // of a message that is not complete, before it is looked at
}

var manners = []manner{{false, maxGatheredBytes}, {true, 0}}

// outcome is what a MessageReader makes of b, fed in pieces, and the code with which it ends, or 0.
func outcome(b []byte, max int, inflates bool, m manner, size func() int) ([]message, CloseCode) {
	got, err := readCutBy(&MessageReader{Inflate: inflates, eager: m.eager}, b, max, size)
	var bad *ProtocolError
	if errors.As(err, &bad) {
		return got, bad.Code
	}
	return got, 0
}

var opcodeNames = map[Opcode]string{Text: "text", Binary: "binary", Close: "close", Ping: "ping", Pong: "pong"}

// describe returns a line for every message, with the checksum of a long one, and the end.
func describe(messages []message, code CloseCode) string {
	var s strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&s, "%s %d %.80q %08x\n", opcodeNames[m.op], len(m.payload), m.payload, crc32.ChecksumIEEE([]byte(m.payload)))
	}
	if code != 0 {
		fmt.Fprintf(&s, "fails with %d\n", code)
	}
	return s.String()
}

func TestConversationsAreReadTheSameAtEverySplit(t *testing.T) {
	for _, c := range conversations(t) {
		t.Run(c.name, func(t *testing.T) {
			for _, m := range manners {
				want, code := reference(c.sent, conversationMax, c.inflates, m.gathered)
				require.Equal(t, c.want, describe(want, code), "by the reference")
				for cut := range len(c.sent) + 1 { // in two; 0 is whole
					sizes := []int{cut, len(c.sent)}
					got, gotCode := outcome(c.sent, conversationMax, c.inflates, m, func() (n int) {
						if n, sizes = sizes[0], sizes[1:]; n == 0 {
							n = len(c.sent)
						}
						return n
					})
					require.Equal(t, code, gotCode, "cut at %d", cut)
					require.Equal(t, want, got, "cut at %d", cut)
				}
				got, gotCode := outcome(c.sent, conversationMax, c.inflates, m, func() int { return 1 })
				require.Equal(t, code, gotCode, "byte by byte")
				require.Equal(t, want, got, "byte by byte")
			}
		})
	}
}

// What is wrong fails at the byte that makes it so: a text at the first byte that no valid UTF-8 can
// have there, a long compressed message where the inflater finds it, all else with the header or the end
// of its frame.
func TestConversationsFailAsSoonAsTheyAreWrong(t *testing.T) {
	for _, c := range conversations(t) {
		t.Run(c.name, func(t *testing.T) {
			first := func(fails func(b []byte) CloseCode) int {
				for n := range len(c.sent) + 1 {
					if fails(c.sent[:n]) != 0 {
						return n
					}
				}
				return -1
			}
			for _, m := range manners {
				want := first(func(b []byte) CloseCode {
					_, code := reference(b, conversationMax, c.inflates, m.gathered)
					return code
				})
				require.Equal(t, strings.Contains(c.want, "fails"), want >= 0)
				require.Equal(t, want, first(func(b []byte) CloseCode {
					_, code := outcome(b, conversationMax, c.inflates, m, func() int { return 1 })
					return code
				}))
			}
		})
	}
}
