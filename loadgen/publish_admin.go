package loadgen

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/bytedance/sonic"

	"github.com/alkdev/hub/codec"
)

// publishTimeout bounds one request or write.
const publishTimeout = 10 * time.Second

// adminPublisher posts events to a hub's admin address, an envelope a line.
type adminPublisher struct {
	address, token string
	client         *http.Client
	batch          bytes.Buffer
	events         int
}

// newAdminPublisher trusts an https address as secure says; nil is what is usual.
func newAdminPublisher(address, token string, secure *tls.Config) *adminPublisher {
	return &adminPublisher{
		address: address + "/v1/events", token: token,
		client: &http.Client{Timeout: publishTimeout, Transport: &http.Transport{MaxIdleConns: 1, TLSClientConfig: secure.Clone()}},
	}
}

func (p *adminPublisher) add(event []byte) {
	p.batch.Write(event)
	p.batch.WriteByte('\n')
	p.events++
}

func (p *adminPublisher) flush() error {
	events := p.events
	defer func() { p.events = 0; p.batch.Reset() }()
	// Not bound to the run's context: whether the hub has taken a request that was broken off is
	// not known.
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, p.address, bytes.NewReader(p.batch.Bytes()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	var answer struct {
		Accepted int          `json:"accepted"`
		Error    *codec.Error `json:"error"`
	}
	err = sonic.ConfigStd.Unmarshal(body, &answer)
	switch {
	case err == nil && answer.Error != nil && answer.Error.Code == codec.CodeOverloaded:
		return errOverloaded
	case err == nil && answer.Error != nil:
		return fmt.Errorf("%s says %s: %s", p.address, resp.Status, answer.Error.Message)
	case err != nil || resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s says %s: %.200q", p.address, resp.Status, body)
	case answer.Accepted != events:
		return fmt.Errorf("%s has accepted %d events of %d", p.address, answer.Accepted, events)
	}
	return nil
}

func (p *adminPublisher) refusal() string { return "" } // flush has said it

func (p *adminPublisher) close() { p.client.CloseIdleConnections() }
