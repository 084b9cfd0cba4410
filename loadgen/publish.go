package loadgen

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A batch is what is published with one request or write. It has more than one event only when the
// publisher is behind its schedule, or when the window has room for more.
const (
	batchEvents = 64
	batchBytes  = 64 << 10
)

// publisher takes events to the hub. It belongs to one goroutine.
type publisher interface {
	// add appends an event to the batch; event may be reused.
	add(event []byte)
	// flush publishes the batch, which is empty afterwards. errOverloaded means that the hub has
	// taken none of it and may take it later.
	flush() error
	// refusal returns what the hub had against an event, as far as it says so later than flush.
	refusal() string
	close()
}

var (
	errOverloaded = errors.New("the hub is overloaded")
	errAllGone    = errors.New("every spoke that reads has lost its connection")
)

// probe publishes one event that is not counted, and waits until the spokes of topic 0 have it: events must arrive at all before their loss means anything.
func (r *run) probe(ctx context.Context) error {
	r.publisher.add(appendEvent(nil, r.probeID, 0, 0, now(), r.config.PayloadBytes))
	if err := r.publisher.flush(); err != nil {
		return err
	}
	deadline := time.NewTimer(r.config.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for int(r.probed.Load()) < r.ledger.liveIn(0) {
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
			return nil
		case <-deadline.C:
		}
		if r.probed.Load() == 0 {
			return r.noProbe()
		}
		return nil // the rest will count as lost, if it is
	}
	if r.probed.Load() == 0 {
		return errAllGone
	}
	return nil
}

func (r *run) noProbe() error {
	if refusal := r.publisher.refusal(); refusal != "" {
		return fmt.Errorf("the hub does not take the event: %s", refusal)
	}
	if r.config.Admin == "" {
		return fmt.Errorf("what one spoke publishes does not reach the others: the hub has to run with --relay others")
	}
	return fmt.Errorf("what is published at %s does not reach the spokes: is it the admin address of the hub at %s, "+
		"and does that give spokes all events (--subscribe all, or topics here)?", r.config.Admin, r.config.URL)
}

// publish publishes until the time is over or ctx is done. An error ends it early.
func (r *run) publish(ctx context.Context) error {
	began := now()
	end := began + int64(r.config.Duration)
	var event []byte
	for sent := uint64(0); now() < end && ctx.Err() == nil; {
		n, err := r.due(ctx, began, end, sent)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		topics := make([]int, 0, batchEvents)
		for size := 0; len(topics) < min(n, batchEvents) && size < batchBytes; size += len(event) {
			topic := int((sent + uint64(len(topics))) % uint64(r.config.topicCount()))
			seq := r.ledger.publish(topic)
			event = appendEvent(event[:0], r.id, topic, seq, now(), r.config.PayloadBytes)
			r.publisher.add(event)
			topics = append(topics, topic)
		}
		before := now()
		err = r.publisher.flush()
		r.ledger.lastArrival.Store(now())
		r.publishNanos += now() - before
		if err == nil {
			sent += uint64(len(topics))
			continue
		}
		for i := len(topics) - 1; i >= 0; i-- {
			r.ledger.withdraw(topics[i])
		}
		if !errors.Is(err, errOverloaded) {
			return fmt.Errorf("publishing: %w", err)
		}
		r.refusals += uint64(len(topics))
		sleepUntil(ctx, now()+int64(10*time.Millisecond))
	}
	return nil
}

// due waits until something is to be published, and returns how many events; 0 means to look again.
func (r *run) due(ctx context.Context, began, end int64, sent uint64) (int, error) {
	n := batchEvents
	if rate := int64(r.config.EventsPerSec); rate > 0 {
		at := began + int64(float64(sent)*float64(time.Second)/float64(rate))
		if at > now() {
			sleepUntil(ctx, min(at, end))
			return 0, nil
		}
		n = int(min(int64(n), 1+int64(float64(now()-at)*float64(rate)/float64(time.Second))))
	}
	under, live := r.ledger.underWay()
	if live == 0 {
		return 0, errAllGone
	}
	if r.config.WindowEvents == 0 {
		return n, nil
	}
	perEvent := float64(live) / float64(r.config.topicCount())
	if room := int(float64(r.config.WindowEvents) - float64(under)/perEvent); room > 0 {
		return min(n, room), nil
	}
	if now()-r.ledger.lastArrival.Load() > int64(r.config.Patience) {
		return 0, fmt.Errorf("nothing has arrived for %v: the window stays full", r.config.Patience)
	}
	patience := time.NewTimer(r.config.Patience)
	defer patience.Stop()
	select {
	case <-r.ledger.arrivalsc:
	case <-patience.C:
	case <-ctx.Done():
	}
	return 0, nil
}
