package loop

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// Conversations that package codec reads at every split (see codec/testdata/conversations) are answered
// the same, byte for byte, by a real connection that gets them in two parts, cut anywhere.
func TestConversationsAreAnsweredTheSameAtEverySplit(t *testing.T) {
	_, address := startEcho(t, fanout.Config{}, Config{Compress: true, MaxMessageBytes: 1200})
	for _, name := range []string{"node_ws", "coder_deflate", "bad_utf8_in_a_fragment", "deflate_rsv1_on_a_continuation"} {
		t.Run(name, func(t *testing.T) {
			sent, err := os.ReadFile(filepath.Join("../codec/testdata/conversations", name+".bin"))
			require.NoError(t, err)
			want := answersTo(t, address, sent, 0)
			require.Contains(t, want, "101 Switching Protocols")
			require.Equal(t, strings.HasPrefix(name, "bad") || strings.Contains(name, "rsv1"), !strings.Contains(want, "bye"))
			for cut := 1; cut < len(sent); cut++ {
				require.Equal(t, want, answersTo(t, address, sent, cut), "cut at %d", cut)
			}
		})
	}
}

// answersTo sends a conversation in two parts and returns everything that came back, up to the end of
// the connection. Pongs have no place among the other frames: they come last.
func answersTo(t *testing.T, address string, sent []byte, cut int) string {
	p := dialPeer(t, address, from{})
	defer p.vanish()
	p.write(sent[:cut])
	p.write(sent[cut:])
	all, err := io.ReadAll(p.in)
	require.NoError(t, err)
	head, frames, _ := bytes.Cut(all, []byte("\r\n\r\n"))
	var messages, pongs []byte
	for r := bytes.NewReader(frames); r.Len() > 0; {
		start := len(frames) - r.Len()
		h, err := ws.ReadHeader(r)
		require.NoError(t, err)
		_, err = r.Seek(h.Length, io.SeekCurrent)
		require.NoError(t, err)
		b := frames[start : len(frames)-r.Len()]
		if h.OpCode == ws.OpPong {
			pongs = append(pongs, b...)
		} else {
			messages = append(messages, b...)
		}
	}
	return string(head) + string(messages) + string(pongs)
}
