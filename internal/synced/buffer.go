// Package synced has a buffer for tests that read a log while it is written.
package synced

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written. Any goroutine may use it; the zero Buffer is empty.
type Buffer struct {
	mu  sync.Mutex // a leaf
	buf bytes.Buffer
}

// Write implements io.Writer. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns all that has been written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
