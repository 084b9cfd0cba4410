package fleet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// The example of RFC 6455 section 1.3, so the answer is known beforehand.
const (
	exampleKey = "dGhlIHNhbXBsZSBub25jZQ=="
	acceptKey  = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// The extension that Clients.Deflate offers, and the parameter with which the server compresses each
// message by itself (RFC 7692 section 7.1.1.1).
const (
	deflate     = "permessage-deflate"
	ownMessages = "server_no_context_takeover"
)

// deflates reports whether an answer to the handshake accepts the extension.
func deflates(answer []byte) bool {
	_, line, found := bytes.Cut(bytes.ToLower(answer), []byte("\r\nsec-websocket-extensions: "+deflate+";"))
	line, _, _ = bytes.Cut(line, []byte("\r\n"))
	return found && bytes.Contains(line, []byte(ownMessages))
}

// handshake asks for the upgrade.
func handshake(c *Clients, group uint64) []byte {
	path := c.Path
	if strings.Contains(path, GroupMark) {
		path = groupPath(path, group)
	}
	b := append([]byte("GET "), path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.Address...)
	b = append(b, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+exampleKey+"\r\n"...)
	if c.Subprotocol != "" {
		b = append(append(append(b, "Sec-WebSocket-Protocol: "...), c.Subprotocol...), "\r\n"...)
	}
	if c.Deflate {
		b = append(b, "Sec-WebSocket-Extensions: "+deflate+"; client_no_context_takeover; "+ownMessages+"\r\n"...)
	}
	b = append(b, c.Header...)
	return append(b, "\r\n"...)
}

// greeting is what a client hears before it counts: the answer to the handshake, and frames.
type greeting struct {
	upgraded bool
	frames   int
	heard    []byte // and not yet understood
}

// hear takes the next bytes. It reports whether counting begins behind them.
func (g *greeting) hear(b []byte, c *Clients) (done bool, err error) {
	g.heard = append(g.heard, b...)
	if !g.upgraded {
		end := bytes.Index(g.heard, []byte("\r\n\r\n")) + 4
		if end < 4 {
			return false, nil
		}
		answer := g.heard[:end]
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) || !bytes.Contains(answer, []byte(acceptKey)) {
			return false, fmt.Errorf("the handshake was answered with %q", answer)
		}
		if c.Deflate && !deflates(answer) {
			return false, fmt.Errorf("compression was declined with %q", answer)
		}
		g.upgraded = true
		g.heard = g.heard[end:]
	}
	for done = c.Until == "" && g.frames == c.Skip; !done; {
		n := frameLength(g.heard)
		if n == 0 || len(g.heard) < n {
			return false, nil
		}
		g.frames++
		if c.Until == "" {
			done = g.frames == c.Skip
		} else {
			done = bytes.Contains(g.heard[:n], []byte(c.Until))
		}
		g.heard = g.heard[n:]
	}
	if len(g.heard) > 0 {
		return true, fmt.Errorf("unexpected bytes where counting begins: %q", g.heard)
	}
	return true, nil
}

// A frame's header (RFC 6455 section 5.2; RFC 7692 section 6).
const (
	finBit         = 0x80
	rsv1Bit        = 0x40 // the message is compressed
	maxHeaderBytes = 10
)

// frameLength returns the length of the unmasked frame that b begins with, 0 if its header is not
// complete (RFC 6455 section 5.2).
func frameLength(b []byte) int {
	switch {
	case len(b) < 2:
		return 0
	case b[1] < 126:
		return 2 + int(b[1])
	case b[1] == 126 && len(b) >= 4:
		return 4 + int(binary.BigEndian.Uint16(b[2:]))
	case b[1] == 127 && len(b) >= 10:
		return 10 + int(binary.BigEndian.Uint64(b[2:]))
	}
	return 0
}

// The opcodes of Message (RFC 6455 section 5.2).
const (
	Text   = 1
	Binary = 2
)

// Message returns a message as clients send it, in one frame, masked with zeroes: up to 65,535 bytes.
func Message(opcode byte, payload string) []byte {
	b := []byte{finBit | opcode}
	if n := len(payload); n < 126 {
		b = append(b, 0x80|byte(n))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}
