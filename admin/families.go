package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/alkdev/hub/fanout"
)

// family is one metric, with its values in a snapshot.
type family struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	values     func(*snapshot, emit)
}

// emit takes one value of a metric.
type emit func(value float64, labels ...string)

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// families are all metrics but the histogram.
var families = append([]family{
	{"hub_spokes", "Spokes connected.", gauge, nil, one(func(n *snapshot) int { return n.hub.Spokes })},
	{"hub_opened_total", "Spokes that have connected.", counter, nil,
		one(func(n *snapshot) uint64 { return n.hub.Opened })},
	{"hub_closed_total", "Spokes that have gone, by close code and reason.", counter, []string{"code", "reason"}, closed},
	{"hub_dispatched_total", "Events dispatched to all spokes that want them.", counter, nil,
		one(func(n *snapshot) uint64 { return n.hub.Dispatched })},
	{"hub_received_total", "Events received from spokes.", counter, nil,
		one(func(n *snapshot) uint64 { return n.hub.Received })},
	{"hub_refused_envelopes_total", "Messages from spokes that were no envelopes.", counter, nil,
		one(func(n *snapshot) uint64 { return n.hub.Refused })},
	{"hub_rate_limited_total", "Messages from spokes that were refused for being too many, unread.", counter, nil,
		one(func(n *snapshot) uint64 { return n.hub.RateLimited })},
	{"hub_forbidden_total", "Events and subscriptions that were beyond what the spoke's token allows.", counter, []string{"what"}, forbidden},
	{"hub_refused_subscriptions_total", "Subscriptions of spokes that were refused for being too many, by the limit.", counter, []string{"reason"}, refusedTopics},
	{"hub_topic_bytes", "Memory that subscriptions take, by estimate.", gauge, nil, one(func(n *snapshot) int64 { return n.hub.TopicBytes })},
	{"hub_panics_total", "Panics of listeners and other callbacks, contained.", counter, nil,
		one(func(n *snapshot) uint64 { return n.hub.Panics })},

	{"hub_deliveries_total", "Events handed to spokes.", counter, nil,
		one(func(n *snapshot) uint64 { return n.hub.Deliveries })},
	{"hub_delivered_bytes_total", "Bytes of frames handed to spokes.", counter, nil,
		one(func(n *snapshot) uint64 { return n.hub.DeliveredBytes })},
	{"hub_writes_total", "Writes to spokes.", counter, nil, one(func(n *snapshot) uint64 { return n.hub.Writes })},

	{"hub_dropped_frames_total", "Events that spokes lost, by the limit that was passed.", counter, []string{"reason"},
		byReason(func(n *snapshot) map[fanout.LossReason]uint64 { return n.hub.Dropped })},
	{"hub_conflated_frames_total", "Events that gave way to newer ones of their topic, by the limit that was passed.", counter, []string{"reason"},
		byReason(func(n *snapshot) map[fanout.LossReason]uint64 { return n.hub.Conflated })},
	{"hub_slow_disconnects_total", "Spokes closed for being slow, by the limit that was passed.", counter, []string{"reason"},
		byReason(func(n *snapshot) map[fanout.LossReason]uint64 { return n.hub.Disconnected })},

	{"hub_queued_bytes", "Bytes queued for all spokes, what they share counted for each.", gauge, nil,
		one(func(n *snapshot) int64 { return n.hub.QueuedBytes })},
	{"hub_held_bytes", "Bytes queued for all spokes, what they share counted once.", gauge, nil,
		one(func(n *snapshot) int64 { return n.hub.HeldBytes })},
	{"hub_pending_bytes", "Bytes dispatched and not yet written or queued.", gauge, nil,
		one(func(n *snapshot) int64 { return n.hub.PendingBytes })},
	{"hub_in_flight_bytes", "Bytes given to the event loop and not yet taken by the kernel.", gauge, nil,
		one(func(n *snapshot) int64 { return n.hub.InFlightBytes })},
	{"hub_queued_spokes", "Spokes with anything queued or in flight.", gauge, nil,
		one(func(n *snapshot) int { return n.hub.QueuedSpokes })},

	{"hub_connections", "Connections open, those not upgraded yet included.", gauge, nil, connections},
	{"hub_suspensions_total", "Times that a spoke was not read from for a while, for the time that it took.", counter, nil, suspensions},
	{"hub_refused_connections_total", "Connections that did not become spokes, by reason.", counter, []string{"reason"}, refusedConnections},
	{"hub_tls_handshakes_total", "TLS handshakes that are over, by result: done or failed, peers that went away included.", counter, []string{"result"},
		ofTLS(func(t *TLSStats, emit emit) {
			emit(float64(t.Handshakes), "done")
			emit(float64(t.Failed), "failed")
		})},
	{"hub_tls_handshakes_running", "TLS handshakes under way.", gauge, nil,
		ofTLS(func(t *TLSStats, emit emit) { emit(float64(t.Running)) })},
	{"hub_tls_handshakes_in_line", "TLS handshakes that wait for their turn.", gauge, nil,
		ofTLS(func(t *TLSStats, emit emit) { emit(float64(t.InLine)) })},
	{"hub_tls_broken_connections_total", "Spokes that broke TLS after the handshake.", counter, nil,
		ofTLS(func(t *TLSStats, emit emit) { emit(float64(t.Broken)) })},
	{"hub_tls_certificate_loads_total", "How often the certificate was read, by result: a pair that could not be used leaves the one before in force.", counter, []string{"result"},
		ofTLS(func(t *TLSStats, emit emit) {
			emit(float64(t.Loads), "done")
			emit(float64(t.FailedReloads), "failed")
		})},
	{"hub_tls_certificate_expiry_timestamp_seconds", "When the certificate in force ends.", gauge, nil,
		ofTLS(func(t *TLSStats, emit emit) { emit(float64(t.NotAfter.Unix())) })},
	{"hub_ready", "1 while new connections are welcome.", gauge, nil, flag(func(n *snapshot) bool { return n.ready })},

	{"hub_auth_keys_age_seconds", "Time since the key set was fetched; as long as it never was, since it was first tried.", gauge, nil,
		ofKeys(func(k *KeyStats) float64 { return k.Age.Seconds() })},
	{"hub_auth_key_fetch_failures_total", "Fetches of the key set that failed.", counter, nil,
		ofKeys(func(k *KeyStats) float64 { return float64(k.Failures) })},

	{"hub_event_streams", "Readers of GET /v1/events and /v1/stats.", gauge, nil, one(func(n *snapshot) int64 { return n.streams })},
	{"hub_slow_event_streams_total", "Such readers cut off for being slow.", counter, nil,
		one(func(n *snapshot) uint64 { return n.slowStreams })},
	{"hub_event_stream_dropped_records_total", "Records that readers of what spokes do lost, by the limit that was passed.", counter, []string{"reason"},
		byReason(func(n *snapshot) map[fanout.LossReason]uint64 { return n.hub.TapDropped })},
	{"hub_event_stream_conflated_records_total", "Records that gave way to newer ones of their topic, by the limit that was passed.", counter, []string{"reason"},
		byReason(func(n *snapshot) map[fanout.LossReason]uint64 { return n.hub.TapConflated })},

	{"hub_total_buffer_bytes", "What hub_held_bytes may be at the moment: less than its limit while memory is short.", gauge, nil,
		one(func(n *snapshot) int64 { return n.hub.TotalBytes })},
	{"hub_memory_limit_bytes", "Memory that the program may use, 0 for any.", gauge, nil, memory(func(m *MemoryStats) float64 { return float64(m.LimitBytes) })},
	{"hub_memory_used_bytes", "Memory that it cannot do without: live objects, stacks and what the runtime needs.", gauge, nil,
		memory(func(m *MemoryStats) float64 { return float64(m.UsedBytes) })},
	{"hub_memory_short", "1 while memory is short: queues are shed and new connections refused.", gauge, nil,
		memory(func(m *MemoryStats) float64 { return oneIf(m.Tight) })},
	{"hub_memory_short_total", "How often memory has become short.", counter, nil, memory(func(m *MemoryStats) float64 { return float64(m.Times) })},
	{"hub_log_lines_dropped_total", "Lines of the log that were lost, because too much was waiting or because they could not be written.", counter, []string{"reason"}, logLines},

	{"hub_limit_bytes", "Limits in bytes, 0 for none.", gauge, []string{"limit"}, limitBytes},
	{"hub_limit_seconds", "Limits in time, 0 for none.", gauge, []string{"limit"}, limitTimes},
	{"hub_limit", "Limits in numbers of things, 0 for none.", gauge, []string{"limit"}, limitCounts},
	{"hub_build_info", "What runs here, always 1.", gauge, []string{"version", "go", "os", "arch"},
		func(n *snapshot, emit emit) { emit(1, n.build...) }},
	{"hub_sonic_fast_path", "1 if JSON is read and written by sonic's compiled code, 0 if by encoding/json.", gauge, nil,
		flag(func(*snapshot) bool { return fastPath })},
}, engineFamilies...)

// one is a metric with one value.
func one[T int | int64 | uint64](value func(*snapshot) T) func(*snapshot, emit) {
	return func(n *snapshot, emit emit) { emit(float64(value(n))) }
}

// flag is a metric that is 1 or 0.
func flag(on func(*snapshot) bool) func(*snapshot, emit) {
	return func(n *snapshot, emit emit) { emit(oneIf(on(n))) }
}

func oneIf(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func memory(value func(*MemoryStats) float64) func(*snapshot, emit) {
	return func(n *snapshot, emit emit) {
		if n.memory != nil {
			emit(value(n.memory))
		}
	}
}

func byReason(counts func(*snapshot) map[fanout.LossReason]uint64) func(*snapshot, emit) {
	return func(n *snapshot, emit emit) {
		for reason, count := range counts(n) {
			emit(float64(count), reason.String())
		}
	}
}

func closed(n *snapshot, emit emit) {
	for ending, count := range n.hub.Closed {
		emit(float64(count), codeLabel(ending), string(ending.Kind))
	}
}

func forbidden(n *snapshot, emit emit) {
	for what, count := range n.hub.Forbidden {
		emit(float64(count), what)
	}
}

func refusedTopics(n *snapshot, emit emit) {
	for reason, count := range n.hub.RefusedTopics {
		emit(float64(count), reason)
	}
}

// ofKeys is a metric of the key set, if there is one.
func ofKeys(value func(*KeyStats) float64) func(*snapshot, emit) {
	return func(n *snapshot, emit emit) {
		if n.keys != nil {
			emit(value(n.keys))
		}
	}
}

func connections(n *snapshot, emit emit) {
	if n.loop != nil {
		emit(float64(n.loop.Connections))
	}
}

func suspensions(n *snapshot, emit emit) {
	if n.loop != nil {
		emit(float64(n.loop.Suspensions))
	}
}

func refusedConnections(n *snapshot, emit emit) {
	if n.loop != nil {
		for reason, count := range n.loop.Refused {
			emit(float64(count), reason)
		}
	}
}

func logLines(n *snapshot, emit emit) {
	if n.log != nil {
		emit(float64(n.log.Dropped), "buffer")
		emit(float64(n.log.Failed), "error")
	}
}

// ofTLS is a metric that there is only with TLS.
func ofTLS(each func(*TLSStats, emit)) func(*snapshot, emit) {
	return func(n *snapshot, emit emit) {
		if n.loop != nil && n.loop.TLS != nil {
			each(n.loop.TLS, emit)
		}
	}
}

func limitBytes(n *snapshot, emit emit) {
	for name, bytes := range n.limits.Bytes {
		emit(float64(bytes), name)
	}
}

func limitTimes(n *snapshot, emit emit) {
	for name, time := range n.limits.Times {
		emit(time.Seconds(), name)
	}
}

func limitCounts(n *snapshot, emit emit) {
	for name, count := range n.limits.Counts {
		emit(float64(count), name)
	}
}
