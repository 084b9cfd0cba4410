package loop

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// refusal says why a request is not upgraded.
type refusal struct {
	status  int
	problem string
	why     RefusalReason
	wait    time.Duration // for Retry-After
	toHead  bool          // without its body
}

func newRefusal(status int, problem string, why RefusalReason) *refusal {
	return &refusal{status: status, problem: problem, why: why, wait: retryAfter}
}

// header calls set for each header that the status asks for.
func (r *refusal) header(set func(name, value string)) {
	switch r.status {
	case http.StatusUnauthorized:
		set("WWW-Authenticate", `Bearer realm="hub"`) // RFC 6750 section 3
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		set("Retry-After", strconv.Itoa(int((r.wait+time.Second-1)/time.Second)))
	case http.StatusMethodNotAllowed:
		set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		set("Connection", "Upgrade") // beside what the answer says of it (RFC 9110 section 7.8)
		set("Upgrade", "websocket")
		set("Sec-WebSocket-Version", "13")
	}
}

// refuse answers with an HTTP status instead of an upgrade.
func (c *conn) refuse(r *refusal) {
	c.server.refused(c, r)
	var extra string
	r.header(func(name, value string) { extra += name + ": " + value + "\r\n" })
	c.reply(answer(r.status, extra, r.problem+"\n", r.toHead))
}

// answer returns an HTTP response, without the body that it announces if it is to a HEAD.
func answer(status int, extra, body string, toHead bool) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), extra, len(body), body)
	if toHead {
		b = b[:len(b)-len(body)]
	}
	return b
}

func (c *conn) answerReady(r *http.Request) {
	status, body := http.StatusOK, "ready\n"
	switch {
	case c.server.draining.Load():
		status, body = http.StatusServiceUnavailable, "draining\n"
	case !c.server.Ready():
		status, body = http.StatusServiceUnavailable, "short of memory\n"
	case c.server.config.Ready != nil && !c.server.config.Ready():
		status, body = http.StatusServiceUnavailable, "not ready\n"
	}
	c.reply(answer(status, "Cache-Control: no-store\r\n", body, r.Method == http.MethodHead))
}
