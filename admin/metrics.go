package admin

import (
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/alkdev/hub/fanout"
)

func (s *Server) newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newCollector(s),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}

func (s *Server) metrics() endpoint {
	handler := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelWarn),
	})
	return func(w http.ResponseWriter, r *http.Request) *problem {
		handler.ServeHTTP(w, r)
		return nil
	}
}

// collector turns what the hub and the owner of the connections have counted into metrics, when it is
// asked. No metric has a label per spoke or topic.
type collector struct {
	server  *Server
	descs   []*prometheus.Desc // of families
	latency *prometheus.Desc
}

func newCollector(s *Server) *collector {
	c := &collector{server: s}
	for _, f := range families {
		c.descs = append(c.descs, prometheus.NewDesc(f.name, f.help, f.labels, nil))
	}
	c.latency = prometheus.NewDesc("hub_dispatch_to_written_seconds",
		"Time from the dispatch of an event to its write to a spoke.", nil, nil)
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descc chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		descc <- d
	}
	descc <- c.latency
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metricc chan<- prometheus.Metric) {
	now := c.server.snapshot()
	for i, f := range families {
		f.values(now, func(value float64, labels ...string) {
			m, err := prometheus.NewConstMetric(c.descs[i], f.kind, value, labels...)
			if err != nil { // a label that came from outside: no reason to panic here, on a bare goroutine
				m = prometheus.NewInvalidMetric(c.descs[i], err)
			}
			metricc <- m
		})
	}
	h := now.hub.Latency
	buckets := make(map[float64]uint64, len(h.Bounds))
	for i, bound := range h.Bounds {
		buckets[bound.Seconds()] = h.Counts[i]
	}
	metricc <- prometheus.MustNewConstHistogram(c.latency, h.Count, h.Sum, buckets)
}

// snapshot is what the metrics of one scrape are made of.
type snapshot struct {
	hub         fanout.Stats
	loop        *LoopStats // nil if nobody knows
	log         *LogStats  // the same
	keys        *KeyStats  // nil if there is no key set
	memory      *MemoryStats
	cluster     *fanout.ClusterInfo // nil for a hub that is alone
	limits      Limits
	build       []string
	ready       bool
	streams     int64
	slowStreams uint64
}

func (s *Server) snapshot() *snapshot {
	now := &snapshot{
		hub: s.config.Hub.Stats(), limits: s.limits(), build: s.buildLabels(),
		ready:   s.config.Loop.Ready == nil || s.config.Loop.Ready(),
		streams: s.streams.Load(), slowStreams: s.slowStreams.Load(),
	}
	if s.config.Hub.Clustered() {
		info := s.config.Hub.ClusterInfo()
		now.cluster = &info
	}
	if stats := s.config.Loop.Stats; stats != nil {
		loop := stats()
		now.loop = &loop
	}
	if stats := s.config.Log; stats != nil {
		log := stats()
		now.log = &log
	}
	if stats := s.config.Keys; stats != nil {
		keys := stats()
		now.keys = &keys
	}
	if stats := s.config.Memory; stats != nil {
		memory := stats()
		now.memory = &memory
	}
	return now
}

// limits returns the limits that were given, and those that this package knows better.
func (s *Server) limits() Limits {
	given, hub := s.config.Limits, s.config.Hub.Limits()
	all := Limits{
		Bytes: make(map[string]int64), Times: make(map[string]time.Duration), Counts: make(map[string]int),
	}
	maps.Copy(all.Bytes, given.Bytes)
	maps.Copy(all.Times, given.Times)
	maps.Copy(all.Counts, given.Counts)
	all.Bytes["spoke_buffer"] = hub.SpokeBytes
	all.Bytes["total_buffer"] = hub.TotalBytes
	all.Times["spoke_lag"] = hub.SpokeLag
	all.Bytes["admin_max_body"] = s.config.MaxBodyBytes
	all.Counts["admin_max_streams"] = s.config.MaxStreams
	all.Counts["max_topics"], all.Bytes["max_topic_memory"] = s.config.Hub.TopicLimits()
	all.Counts["spoke_rate_per_second"], all.Counts["spoke_burst"] = s.config.Hub.SpokeRate()
	return all
}

// codeLabel is 0's "other", for codes that a peer has chosen freely.
func codeLabel(e fanout.Ending) string {
	if e.Code == 0 {
		return "other"
	}
	return strconv.Itoa(int(e.Code))
}
