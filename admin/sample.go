package admin

import (
	"time"

	"github.com/alkdev/hub/fanout"
)

// The bounds on what a sample holds of the slowest spokes.
const (
	sampledSpokes = 20
	sampledTopics = 8 // of each
)

// sample is the state of the hub at one moment, as the page draws it: counters since the hub began, and
// what there is now.
type sample struct {
	Kind    string `json:"kind"` // "stats"
	AtMs    int64  `json:"atMs"` // since 1970
	Node    string `json:"node"`
	Version string `json:"version"`
	Ready   bool   `json:"ready"`
	Stuck   bool   `json:"stuck"` // a shard does not answer: Slowest is missing

	Spokes          int    `json:"spokes"`
	Opened          uint64 `json:"opened"`
	Dispatched      uint64 `json:"dispatched"`
	Received        uint64 `json:"received"`
	Deliveries      uint64 `json:"deliveries"`
	DeliveredBytes  uint64 `json:"deliveredBytes"`
	Dropped         uint64 `json:"dropped"`
	Conflated       uint64 `json:"conflated"`
	SlowDisconnects uint64 `json:"slowDisconnects"`

	QueuedBytes   int64 `json:"queuedBytes"`
	HeldBytes     int64 `json:"heldBytes"`
	PendingBytes  int64 `json:"pendingBytes"`
	InFlightBytes int64 `json:"inFlightBytes"`
	QueuedSpokes  int   `json:"queuedSpokes"`

	Latency *latency       `json:"latency"` // of the deliveries since the sample before; null without any
	Slowest []sampledSpoke `json:"slowest"`
}

// sampledSpoke has no more than a few of the spoke's topics.
type sampledSpoke struct {
	fanout.SpokeInfo
	TopicCount int `json:"topicCount"`
}

// sampler takes samples, one after the other.
type sampler struct {
	server *Server
	before fanout.Histogram
}

func newSampler(s *Server) *sampler {
	return &sampler{server: s, before: s.config.Hub.Stats().Latency}
}

// take returns a sample. slowest is nil if the shards did not answer.
func (sm *sampler) take(at time.Time, slowest []fanout.SpokeInfo) *sample {
	now := sm.server.snapshot()
	st := &now.hub
	out := &sample{
		Kind: "stats", AtMs: at.UnixMilli(), Node: sm.server.config.Hub.Node(), Version: now.build[0], Ready: now.ready, Stuck: slowest == nil,
		Spokes: st.Spokes, Opened: st.Opened, Dispatched: st.Dispatched, Received: st.Received,
		Deliveries: st.Deliveries, DeliveredBytes: st.DeliveredBytes,
		Dropped: total(st.Dropped), Conflated: total(st.Conflated), SlowDisconnects: total(st.Disconnected),
		QueuedBytes: st.QueuedBytes, HeldBytes: st.HeldBytes, PendingBytes: st.PendingBytes,
		InFlightBytes: st.InFlightBytes, QueuedSpokes: st.QueuedSpokes,
		Latency: latencySince(sm.before, st.Latency),
		Slowest: []sampledSpoke{},
	}
	sm.before = st.Latency
	for _, i := range slowest {
		topics := len(i.Topics)
		i.Topics = i.Topics[:min(topics, sampledTopics)]
		out.Slowest = append(out.Slowest, sampledSpoke{i, topics})
	}
	return out
}

func total(byReason map[fanout.LossReason]uint64) (n uint64) {
	for _, count := range byReason {
		n += count
	}
	return n
}
