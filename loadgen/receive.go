package loadgen

import (
	"bytes"
	"errors"
	"io"

	"github.com/bytedance/sonic"
	"github.com/gobwas/ws"

	"github.com/alkdev/hub/codec"
)

var (
	errOver     = errors.New("the connection is over")
	errBadClose = errors.New("a close frame that says nothing valid")
)

// reservedEvent begins the hub's own events, as hubs spell them.
var reservedEvent = []byte(`{"type":"` + codec.ReservedPrefix)

// onFrameLocked takes one frame for the spoke of the turn. What it returns ends the connection.
func (rd *reader) onFrameLocked(op ws.OpCode, payload []byte) error {
	sp := rd.turn.spoke
	switch {
	case op == ws.OpPing:
		rd.counts.pings++
		sp.send(ws.OpPong, payload)
	case op == ws.OpClose:
		return rd.onCloseLocked(sp, payload)
	case op == ws.OpText || op == ws.OpBinary:
		rd.onMessageLocked(sp, payload)
	}
	return nil
}

// onCloseLocked notes the hub's close frame and answers it. The hub then closes the socket.
func (rd *reader) onCloseLocked(sp *spoke, body []byte) error {
	if sp.phase == closing {
		return errOver // the answer to ours
	}
	code, reason, err := codec.ParseClose(body)
	if err != nil {
		return errBadClose
	}
	rd.leaveLocked(sp)
	sp.end = ending{over: true, code: code, reason: reason}
	sp.phase = closing
	sp.send(ws.OpClose, body)
	return nil
}

func (rd *reader) onMessageLocked(sp *spoke, message []byte) {
	if sp.phase == closing {
		return
	}
	if s, ok := readStamp(message); ok {
		rd.onStampLocked(sp, s)
		return
	}
	e, err := codec.ParseEnvelope(message)
	switch {
	case err == nil && e.Reserved():
		rd.onReservedLocked(sp, e)
		return
	case err == nil:
		if s, ok := decodeStamp(e); ok {
			rd.onStampLocked(sp, s)
			return
		}
	case bytes.HasPrefix(message, reservedEvent):
		return // of a newer hub, and too long to be kept
	}
	rd.counts.foreign++
}

// onStampLocked takes an event of a load generator, this run's or another one's.
func (rd *reader) onStampLocked(sp *spoke, s stamp) {
	switch string(s.run) {
	case rd.run.id:
	case rd.run.probeID:
		rd.run.probed.Add(1)
		return
	default:
		rd.counts.foreign++
		return
	}
	if sp.phase != reading {
		return // from a stalled one that is being looked at
	}
	switch sp.check.see(s.seq) {
	case doubled:
		rd.counts.doubled++
		return
	case late:
		rd.counts.outOfOrder++
	}
	// The bounds are the histogram's; what is beyond them counts as the bound.
	nanos := min(max(rd.turn.at-s.at, rd.counts.latency.LowestTrackableValue()), rd.counts.latency.HighestTrackableValue())
	_ = rd.counts.latency.RecordValue(nanos)
	rd.turn.deliveries++
	rd.turn.accounted++
	sp.accounted++
}

// onReservedLocked takes one of the hub's own events.
func (rd *reader) onReservedLocked(sp *spoke, e codec.Envelope) {
	switch e.Type {
	case codec.TypeWelcome:
		if sp.phase == welcoming {
			rd.welcomeLocked(sp)
		}
	case codec.TypeGap:
		var gap codec.Gap
		if sp.phase != reading || sonic.ConfigStd.Unmarshal(e.Payload, &gap) != nil {
			return
		}
		missed := int64(gap.Dropped + gap.Conflated)
		sp.gaps += missed
		rd.counts.gapEvents++
		rd.counts.gapSum += uint64(missed)
		// Part of it may be about events that are not ours.
		missed = min(missed, rd.run.ledger.missing(sp.topic, sp.accounted))
		sp.accounted += missed
		rd.turn.accounted += missed
	}
}

// welcomeLocked: the spoke is connected. A stalled one reads no more from here on.
func (rd *reader) welcomeLocked(sp *spoke) {
	sp.welcomed = true
	sp.phase = reading
	if sp.stalls {
		sp.phase = stalled
		rd.unwatchLocked(sp)
	} else {
		rd.run.ledger.join(sp.topic)
	}
	rd.run.dials.welcomed()
}

// leaveLocked takes a spoke out of the ledger, if it is in there.
func (rd *reader) leaveLocked(sp *spoke) {
	if sp.phase == reading {
		rd.settleLocked()
		rd.run.ledger.leave(sp.topic, sp.accounted)
	}
}

// endLocked ends a connection on our side, because err has come in the place of bytes.
func (rd *reader) endLocked(sp *spoke, err error) {
	if sp.phase == gone {
		return
	}
	rd.leaveLocked(sp)
	if !sp.end.over {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF // as package tls calls it
		}
		sp.end = ending{over: true, code: codec.CloseAbnormal, err: err}
	}
	sp.phase = gone
	sp.closeSocket()
	rd.run.dials.over(sp)
	rd.run.endings.Add(1)
}
