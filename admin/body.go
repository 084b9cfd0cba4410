package admin

import (
	"bytes"
	"errors"
	"mime"
	"net/http"

	"github.com/alkdev/hub/codec"
)

const mediaNDJSON = "application/x-ndjson"

// maxBatch bounds the events of one request: small ones take far more memory than their text.
const maxBatch = 1 << 16

// white is JSON's white space (RFC 8259 section 2).
const white = " \t\r\n"

// byLine reports whether the body of a request holds a value a line, by its content type. That of
// curl -d is as good as none.
func byLine(r *http.Request) (bool, *problem) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return false, newProblem(http.StatusUnsupportedMediaType, "unsupported_media_type", "content encoding %.100q is not supported", coding)
	}
	header := r.Header.Get("Content-Type")
	if header == "" {
		return false, nil
	}
	media, _, err := mime.ParseMediaType(header)
	switch {
	case err != nil:
	case media == mediaNDJSON:
		return true, nil
	case media == "application/json", media == "application/x-www-form-urlencoded":
		return false, nil
	}
	return false, newProblem(http.StatusUnsupportedMediaType, "unsupported_media_type",
		"content type %.100q is not supported, application/json and %s are", header, mediaNDJSON)
}

// parseBody reads the envelopes of a body: one, an array of them, or several one after the other. The
// first that is not strictly what it should be is the problem with all of them.
func parseBody(body []byte, lines bool) ([]codec.Envelope, *problem) {
	values, err := split(body, lines)
	if err != nil {
		return nil, newProblem(http.StatusBadRequest, "not_json", "%v", err)
	}
	if len(values) > maxBatch {
		return nil, newProblem(http.StatusRequestEntityTooLarge, codec.CodeTooLarge, "%d events, at most %d are taken at once", len(values), maxBatch)
	}
	events := make([]codec.Envelope, len(values))
	for i, value := range values {
		if events[i], err = codec.ParseEnvelope(value); err == nil {
			continue
		}
		if notJSON := codec.CheckJSON(value); notJSON != nil {
			return nil, newProblem(http.StatusBadRequest, "not_json", "%v", notJSON).at(i)
		}
		var bad *codec.EnvelopeError
		errors.As(err, &bad)
		return nil, newProblem(http.StatusUnprocessableEntity, codec.CodeBadEnvelope, "%s", bad.Problem).at(i)
	}
	return events, nil
}

// split returns the spans of the values in a body, as they are: a payload keeps every byte. It looks
// for where values end and no further; whether they are any is checked value by value.
func split(body []byte, lines bool) ([][]byte, error) {
	body = bytes.Trim(body, white)
	switch {
	case len(body) == 0:
		return nil, errors.New("the body is empty")
	case lines:
		return splitLines(body), nil
	case body[0] == '[':
		return splitArray(body)
	}
	return splitValues(body), nil
}

func splitLines(body []byte) (values [][]byte) {
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		if line = bytes.Trim(line, white); len(line) > 0 {
			values = append(values, line)
		}
	}
	return values
}

// splitValues takes values with or without white space in between: curl -d removes line ends.
func splitValues(body []byte) (values [][]byte) {
	for len(body) > 0 {
		n := valueLen(body)
		if n == 0 { // a bracket or comma that belongs nowhere
			n = len(body)
		}
		values = append(values, body[:n])
		body = bytes.TrimLeft(body[n:], white)
	}
	return values
}

func splitArray(body []byte) (values [][]byte, err error) {
	rest := bytes.TrimLeft(body[1:], white)
	for more := !bytes.HasPrefix(rest, []byte("]")); more; {
		n := valueLen(rest)
		values = append(values, rest[:n])
		rest = bytes.TrimLeft(rest[n:], white)
		if more = bytes.HasPrefix(rest, []byte(",")); more {
			rest = bytes.TrimLeft(rest[1:], white)
		}
	}
	if string(rest) == "]" {
		return values, nil
	}
	if err := codec.CheckJSON(body); err != nil {
		return nil, err
	}
	return nil, errors.New("not an array of envelopes")
}

// valueLen returns the length of the value that b begins with: up to the quote or bracket that closes
// it, or up to what cannot go on a number or a literal. One that is nested too deep goes on to the end.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i)
			if depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			if depth++; depth > codec.MaxDepth { // nothing that could be taken
				return len(b)
			}
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// stringEnd returns where the string that begins at i has its closing quote, len(b) if it has none.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b)
}
