package verify

import (
	"bytes"
	"runtime"
	"strconv"
)

// Goroutine returns the number of the calling goroutine, for checks of who touches what: the race
// detector sees nothing of what is handed over through nbio. It costs a microsecond; ask On first.
func Goroutine() uint64 {
	var buf [64]byte
	text := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	if end := bytes.IndexByte(text, ' '); end > 0 {
		text = text[:end]
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		panic("verify: a stack that does not begin with the goroutine's number: " + string(text))
	}
	return n
}
