package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/internal/fleet"
)

// quotes are events as applications send them: lists of prices with names, times and flags. Each list
// is another one, so that only the names of the members repeat from event to event.
type quotes struct {
	fleet.Event
	envelopes []codec.Envelope
	numberAt  int // in the payload
}

// quoteLists is how many lists there are.
const quoteLists = 64

// newQuotes returns lists of so many bytes, the same in every process. The number of the event is a
// member of the list.
func newQuotes(payloadBytes int) *quotes {
	r := rand.New(rand.NewPCG(42, uint64(payloadBytes)))
	q := &quotes{}
	for range quoteLists {
		e := codec.Envelope{Type: "quotes", ID: "42", Payload: quoteList(r, payloadBytes)}
		message, err := codec.AppendEnvelope(nil, e)
		if err != nil {
			panic("bench: bad event: " + err.Error())
		}
		q.envelopes = append(q.envelopes, e)
		q.Messages = append(q.Messages, message)
	}
	q.numberAt = bytes.Index(q.envelopes[0].Payload, []byte(fleet.Number(0)))
	q.NumberAt = bytes.Index(q.Messages[0], q.envelopes[0].Payload) + q.numberAt
	return q
}

// quoteList returns as many quotes as there is room for, and fills what is left with a note.
func quoteList(r *rand.Rand, payloadBytes int) []byte {
	const end = `],"note":"` + `"}`
	b := []byte(`{"seq":"` + fleet.Number(0) + `","quotes":[`)
	for {
		quote := appendQuote(nil, r)
		if len(b)+len(quote)+len(end) >= payloadBytes {
			break
		}
		b = append(append(b, quote...), ',')
	}
	b = append(bytes.TrimSuffix(b, []byte(",")), end[:len(end)-2]...)
	for len(b)+2 < payloadBytes {
		b = append(append(b, names[r.IntN(len(names))]...), ' ')
	}
	return append(b[:payloadBytes-2], end[len(end)-2:]...)
}

var (
	names  = []string{"Anna", "Bergen", "Cordoba", "Delta", "Emil", "Fjord", "Granite", "Harbour", "Iris", "Juniper", "Kestrel", "Lumen"}
	kinds  = []string{"Holdings", "Energy", "Foods", "Logistics", "Systems", "Partners"}
	places = []string{"XNAS", "XNYS", "XLON", "XETR"}
)

// appendQuote appends one quote.
func appendQuote(b []byte, r *rand.Rand) []byte {
	price := 5 + r.Float64()*400
	symbol := make([]byte, 4)
	for i := range symbol {
		symbol[i] = byte('A' + r.IntN(26))
	}
	return fmt.Appendf(b, `{"symbol":%q,"name":"%s %s","bid":%.2f,"ask":%.2f,"size":%d,"venue":%q,"at":"2026-03-%02dT%02d:%02d:%02d.%03dZ","halted":%t}`,
		symbol, names[r.IntN(len(names))], kinds[r.IntN(len(kinds))], price, price+r.Float64()/5, 100*(1+r.IntN(90)), places[r.IntN(len(places))],
		1+r.IntN(28), 9+r.IntN(8), r.IntN(60), r.IntN(60), r.IntN(1000), r.IntN(50) == 0)
}

// numbered returns the envelope of event n. It is valid until the list has its next turn.
func (q *quotes) numbered(n uint64) codec.Envelope {
	e := q.envelopes[n%quoteLists]
	fleet.PutNumber(e.Payload[q.numberAt:], n)
	return e
}

func TestQuotesAreJSONOfTheirSizeAndDiffer(t *testing.T) {
	for _, size := range []int{64, 1000, 4096} {
		q, again := newQuotes(size), newQuotes(size)
		require.Equal(t, q.Messages, again.Messages)
		seen := map[string]bool{}
		for n := range uint64(quoteLists) {
			e := q.numbered(n)
			require.Len(t, e.Payload, size)
			require.True(t, json.Valid(e.Payload), "%s", e.Payload)
			fleet.PutNumber(q.Messages[n][q.NumberAt:], n)
			message, err := codec.AppendEnvelope(nil, e)
			require.NoError(t, err)
			require.Equal(t, string(message), string(q.Messages[n]))
			seen[string(e.Payload)] = true
		}
		require.Len(t, seen, quoteLists)
	}
}
