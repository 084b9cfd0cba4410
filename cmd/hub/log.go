package main

import (
	"bytes"
	"io"
	"log/slog"
	"time"

	"github.com/alkdev/hub/admin"
	"github.com/alkdev/hub/internal/logqueue"
)

// logFlush is how long the end of the program waits for the last lines of a log that hangs.
const logFlush = time.Second

// startLog returns a logger whose lines wait in a queue for out: whoever logs is often a poller or a
// shard, and must not stop because nobody reads a pipe.
func (c *config) startLog(out io.Writer) *slog.Logger {
	c.log = logqueue.New(out, c.logBuffer, func(lines uint64) []byte {
		var b bytes.Buffer
		c.logger(&b, slog.LevelWarn).Warn("lines of this log are missing here: it could not be written", slog.Uint64("lines", lines))
		return b.Bytes()
	})
	return c.logger(c.log, c.logLevel)
}

func (c *config) logger(w io.Writer, level slog.Level) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// logStats is what the admin side shows of the log.
func (c *config) logStats() admin.LogStats {
	if c.log == nil {
		return admin.LogStats{}
	}
	return admin.LogStats{Dropped: c.log.Dropped(), Failed: c.log.Failed()}
}
