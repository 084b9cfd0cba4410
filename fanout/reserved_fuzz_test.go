package fanout

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

// FuzzReserved looks for reserved events of a spoke that leave it with other subscriptions than it was
// told, with more than it may have, or with some that stay behind when it is gone.
func FuzzReserved(f *testing.F) {
	for ops, payloads := range map[uint8][2]string{
		0b0000_0000: {`{"topic":"tick:1"}`, `{"topics":["tick:*","order:7","tick:1"]}`},
		0b0000_0100: {`["tick:1"]`, `"tick:1"`},
		0b0001_0000: {`null`, `{"topics":[],"topic":"a:1"}`},
		0b0001_0100: {`"*"`, `{"topics":["*"]}`},
		0b0001_1000: {`"tick:1"`, `{"token":"narrow"}`},
		0b0000_1010: {`{"token":"other"}`, `{"token":7}`},
		0b0001_1110: {`{"token":"later"}`, `"\ud800"`},
		0b0001_0101: {`"tick:1"`, `"tick:*"`},
		0b0001_0011: {`{}`, `{"topic":null}`},
	} {
		f.Add(ops, "tick:1", []byte(payloads[0]), []byte(payloads[1]))
	}
	tick := codec.MustParsePattern("tick:*")
	h, err := New(Config{Shards: 1, Logger: slog.New(slog.DiscardHandler), Renew: func(token string) (Claims, error) {
		switch token {
		case "narrow":
			return Claims{Subject: "ada", Topics: []codec.Pattern{codec.MustParsePattern("tick:1")}}, nil
		case "other":
			return Claims{Subject: "bob"}, nil
		case "later":
			return Claims{}, ErrAuthUnavailable
		}
		return Claims{}, errors.New("not a token")
	}})
	require.NoError(f, err)
	f.Cleanup(h.Close)
	f.Fuzz(func(t *testing.T, ops uint8, id string, first, second []byte) {
		claimed := ops&0b1_0000 != 0
		var s *Spoke
		var k *scriptSink
		if claimed {
			s, k = connectAs(t, h, Claims{Subject: "ada", Topics: []codec.Pattern{tick}})
		} else {
			s, k = connect(t, h)
		}
		defer s.Detach(Cause{})
		for i, payload := range [][]byte{first, second} {
			before, _ := s.Topics()
			implied := s.subs != nil && s.subs.implied
			typ := []string{codec.TypeSubscribe, codec.TypeUnsubscribe, codec.TypeAuth, "__other"}[ops>>(2*i)&3]
			name, err := json.Marshal(id)
			require.NoError(t, err)
			message := fmt.Appendf(nil, `{"type":%q,"id":%s,"payload":%s}`, typ, name, payload)
			if e, err := codec.ParseEnvelope(message); err == nil && !e.Reserved() {
				return // the payload has brought another type with it
			}
			s.Receive(message)
			got := answers(t, h, k)
			require.Len(t, got, i+1, "each is answered")
			requireTold(t, s, message, before, implied, got[i])
		}
		s.Detach(Cause{})
		h.Flush()
		sh := h.shards[0]
		sh.mu.Lock()
		defer sh.mu.Unlock()
		require.Empty(t, sh.index.sets)
	})
}

// requireTold holds what a spoke is subscribed to against what it was told. implied says that before it had what
// its claims let it have, and nothing of its own.
func requireTold(t *testing.T, s *Spoke, message []byte, before []codec.Pattern, implied bool, answer codec.Envelope) {
	t.Helper()
	now, _ := s.Topics()
	require.LessOrEqual(t, len(now), DefaultMaxTopics)
	if c := s.claims(); c != nil {
		require.NoError(t, c.Allow(now...))
	}
	if answer.Type == codec.TypeError {
		require.Equal(t, before, now)
		return
	}
	e, err := codec.ParseEnvelope(message)
	require.NoError(t, err)
	require.Equal(t, e.ID, answer.ID)
	if answer.Type == codec.TypeAuthed {
		require.Equal(t, codec.TypeAuth, e.Type)
		return
	}
	asked, err := codec.ParseTopics(e)
	require.NoError(t, err)
	var told codec.Topics
	require.NoError(t, answer.Decode(&told))
	require.Len(t, told.Topics, len(asked))
	for i, p := range asked {
		require.Equal(t, p.String(), told.Topics[i])
		switch {
		case answer.Type == codec.TypeSubscribed:
			require.Contains(t, now, p)
		case implied && p != codec.Everything: // it has not subscribed to that, and keeps what its claims let it have
			require.Subset(t, before, now)
		default:
			require.NotContains(t, now, p)
		}
	}
}
