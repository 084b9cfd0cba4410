package main

import (
	"bytes"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// The largest message and one of 65,536 fragments come back as they were, and nothing else comes.
func TestEchoOfLargeMessages(t *testing.T) {
	for _, compress := range []string{"--compress=false", "--compress"} {
		address, _, _ := startHub(t, "--echo", "--max-message", "16MiB", compress)
		c, _, err := websocket.Dial(t.Context(), address, &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover})
		require.NoError(t, err)
		c.SetReadLimit(16 << 20)
		read := func(typ websocket.MessageType, want []byte) {
			gotType, got, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, typ, gotType)
			require.True(t, bytes.Equal(want, got), "%d bytes instead of %d", len(got), len(want))
		}
		for typ, unit := range map[websocket.MessageType]string{websocket.MessageText: "é", websocket.MessageBinary: "\xff\x00"} {
			large := bytes.Repeat([]byte(unit), 8<<20)
			require.NoError(t, c.Write(t.Context(), typ, large))
			read(typ, large)
			w, err := c.Writer(t.Context(), typ)
			require.NoError(t, err)
			for range 1 << 16 {
				_, err = w.Write([]byte(unit))
				require.NoError(t, err)
			}
			require.NoError(t, w.Close())
			read(typ, large[:2<<16])
		}
		require.NoError(t, c.Close(websocket.StatusNormalClosure, ""))
	}
}
