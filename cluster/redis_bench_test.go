package cluster_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/internal/fleet"
)

// counter is a cluster.Handler that counts.
type counter struct{ messages, ups atomic.Int64 }

func (c *counter) Receive(string, string, []byte) { c.messages.Add(1) }
func (c *counter) Up()                            { c.ups.Add(1) }
func (c *counter) Down(error)                     {}
func (c *counter) Lost(uint64, string)            {}
func (c *counter) Met()                           {}

// BenchmarkRedis is a message of 280 bytes from Publish to Receive at so many other hubs, as fast as it goes: what it
// costs this process, publisher and receivers together, and the server.
func BenchmarkRedis(b *testing.B) {
	for _, hubs := range []int{0, 1, 3} {
		for _, own := range []bool{false, true} {
			if own && hubs != 1 {
				continue
			}
			b.Run(fmt.Sprintf("receivers=%d/own=%v", hubs, own), func(b *testing.B) {
				s := startRedis(b)
				start := func(subjects ...cluster.Subject) (cluster.Engine, *counter) {
					c := &counter{}
					e := s.engine(b)
					require.NoError(b, e.Start(c))
					b.Cleanup(e.Close)
					e.Subscribe(subjects...)
					require.Eventually(b, func() bool { return c.ups.Load() > 0 }, patience, time.Millisecond)
					return e, c
				}
				topic := cluster.Subject{Name: "hub:e:tick:42"}
				publisher, _ := start()
				if own {
					publisher.Subscribe(topic)
				}
				var receivers []*counter
				for range hubs {
					_, c := start(topic)
					receivers = append(receivers, c)
				}
				data := []byte(strings.Repeat("x", 280))
				server := fleet.CPUOf(s.cmd.Process.Pid)
				self := fleet.SelfCPU()
				b.ReportAllocs()
				for b.Loop() {
					if err := publisher.Publish(topic.Name, data); err != nil {
						b.Fatal(err)
					}
				}
				publisher.Flush()
				for _, c := range receivers {
					for c.messages.Load() < int64(b.N) {
						time.Sleep(100 * time.Microsecond)
					}
				}
				b.ReportMetric(float64(fleet.SelfCPU()-self)/float64(b.N), "cpu-ns/message")
				b.ReportMetric(float64(fleet.CPUOf(s.cmd.Process.Pid)-server)/float64(b.N), "server-cpu-ns/message")
			})
		}
	}
}
