package loop

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Subprotocol is the one that the hub speaks, chosen if a client offers it. Clients need not.
const Subprotocol = "hub.v1"

// retryAfter is what those are told who come when the hub is full or drains.
const retryAfter = 5 * time.Second

// upgradeHandshake checks what RFC 6455 section 4.2.1 asks for, and writes the answer.
var upgradeHandshake = ws.HTTPUpgrader{
	Protocol: func(offer string) bool { return offer == Subprotocol },
}

// onHead collects the head of the HTTP request and answers it when it is complete.
func (c *conn) onHead(b []byte) {
	if c.head == nil && b[0] == recordHandshake && !c.has(flagTLS) {
		c.server.warnOfTLS()
		c.refuse(newRefusal(http.StatusBadRequest, "this port does not speak TLS: use ws:// or http://", RefusedTLS))
		return
	}
	if c.head != nil {
		c.head.Write(b)
		b = c.head.Bytes()
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	switch {
	case end >= 0 && end <= maxHeadBytes-4:
		head, rest := b[:end+4], b[end+4:]
		c.head = nil
		c.onRequest(head, rest)
	case len(b) > maxHeadBytes || end >= 0:
		c.head = nil
		c.refuse(newRefusal(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the request head is larger than %d bytes", maxHeadBytes), RefusedBadRequest))
	case c.head == nil:
		c.head = bytes.NewBuffer(bytes.Clone(b))
	}
}

// handshaker is what reading one request needs, for use again and again.
type handshaker struct {
	src bytes.Reader
	in  *bufio.Reader
	out bytes.Buffer
	rw  *bufio.ReadWriter

	compressed bool // negotiated by shake
}

var handshakers = sync.Pool{New: func() any {
	h := &handshaker{in: bufio.NewReaderSize(nil, maxHeadBytes)}
	h.rw = bufio.NewReadWriter(bufio.NewReaderSize(strings.NewReader(""), 16), bufio.NewWriterSize(&h.out, 512))
	return h
}}

// onRequest answers a complete request head; rest is what came behind it.
func (c *conn) onRequest(head, rest []byte) {
	h := handshakers.Get().(*handshaker)
	defer handshakers.Put(h)
	r, err := h.read(head)
	switch {
	case err != nil && (bytes.HasPrefix(head, []byte(proxyV1)) || bytes.HasPrefix(head, []byte(proxyV2[:4]))):
		c.refuse(newRefusal(http.StatusBadRequest, "a PROXY header, and this is not the address of a trusted proxy", RefusedBadRequest))
		return
	case err != nil:
		c.refuse(newRefusal(http.StatusBadRequest, malformed(err), RefusedBadRequest))
		return
	case r.URL.Path == "/readyz":
		c.answerReady(r)
		return
	case r.Method == http.MethodHead:
		c.refuse(&refusal{status: http.StatusMethodNotAllowed, problem: "a WebSocket is opened with GET", why: RefusedBadRequest, toHead: true})
		return
	case r.URL.Path != c.server.config.Path:
		c.refuse(newRefusal(http.StatusNotFound, "WebSockets are at "+c.server.config.Path, RefusedBadRequest))
		return
	}
	topics, refusal := c.examine(r)
	switch {
	case refusal != nil:
		c.refuse(refusal)
	case c.server.config.Authenticate != nil:
		if c.has(flagTLS) {
			state := c.secure().tls.ConnectionState()
			r.TLS = &state
		}
		c.authenticate(r, topics, rest)
	default:
		c.open(h, r, topics, rest)
	}
}

// open does the handshake on a request that may become a spoke.
func (c *conn) open(h *handshaker, r *http.Request, topics []codec.Pattern, rest []byte) {
	if refusal := c.shake(h, r); refusal != nil {
		c.refuse(refusal)
		return
	}
	c.upgraded(h.out.Bytes(), topics, rest)
}

// malformed says what is wrong with a request without quoting it: there may be a token in it, and the
// answer may be logged by who gets it.
func malformed(err error) string {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	problem, _, _ := strings.Cut(err.Error(), " \"")
	return "malformed HTTP request: " + problem
}

// read parses a request head. http.ReadRequest leaves it to the net/http server to look at the version,
// and for names with a space. It takes a bare LF for the end of a line, and so may find the end of the head
// before we do: what follows would be lost, and is frames to whoever else reads it like that. The request
// has no body, for h soon reads another.
func (h *handshaker) read(head []byte) (*http.Request, error) {
	h.src.Reset(head)
	h.in.Reset(&h.src)
	r, err := http.ReadRequest(h.in)
	if err != nil {
		return nil, err
	}
	r.Body = http.NoBody
	if h.in.Buffered()+h.src.Len() > 0 {
		return nil, errors.New("an empty line before its end")
	}
	if r.ProtoMajor != 1 {
		return nil, fmt.Errorf("unknown version %q", r.Proto)
	}
	for name := range r.Header {
		if strings.Contains(name, " ") {
			return nil, fmt.Errorf("header name %q", name)
		}
	}
	return r, nil
}

// shake does the handshake on a request that nothing else is wrong with, leaves the answer in h.out,
// and notes what was negotiated.
func (c *conn) shake(h *handshaker, r *http.Request) *refusal {
	bad := func(problem string) *refusal {
		return newRefusal(http.StatusBadRequest, problem, RefusedBadRequest)
	}
	if r.Method == http.MethodGet {
		if problem := beyondLibrary(r); problem != "" {
			return bad(problem)
		}
	}
	h.out.Reset()
	h.rw.Writer.Reset(&h.out)
	upgrader := upgradeHandshake
	if h.compressed = false; c.server.config.Compress {
		upgrader.Negotiate = h.negotiate
	}
	if _, _, _, err := upgrader.Upgrade(plainLists(r), h); err != nil {
		refusal := bad(err.Error())
		var rejected *ws.ConnectionRejectedError
		if errors.As(err, &rejected) && rejected.StatusCode() != 0 {
			refusal.status = rejected.StatusCode()
		}
		switch refusal.status {
		case http.StatusMethodNotAllowed:
			refusal.problem = "method " + r.Method + ", a WebSocket is opened with GET"
		case http.StatusUpgradeRequired:
			refusal.problem = "Sec-WebSocket-Version must be 13"
		}
		return refusal
	}
	if h.compressed {
		c.set(flagCompressed)
	}
	return nil
}

// beyondLibrary says what is wrong with a handshake, of what the library does not look at.
func beyondLibrary(r *http.Request) (problem string) {
	for _, name := range []string{"Sec-Websocket-Key", "Sec-Websocket-Version", "Origin"} {
		if n := len(r.Header[name]); n > 1 {
			return fmt.Sprintf("%d %s headers", n, name)
		}
	}
	if nonce, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key")); err != nil || len(nonce) != 16 {
		return "Sec-WebSocket-Key is not 16 bytes in base64"
	}
	for _, l := range upgradeLists {
		if !hasToken(r.Header[l.name], l.token) {
			return fmt.Sprintf("%s does not name %s", l.name, l.token)
		}
	}
	if problem := malformedList(r.Header); problem != "" {
		return problem
	}
	if r.ContentLength != 0 { // what follows the head would be read as frames
		return "a handshake has no body"
	}
	return ""
}

// upgraded makes the connection a spoke and reads what the client has sent already. hello is the answer
// to its handshake, if that has not been sent.
func (c *conn) upgraded(hello []byte, topics []codec.Pattern, rest []byte) {
	if c.has(flagTLS) {
		c.server.config.Hub.InitSpoke(&c.spoke, c.secure())
	} else {
		c.server.config.Hub.InitSpoke(&c.spoke, c)
	}
	c.set(flagSpoke)
	if c.has(flagCompressed) {
		c.spoke.TakeCompressed()
	}
	if err := c.spoke.AttachBehind(hello, topics...); err != nil {
		if errors.Is(err, fanout.ErrTopicMemory) && len(hello) > 0 {
			c.refuse(newRefusal(http.StatusServiceUnavailable, codec.Problem(err), RefusedTopicMemory))
			return
		}
		if _, e := c.send(hello); e != nil {
			return // the peer is gone, onClosed follows
		}
		c.set(flagDeaf)
		c.Close(fanout.CauseOf(fanout.LocalSide, codec.CloseGoingAway, codec.Problem(err)))
		return
	}
	c.set(flagUpgraded)
	if len(rest) > 0 {
		c.feed(rest)
	}
}

// examine looks at everything but the handshake itself, and returns the topics asked for.
func (c *conn) examine(r *http.Request) ([]codec.Pattern, *refusal) {
	s := c.server
	c.believeRequest(r.Header)
	s.countForIP(c)
	switch {
	case r.Header.Get("Upgrade") == "" && r.Method == http.MethodGet:
		return nil, newRefusal(http.StatusUpgradeRequired, "this is a WebSocket endpoint", RefusedBadRequest)
	case s.draining.Load():
		return nil, newRefusal(http.StatusServiceUnavailable, "the hub is going away", RefusedDraining)
	case s.tight.Load():
		return nil, newRefusal(http.StatusServiceUnavailable, "the hub is short of memory", RefusedMemory)
	case c.has(flagFull):
		return nil, newRefusal(http.StatusServiceUnavailable, "the hub is full", RefusedFull)
	case c.has(flagFullForIP):
		return nil, newRefusal(http.StatusServiceUnavailable, "too many connections from this address", RefusedFullForIP)
	}
	if refusal := c.throttled(); refusal != nil {
		return nil, refusal
	}
	switch {
	case !s.config.originAllowed(r):
		return nil, newRefusal(http.StatusForbidden, fmt.Sprintf("origin %q is not allowed", r.Header.Get("Origin")), RefusedOrigin)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, newRefusal(http.StatusBadRequest, "malformed query", RefusedBadRequest)
	}
	var topics []codec.Pattern
	for _, name := range query["topic"] {
		p, err := codec.ParsePattern(name)
		if err != nil {
			return nil, newRefusal(http.StatusBadRequest, codec.Problem(err), RefusedBadRequest)
		}
		topics = append(topics, p)
	}
	if most, _ := s.config.Hub.TopicLimits(); len(topics) > most {
		return nil, newRefusal(http.StatusBadRequest, fmt.Sprintf("%d topics, a spoke has at most %d", len(topics), most), RefusedBadRequest)
	}
	return topics, nil
}

// originAllowed reports whether a browser at the request's origin may connect: a page of the hub's
// own host, or one of Config.Origins. Who is not a browser sends no origin, or any it likes.
func (c *Config) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return true
	}
	for _, pattern := range c.Origins {
		if pattern == "*" {
			return true
		}
		if ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(origin)); err == nil && ok {
			return true
		}
	}
	return false
}

// The handshaker stands in for the net/http server that ws.HTTPUpgrader expects: what is written
// goes into out.

// Header implements http.ResponseWriter.
func (h *handshaker) Header() http.Header { return http.Header{} }

// Write implements http.ResponseWriter.
func (h *handshaker) Write(b []byte) (int, error) { return h.out.Write(b) }

// WriteHeader implements http.ResponseWriter.
func (h *handshaker) WriteHeader(int) {}

// Hijack implements http.Hijacker.
func (h *handshaker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return noConn{}, h.rw, nil }

// noConn is the connection behind a handshaker, which has none.
type noConn struct{ net.Conn }

func (noConn) SetDeadline(time.Time) error { return nil }
