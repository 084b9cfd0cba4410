package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/bytedance/sonic"
	"golang.org/x/sys/unix"

	"github.com/alkdev/hub/codec"
)

const publishSynopsis = `hub publish TOPIC [PAYLOAD]: send one event; TOPIC is type:id or type, PAYLOAD any JSON.
hub publish [--file FILE]: send the envelopes in FILE or on standard input, one a line.

  hub publish tick:42 '{"price":7}'
  echo '{"type":"tick","id":"42","payload":{"price":7}}' | hub publish

Lines are published as they come, so that a program that never ends can be read from; nothing waits for the
end. What is wrong with a line ends it: what stood before that line has been published, the line and what comes
after it have not, and the message names the line and says how many events there were before.`

// A request carries at most so much of a longer input.
const (
	batchLines = 1000
	batchBytes = 1 << 20
)

func publish(ctx context.Context, args []string) error {
	p := publisher{ctx: ctx, address: defaultAdmin}
	file := "-"
	quiet := false
	var whom trust
	f := newFlags("publish", publishSynopsis)
	addOperator(f, &p.address, &p.token, "admin address of the hub, host:port or http://host:port")
	add(f, &p.spoke, "spoke", "id of the one spoke that is meant; all that want it if empty", parseText, showText)
	addTrust(f, &whom)
	add(f, &file, "file", "file with an envelope a line; - for standard input", parseText, showText)
	addSwitch(f, &quiet, "quiet", "do not say how many spokes took the events on")
	rest, err := parseFlags(f, args, 2)
	if err != nil {
		return err
	}
	if p.address == "" {
		return &usageError{errors.New("--admin (HUB_ADMIN): it is off, and events are published there")}
	}
	p.http = http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: whom.config()}}
	defer p.http.CloseIdleConnections()
	if len(rest) > 0 {
		err = p.one(rest)
	} else {
		err = p.file(file)
	}
	if !quiet && (p.accepted > 0 || err == nil) {
		fmt.Printf("accepted %d, matched %d\n", p.accepted, p.matched)
	}
	return err
}

// publisher posts envelopes to a hub's admin address.
type publisher struct {
	ctx               context.Context
	http              http.Client
	address, token    string
	spoke             string
	accepted, matched int
}

// one publishes the event that the arguments describe.
func (p *publisher) one(args []string) error {
	typ, id, _ := codec.SplitTopic(args[0])
	if id == "*" {
		fmt.Fprintf(os.Stderr, "hub publish: warning: this publishes an event whose id is a literal *; patterns are for those who subscribe, and %s alone is an event without an id\n", typ)
	}
	e := codec.Envelope{Type: typ, ID: id}
	if len(args) > 1 {
		e.Payload = []byte(args[1])
	}
	line, err := codec.AppendEnvelope(nil, e)
	if err != nil && strings.Contains(err.Error(), "payload") {
		err = fmt.Errorf("%w (the payload is JSON: a text needs its double quotes)", err)
	}
	if err != nil {
		return &usageError{err}
	}
	return p.post(append(line, '\n'), 1)
}

// file publishes a file, line by line: a request for all that is there, at most a batch.
func (p *publisher) file(name string) error {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if _, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err == nil { // a terminal
		fmt.Fprintln(os.Stderr, "hub publish: reading envelopes, one a line; Ctrl-D ends")
	}
	r := bufio.NewReaderSize(in, batchBytes)
	var b batch
	for number := 1; ; number++ {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if _, wrong := codec.ParseEnvelope(line); wrong != nil {
				if err := p.flush(&b); err != nil {
					return err
				}
				return p.at(fmt.Sprintf("line %d", number), wrong)
			}
			b.add(line, number)
		}
		if err == io.EOF || len(b.numbers) == batchLines || len(b.text) >= batchBytes || r.Buffered() == 0 {
			if err := p.flush(&b); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// batch are the lines that a request is to carry.
type batch struct {
	text    []byte
	ends    []int // of each, in text
	numbers []int // of each, in the input
}

func (b *batch) add(line []byte, number int) {
	b.text = append(append(b.text, line...), '\n')
	b.ends, b.numbers = append(b.ends, len(b.text)), append(b.numbers, number)
}

// flush publishes the lines and empties b. The hub takes all or none of a request: of those before one that it has
// something against another is made.
func (p *publisher) flush(b *batch) error {
	n := len(b.numbers)
	if n == 0 {
		return nil
	}
	err := p.post(b.text, n)
	where := fmt.Sprintf("lines %d to %d", b.numbers[0], b.numbers[n-1])
	if n == 1 {
		where = fmt.Sprintf("line %d", b.numbers[0])
	}
	if one := (*refusedError)(nil); errors.As(err, &one) && one.index >= 0 && one.index < n {
		where = fmt.Sprintf("line %d", b.numbers[one.index])
		if one.index > 0 {
			if before := p.post(b.text[:b.ends[one.index-1]], one.index); before != nil {
				err, where = before, fmt.Sprintf("lines %d to %d", b.numbers[0], b.numbers[one.index-1])
			}
		}
	}
	if err != nil {
		return p.at(where, err)
	}
	b.text, b.ends, b.numbers = b.text[:0], b.ends[:0], b.numbers[:0]
	return nil
}

// at says where in the input something is wrong, and what has been published.
func (p *publisher) at(where string, err error) error {
	then := "unknown, since no answer has come"
	if errors.As(err, new(*refusedError)) || errors.As(err, new(*codec.EnvelopeError)) || errors.Is(err, syscall.ECONNREFUSED) {
		then = "none"
	}
	return fmt.Errorf("%s: %w; events published before: %d, from there on: %s", where, err, p.accepted, then)
}

// refusedError is what the hub has against a request, and against which of its envelopes, -1 for none of them.
type refusedError struct {
	status, message string
	index           int
}

func (e *refusedError) Error() string { return fmt.Sprintf("the hub says %s: %s", e.status, e.message) }

func (p *publisher) post(body []byte, lines int) error {
	address := p.address + "/v1/events"
	if p.spoke != "" {
		address = p.address + "/v1/spokes/" + url.PathEscape(p.spoke) + "/events"
	}
	req, err := http.NewRequestWithContext(p.ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	authorize(req, p.token)
	resp, err := p.http.Do(req)
	if err != nil {
		return explainDial(err, p.address, "--admin")
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var result struct {
		Accepted int `json:"accepted"`
		Matched  int `json:"matched"`
		Error    *struct {
			Message string `json:"message"`
			Index   *int   `json:"index"`
		} `json:"error"`
	}
	err = sonic.Unmarshal(answer, &result)
	switch {
	case result.Error != nil:
		refused := refusedError{resp.Status, result.Error.Message, -1}
		if result.Error.Index != nil {
			refused.index = *result.Error.Index
		}
		return &refused
	case resp.StatusCode != http.StatusOK || err != nil:
		return fmt.Errorf("%s says %s: %s (--admin wants the address that hub serve has for it)", p.address, resp.Status, bytes.TrimSpace(answer))
	}
	p.accepted += result.Accepted
	p.matched += result.Matched
	if result.Accepted != lines {
		return fmt.Errorf("the hub accepted %d of %d events", result.Accepted, lines)
	}
	return nil
}
