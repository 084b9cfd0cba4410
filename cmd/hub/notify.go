package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/alkdev/hub/fanout"
)

// notify tells systemd, if it has started us with Type=notify, how the hub is (sd_notify(3)).
func notify(logger *slog.Logger, state, status string) {
	if _, err := daemon.SdNotify(false, state+"\nSTATUS="+status); err != nil {
		logger.Warn("systemd cannot be told", slog.String("state", state), slog.Any("error", err))
	}
}

// feedWatchdog tells systemd's watchdog twice per WatchdogSec that events get through every shard. If one
// is stuck it is told nothing, and restarts the hub. stop ends that; it waits for the shards.
func feedWatchdog(hub *fanout.Hub, logger *slog.Logger) (stop func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		logger.Warn("WATCHDOG_USEC or WATCHDOG_PID is not as systemd sets it", slog.Any("error", err))
	}
	if interval <= 0 {
		return func() {}
	}
	stopc, donec := make(chan struct{}), make(chan struct{})
	go func() { // ends with stopc
		defer close(donec)
		ticker := time.NewTicker(interval / 2)
		defer ticker.Stop()
		for {
			hub.Flush()
			notify(logger, daemon.SdNotifyWatchdog, fmt.Sprintf("%d spokes", hub.Stats().Spokes))
			select {
			case <-ticker.C:
			case <-stopc:
				return
			}
		}
	}()
	return func() { close(stopc); <-donec }
}
