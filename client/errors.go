package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/alkdev/hub/codec"
)

// Errors that callers compare with errors.Is.
var (
	// ErrClosed is returned by the methods of a client that has ended or is being closed, and is what
	// Err returns after Close.
	ErrClosed = errors.New("client: closed")
	// ErrQueueFull is returned by Dispatch when Options.QueueBytes are waiting. The event was not taken.
	ErrQueueFull = errors.New("client: queue full")
)

// A RefusedError is a handshake that was answered with a plain HTTP response.
type RefusedError struct {
	StatusCode int
	Message    string        // the beginning of the response's body
	RetryAfter time.Duration // what the response asked for, 0 without a Retry-After
}

func (e *RefusedError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("client: hub refused: %d %s %s", e.StatusCode, http.StatusText(e.StatusCode), e.Message))
}

// permanentStatus are the answers with which a hub refuses the request as such: the same request will
// meet with the same answer.
var permanentStatus = []int{
	http.StatusBadRequest,
	http.StatusUnauthorized,
	http.StatusForbidden,
	http.StatusNotFound,
	http.StatusMethodNotAllowed,
	http.StatusUpgradeRequired,
	http.StatusRequestHeaderFieldsTooLarge,
}

// Permanent reports whether trying again makes no sense.
func (e *RefusedError) Permanent() bool { return slices.Contains(permanentStatus, e.StatusCode) }

// newRefusedError reads the response to a handshake. The library has closed its body and kept the
// first kilobyte.
func newRefusedError(resp *http.Response) *RefusedError {
	e := &RefusedError{StatusCode: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	if resp.Body != nil {
		body, _ := io.ReadAll(resp.Body) // a message cut short is still of use
		e.Message = strings.TrimSpace(string(body))
	}
	return e
}

// retryAfter reads both forms of Retry-After, seconds and a date (RFC 9110 section 10.2.3). What
// cannot be read counts as absent.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return durationOf(seconds, time.Second)
	}
	if date, err := http.ParseTime(value); err == nil {
		return durationOf(int64(time.Until(date)), time.Nanosecond)
	}
	return 0
}

// durationOf returns n units, at least 0 and so far below the longest Duration that sums do not overflow.
func durationOf(n int64, unit time.Duration) time.Duration {
	const longest = time.Duration(1 << 62) // 146 years
	return time.Duration(min(max(0, n), int64(longest/unit))) * unit
}

// Side says who ended a connection.
type Side uint8

// The sides.
const (
	LocalSide Side = iota // this client decided
	PeerSide              // the hub decided, or vanished
)

func (s Side) String() string {
	if s == LocalSide {
		return "local"
	}
	return "peer"
}

// A CloseError says how a connection ended.
type CloseError struct {
	Side   Side
	Code   codec.CloseCode // CloseAbnormal if there was no close frame
	Reason string          // from the close frame
	Err    error           // what happened, if there was no close frame
}

func (e *CloseError) Error() string {
	s := fmt.Sprintf("client: connection ended by %s: %d", e.Side, e.Code)
	if e.Reason != "" {
		s += fmt.Sprintf(" %q", e.Reason)
	}
	switch {
	case errors.Is(e.Err, io.EOF): // of which the reader tells at what layer it was
		s += ": without a close frame (EOF)"
	case e.Err != nil:
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *CloseError) Unwrap() error { return e.Err }

// newCloseError finds out who ended a connection: readErr ended the reading goroutine, cause is why the
// client itself broke the connection off, writeErr is from the writing goroutine. The hub's close frame
// counts before anything else, because whatever fails behind it is its consequence.
func newCloseError(readErr, cause, writeErr error) *CloseError {
	if closed := (websocket.CloseError{}); errors.As(readErr, &closed) {
		return &CloseError{Side: PeerSide, Code: codec.CloseCode(closed.Code), Reason: closed.Reason}
	}
	switch {
	case errors.Is(readErr, websocket.ErrMessageTooBig):
		return &CloseError{Side: LocalSide, Code: codec.CloseTooBig, Err: readErr}
	case cause != nil:
		return &CloseError{Side: LocalSide, Code: codec.CloseAbnormal, Err: cause}
	case errors.Is(writeErr, context.DeadlineExceeded):
		return &CloseError{Side: LocalSide, Code: codec.CloseAbnormal, Err: writeErr}
	}
	return &CloseError{Side: PeerSide, Code: codec.CloseAbnormal, Err: readErr}
}

// permanent reports whether err, the end of a connection or of an attempt at one, is for good. With
// Options.Token, a token that was not good is not: the next one may be.
func (c *Client) permanent(err error) bool {
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		return refused.Permanent() && !(c.opts.Token != nil && refused.StatusCode == http.StatusUnauthorized)
	}
	closed := (*CloseError)(nil)
	return errors.As(err, &closed) && closed.Side == PeerSide && closed.Code == codec.CloseUnauthenticated && c.opts.Token == nil
}
