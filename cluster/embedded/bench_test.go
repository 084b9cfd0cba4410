package embedded_test

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/cluster"
	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// countSink is a connection whose kernel takes everything.
type countSink struct {
	bytes atomic.Int64
	wakec chan struct{} // 1 deep
}

func (k *countSink) Write(b []byte) (int, error) {
	k.bytes.Add(int64(len(b)))
	select {
	case k.wakec <- struct{}{}:
	default:
	}
	return 0, nil
}
func (*countSink) Close(fanout.Cause) {}
func (*countSink) Remote() string     { return "192.0.2.1:1234" }

// BenchmarkDelivery is one event from Dispatch to the write to a spoke, one at a time (window=1) or with up to so
// many on their way: at a hub that is alone, at one that delivers first and forwards, and at one that would deliver what the
// engine sends back, which is what a spoke of another hub sees.
func BenchmarkDelivery(b *testing.B) {
	inProcess := func() cluster.NATSConfig {
		s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
		require.NoError(b, err)
		s.Start()
		require.True(b, s.ReadyForConnections(patience))
		b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		return cluster.NATSConfig{InProcess: s}
	}
	overTCP := func() cluster.NATSConfig {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
		require.NoError(b, err)
		s.Start()
		require.True(b, s.ReadyForConnections(patience))
		b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		return cluster.NATSConfig{Servers: []string{s.ClientURL()}}
	}
	for _, engine := range []struct {
		name   string
		config func() cluster.NATSConfig
	}{{"none", nil}, {"embedded", inProcess}, {"tcp", overTCP}} {
		for _, way := range []string{"local", "echo"} {
			if engine.config == nil && way == "echo" {
				continue
			}
			for _, window := range []struct {
				name string
				size int
			}{{"window=1", 1}, {"window=64", 64}} {
				b.Run("engine="+engine.name+"/deliver="+way+"/"+window.name, func(b *testing.B) {
					var from, to *fanout.Hub
					if engine.config == nil {
						from = newHub(b, nil)
						to = from
					} else {
						nc := engine.config()
						from = newHub(b, &nc)
						if to = from; way == "echo" {
							to = newHub(b, &nc)
						}
					}
					deliver(b, from, to, window.size)
				})
			}
		}
	}
}

func newHub(b *testing.B, nc *cluster.NATSConfig) *fanout.Hub {
	b.Helper()
	c := fanout.Config{Logger: quiet, Shards: 1}
	if nc == nil {
		hub, err := fanout.New(c)
		require.NoError(b, err)
		b.Cleanup(hub.Close)
		return hub
	}
	engine, err := cluster.NATS(*nc)
	require.NoError(b, err)
	format, err := cluster.NATSHub("hub")
	require.NoError(b, err)
	member, err := cluster.New(cluster.Config{Engine: engine, Format: format, Logger: quiet})
	require.NoError(b, err)
	c.Cluster = member
	hub, err := fanout.New(c)
	require.NoError(b, err)
	require.NoError(b, member.Start(hub))
	b.Cleanup(func() { member.Close(); hub.Close() })
	require.True(b, member.Await(b.Context()))
	return hub
}

func deliver(b *testing.B, from, to *fanout.Hub, window int) {
	sink := &countSink{wakec: make(chan struct{}, 1)}
	require.NoError(b, to.NewSpoke(sink).Attach())
	e := codec.Envelope{Type: "tick", ID: "42", Payload: make([]byte, 0, 256)}
	e.Payload = append(e.Payload, '"')
	for range 200 {
		e.Payload = append(e.Payload, 'x')
	}
	e.Payload = append(e.Payload, '"')
	frame, err := codec.NewFrame(e, codec.Text)
	require.NoError(b, err)
	size := int64(frame.Len())
	for before := sink.bytes.Load(); sink.bytes.Load() < before+size; time.Sleep(time.Millisecond) { // until it is known who wants it
		_, err := from.Dispatch(e)
		require.NoError(b, err)
	}
	time.Sleep(50 * time.Millisecond)
	begin := sink.bytes.Load()
	cpu := cpuTime()
	sent := int64(0)
	for b.Loop() {
		for sink.bytes.Load()-begin <= (sent-int64(window))*size {
			<-sink.wakec
		}
		if _, err := from.Dispatch(e); err != nil {
			b.Fatal(err)
		}
		sent++
	}
	for sink.bytes.Load()-begin < sent*size {
		<-sink.wakec
	}
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(sent), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
