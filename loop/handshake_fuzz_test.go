package loop

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
)

// FuzzHandshake sends the head of a request, whole and in two pieces, and looks at the answer: the same
// to both, an upgrade only for what RFC 6455 section 4.2.1 asks for, and else a whole HTTP response.
func FuzzHandshake(f *testing.F) {
	good := request("/ws")
	for _, head := range []string{
		good,
		request("/ws?topic=tick:42", "Origin: http://hub.example"),
		request("/ws", offerHeader+": permessage-deflate; client_max_window_bits", "Sec-WebSocket-Protocol: chat, hub.v1"),
		request("/ws", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket"),
		request("/ws", "Sec-WebSocket-Version: 8"),
		also(good, "Sec-WebSocket-Key: "+sampleKey),
		also(good, "Transfer-Encoding: chunked"),
		strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1),
		strings.Replace(good, "\r\n", "\n", 1),
		"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\n\r\n",
		"\r\n\r\n",
	} {
		f.Add([]byte(head), uint16(len(head)/2))
	}
	_, _, address := startServer(f, fanout.Config{}, Config{Compress: true})
	f.Fuzz(func(t *testing.T, head []byte, cut uint16) {
		end := bytes.Index(head, []byte("\r\n\r\n"))
		if end < 0 && len(head) <= maxHeadBytes {
			return // the server waits for more
		}
		if end >= 0 {
			head = head[:end+4] // what follows is frames
		}
		whole := answerTo(t, address, head, 0)
		require.Equal(t, whole, answerTo(t, address, head, int(cut)%len(head)))
		if whole.status == http.StatusSwitchingProtocols {
			requireUpgradable(t, head, whole.accept)
		} else if whole.status != http.StatusOK { // of /readyz
			require.GreaterOrEqual(t, whole.status, 400)
		}
	})
}

// answered is what tells one answer from another. Of several things wrong the body names any.
type answered struct {
	status int
	accept string
}

var fuzzed atomic.Uint32

// answerTo sends head, cut in two there, and returns the response. The connections are spread over
// addresses and reset, for there are many.
func answerTo(t *testing.T, address string, head []byte, cut int) answered {
	p := dialPeer(t, address, from{ip: fmt.Sprintf("127.0.1.%d", 1+fuzzed.Add(1)%250)})
	defer p.vanish()
	_, _ = p.conn.Write(head[:cut]) // may fail: what is over the limit is answered before it is complete
	_, _ = p.conn.Write(head[cut:])
	method, _, _ := strings.Cut(string(head), " ")
	resp, err := http.ReadResponse(p.in, &http.Request{Method: method})
	require.NoError(t, err)
	a := answered{status: resp.StatusCode, accept: resp.Header.Get("Sec-WebSocket-Accept")}
	if a.status != http.StatusSwitchingProtocols {
		require.True(t, resp.Close)
		_, err := io.Copy(io.Discard, resp.Body) // is whole
		require.NoError(t, err)
	}
	return a
}

// requireUpgradable holds a head that was answered by an upgrade against RFC 6455 section 4.2.1, as
// net/http reads it.
func requireUpgradable(t *testing.T, head []byte, accept string) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	require.NoError(t, err)
	require.Equal(t, http.MethodGet, r.Method)
	require.True(t, r.ProtoAtLeast(1, 1))
	require.NotEmpty(t, r.Host)
	has := func(name, token string) bool {
		for part := range strings.SplitSeq(strings.Join(r.Header.Values(name), ","), ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
		return false
	}
	require.True(t, has("Upgrade", "websocket"), r.Header)
	require.True(t, has("Connection", "Upgrade"), r.Header)
	require.Equal(t, []string{"13"}, r.Header.Values("Sec-WebSocket-Version"))
	key := r.Header.Values("Sec-WebSocket-Key")
	require.Len(t, key, 1)
	nonce, err := base64.StdEncoding.DecodeString(key[0])
	require.NoError(t, err)
	require.Len(t, nonce, 16)
	sum := sha1.Sum([]byte(key[0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	require.Equal(t, base64.StdEncoding.EncodeToString(sum[:]), accept)
}
