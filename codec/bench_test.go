package codec

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/bytedance/sonic"
	"github.com/stretchr/testify/require"
)

// benchEnvelope is an envelope of size bytes as applications send them: short members, some
// numbers, one longer text.
func benchEnvelope(b *testing.B, size int) []byte {
	b.Helper()
	head := `{"type":"tick","id":"42","payload":{"symbol":"ALK","price":101.25,"size":300,` +
		`"at":1764000000123,"halted":false,"venues":["XNAS","XNYS"],"note":"`
	tail := `"}}`
	text := strings.Repeat("the quick brown fox jumps over it ", size/34+1)
	data := []byte(head + text[:size-len(head)-len(tail)] + tail)
	require.Len(b, data, size)
	require.NoError(b, CheckJSON(data))
	return data
}

// wireEnvelope is what a program without this package would decode into.
type wireEnvelope struct {
	Type    string          `json:"type"`
	ID      string          `json:"id"`
	Payload json.RawMessage `json:"payload"`
}

func benchSizes(b *testing.B, run func(b *testing.B, data []byte)) {
	for _, size := range []int{256} {
		b.Run("payload="+strconv.Itoa(size), func(b *testing.B) {
			data := benchEnvelope(b, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			run(b, data)
		})
	}
}

func BenchmarkCheckJSON(b *testing.B) {
	benchSizes(b, func(b *testing.B, data []byte) {
		for b.Loop() {
			if err := CheckJSON(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCheckJSONSonic(b *testing.B) {
	benchSizes(b, func(b *testing.B, data []byte) {
		for b.Loop() {
			if !sonic.Valid(data) {
				b.Fatal("not valid")
			}
		}
	})
}

func BenchmarkCheckJSONStd(b *testing.B) {
	benchSizes(b, func(b *testing.B, data []byte) {
		for b.Loop() {
			if !json.Valid(data) {
				b.Fatal("not valid")
			}
		}
	})
}

func BenchmarkParseEnvelope(b *testing.B) {
	benchSizes(b, func(b *testing.B, data []byte) {
		for b.Loop() {
			if _, err := ParseEnvelope(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseEnvelopeSonic(b *testing.B) {
	benchUnmarshal(b, sonic.ConfigStd.Unmarshal) // the configuration that copies and validates
}

func BenchmarkParseEnvelopeSonicDefault(b *testing.B) {
	benchUnmarshal(b, sonic.ConfigDefault.Unmarshal)
}

func BenchmarkParseEnvelopeStd(b *testing.B) {
	benchUnmarshal(b, json.Unmarshal)
}

func benchUnmarshal(b *testing.B, unmarshal func([]byte, any) error) {
	benchSizes(b, func(b *testing.B, data []byte) {
		for b.Loop() {
			var e wireEnvelope
			if err := unmarshal(data, &e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkNewFrame(b *testing.B) {
	benchSizes(b, func(b *testing.B, data []byte) {
		e, err := ParseEnvelope(data)
		require.NoError(b, err)
		for b.Loop() {
			if _, err := NewFrame(e, Text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkNewFrameSonic(b *testing.B) {
	benchMarshal(b, sonic.ConfigStd.Marshal)
}

func BenchmarkNewFrameSonicDefault(b *testing.B) {
	benchMarshal(b, sonic.ConfigDefault.Marshal)
}

func BenchmarkNewFrameStd(b *testing.B) {
	benchMarshal(b, json.Marshal)
}

// benchMarshal encodes the envelope and puts the header in front, as NewFrame does.
func benchMarshal(b *testing.B, marshal func(any) ([]byte, error)) {
	benchSizes(b, func(b *testing.B, data []byte) {
		var e wireEnvelope
		require.NoError(b, json.Unmarshal(data, &e))
		for b.Loop() {
			raw, err := marshal(&e)
			if err != nil {
				b.Fatal(err)
			}
			putHeader(append(make([]byte, maxHeaderBytes, maxHeaderBytes+len(raw)), raw...), Text)
		}
	})
}
