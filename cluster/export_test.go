package cluster

import (
	"context"
	"net"
)

// SetRedisDial makes an engine that Redis has returned, and that is not started, connect by fn.
func SetRedisDial(e Engine, fn func(ctx context.Context, address string) (net.Conn, error)) {
	e.(*redisEngine).dialTCP = fn
}
