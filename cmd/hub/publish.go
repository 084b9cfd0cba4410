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

	"github.com/bytedance/sonic"

	"github.com/alkdev/hub/codec"
)

const publishSynopsis = `hub publish TOPIC [PAYLOAD]: send one event; TOPIC is type:id or type, PAYLOAD any JSON.
hub publish [--file FILE]: send the envelopes in FILE or on standard input, one a line.

  hub publish tick:42 '{"price":7}'
  echo '{"type":"tick","id":"42","payload":{"price":7}}' | hub publish`

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
	if !quiet && p.accepted > 0 {
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
	r := bufio.NewReaderSize(in, batchBytes)
	var batch []byte
	lines, first, number := 0, 1, 0
	for {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return err
		}
		number++
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if _, perr := codec.ParseEnvelope(line); perr != nil {
				return errors.Join(p.flush(batch, lines, first), fmt.Errorf("line %d: %w", number, perr))
			}
			batch = append(append(batch, line...), '\n')
			lines++
		}
		if err == io.EOF || lines == batchLines || len(batch) >= batchBytes || r.Buffered() == 0 {
			if err := p.flush(batch, lines, first); err != nil {
				return err
			}
			batch, lines, first = batch[:0], 0, number+1
		}
		if err == io.EOF {
			return nil
		}
	}
}

func (p *publisher) flush(batch []byte, lines, first int) error {
	if lines == 0 {
		return nil
	}
	if err := p.post(batch, lines); err != nil {
		return fmt.Errorf("lines %d to %d: %w", first, first+lines-1, err)
	}
	return nil
}

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
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	err = sonic.Unmarshal(answer, &result)
	switch {
	case result.Error != nil:
		return fmt.Errorf("the hub says %s: %s", resp.Status, result.Error.Message)
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
