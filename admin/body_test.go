package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/codec"
)

func answered(accepted, matched int) string {
	return fmt.Sprintf(`{"accepted":%d,"matched":%d}`, accepted, matched)
}

func TestBatchIsBounded(t *testing.T) {
	events, p := parseBody([]byte(strings.Repeat(`{"type":"a"}`, maxBatch)), false)
	require.Nil(t, p)
	require.Len(t, events, maxBatch)
	_, p = parseBody([]byte(strings.Repeat("{\"type\":\"a\"}\n", maxBatch+1)), true)
	require.Equal(t, http.StatusRequestEntityTooLarge, p.status)
}

func TestEnvelopeInArrayMayBeAsDeepAsAlone(t *testing.T) {
	depth := 511 // the object around it makes 512, the most there may be
	deep := `{"type":"a","payload":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
	for _, body := range []string{deep, "[" + deep + "]"} {
		_, p := parseBody([]byte(body), false)
		require.Nil(t, p)
	}
}

func TestWhatIsNestedTooDeepIsNotLookedThrough(t *testing.T) {
	deep := strings.Repeat("[", codec.MaxDepth+1)
	require.Equal(t, len(deep)+3, valueLen([]byte(deep+"],1")))
	for _, body := range []string{"[", ""} {
		_, p := parseBody([]byte(body+strings.Repeat("[", 1<<20)), false)
		require.NotNil(t, p)
		require.Contains(t, p.Message, "nested deeper than 512 levels")
	}
}

// FuzzBody holds the parser of bodies against encoding/json and against the parser of one envelope.
func FuzzBody(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, lines bool) {
		events, p := parseBody(body, lines)
		valid := codec.CheckJSON(body) == nil
		if p != nil {
			require.Empty(t, events)
			require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, p.status)
			if valid && !lines {
				require.Equal(t, http.StatusUnprocessableEntity, p.status, "it is JSON: %s", p.Message)
			}
			return
		}
		var elements []json.RawMessage
		if array := json.Unmarshal(body, &elements) == nil && elements != nil && !lines; array {
			require.True(t, valid)
			require.Len(t, events, len(elements))
			for i, element := range elements {
				e, err := codec.ParseEnvelope(element)
				require.NoError(t, err)
				require.Equal(t, e, events[i])
			}
			return
		}
		// Several values one after the other, or one: encoding/json reads them as a stream.
		d := json.NewDecoder(strings.NewReader(string(body)))
		for _, got := range events {
			var value json.RawMessage
			require.NoError(t, d.Decode(&value))
			e, err := codec.ParseEnvelope(value)
			require.NoError(t, err)
			require.Equal(t, e, got)
		}
		require.False(t, d.More())
	})
}
