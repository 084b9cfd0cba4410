package admin

import (
	"mime"
	"strconv"
	"strings"

	"github.com/bytedance/sonic"
)

// format is how a stream of records looks on the wire.
type format struct {
	contentType string
	heartbeat   string // means nothing to a reader
	// frame appends one record, a JSON object in one line, to dst.
	frame func(dst, record []byte) []byte
}

// ndjson is a record a line.
var ndjson = &format{
	contentType: mediaNDJSON,
	heartbeat:   "\n",
	frame: func(dst, record []byte) []byte {
		return append(append(dst, record...), '\n')
	},
}

// sse is Server-Sent Events, whose event types are the kinds of the records.
var sse = &format{
	contentType: "text/event-stream",
	heartbeat:   ": heartbeat\n\n",
	frame: func(dst, record []byte) []byte {
		kind := "message" // what a browser takes for an event without a type
		if node, err := sonic.Get(record, "kind"); err == nil {
			kind, _ = node.String()
		}
		dst = append(append(dst, "event: "...), kind...)
		dst = append(append(dst, "\ndata: "...), record...)
		return append(dst, "\n\n"...)
	},
}

// mediaRanges says which format a media range of an Accept header asks for.
var mediaRanges = map[string]*format{
	"text/event-stream": sse,
	"text/*":            sse,
	mediaNDJSON:         ndjson,
	"application/json":  ndjson,
	"application/*":     ndjson,
	"*/*":               ndjson,
}

// acceptable returns the format that Accept headers like best, the first of several; nil if none
// will do (RFC 9110 section 12.5.1).
func acceptable(headers []string) *format {
	if len(headers) == 0 {
		return ndjson
	}
	var best *format
	most := 0.0
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, ok := params["q"]; ok {
			quality, _ = strconv.ParseFloat(q, 64) // what is no number is 0
		}
		if f := mediaRanges[media]; f != nil && quality > most {
			best, most = f, quality
		}
	}
	return best
}
