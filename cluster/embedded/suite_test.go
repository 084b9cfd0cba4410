package embedded_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/cluster/enginetest"
)

func TestNATSIsAnEngine(t *testing.T) {
	hub, err := cluster.NATSHub("hub")
	require.NoError(t, err)
	yoga, err := cluster.NATSYoga("gate")
	require.NoError(t, err)
	enginetest.Run(t, func(t *testing.T) enginetest.Bed {
		s := startServer(t, 0)
		port := portOf(s)
		running := []*server.Server{s}
		stop := func() {
			last := running[len(running)-1]
			last.Shutdown()
			last.WaitForShutdown()
		}
		return enginetest.Bed{
			Engine: func(t *testing.T) cluster.Engine {
				e, err := cluster.NATS(cluster.NATSConfig{
					Servers:      []string{fmt.Sprintf("nats://127.0.0.1:%d", port)},
					PingInterval: 500 * time.Millisecond, WriteTimeout: 2 * time.Second, Logger: quiet,
				})
				require.NoError(t, err)
				return e
			},
			Hub: hub, Yoga: yoga, Stop: stop,
			Start: func() { running = append(running, startServer(t, port)) },
			Faults: map[string]enginetest.Fault{
				"the connections are killed": {Do: func(t *testing.T) {
					s := running[len(running)-1]
					conns, err := s.Connz(nil)
					require.NoError(t, err)
					for _, c := range conns.Conns {
						require.NoError(t, s.DisconnectClientByID(c.Cid))
					}
				}},
			},
		}
	})
}
