package admin

import (
	"errors"
	"net/http"

	"github.com/alkdev/hub/fanout"
)

// What takes other hubs: whoever asks this one need not know which one has the spoke.

// cluster answers GET /v1/cluster.
func (s *Server) cluster(w http.ResponseWriter, _ *http.Request) *problem {
	answer(w, http.StatusOK, s.config.Hub.ClusterInfo())
	return nil
}

// carry has the hub of the spoke that the path names carry the order out.
func (s *Server) carry(r *http.Request, o fanout.Order) *problem {
	err := s.config.Hub.Carry(r.Context(), r.PathValue("id"), o)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fanout.ErrNoSpoke):
		return noSpoke(r)
	case errors.Is(err, fanout.ErrUnanswered):
		return newProblem(http.StatusGatewayTimeout, "unanswered", "the hub that has the spoke %.100q does not answer", r.PathValue("id"))
	}
	return dispatchProblem(err)
}

// engineFamilies are the metrics of a hub that is not alone.
var engineFamilies = []family{
	{"hub_engine_up", "1 while the engine that joins the hubs is there.", gauge, []string{"engine"},
		ofEngine(func(e *fanout.EngineInfo, emit emit) {
			up := 0.0
			if e.State == "up" {
				up = 1
			}
			emit(up, e.Kind)
		})},
	{"hub_engine_outages_total", "Times that the engine went away.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Outages })},
	{"hub_engine_refusals_total", "Times that another hub refused this one for what it had to show, or this one another.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Refusals })},
	{"hub_engine_topics", "Patterns that this hub asks the engine for.", gauge, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return uint64(e.Topics) })},
	{"hub_engine_forwarded_events_total", "Events given to the engine.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Forwarded })},
	{"hub_engine_not_forwarded_events_total", "Events delivered to this hub's spokes alone, for the engine was away or did not keep up.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.NotForwarded })},
	{"hub_engine_refused_events_total", "Events refused for the engine was away or did not keep up.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Refused })},
	{"hub_engine_arrived_events_total", "Events from other hubs.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Arrived })},
	{"hub_engine_repeated_events_total", "Events from other hubs that came twice while subscriptions changed, and were left out.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Repeated })},
	{"hub_engine_shed_events_total", "Events from other hubs that came faster than this hub could take them.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Shed })},
	{"hub_engine_foreign_messages_total", "Messages of the engine that are none of the cluster's.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Foreign })},
	{"hub_engine_gaps_total", "Times that spokes were told that events of other hubs may be missing.", counter, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return e.Gaps })},
	{"hub_engine_outgoing_bytes", "Bytes that wait for the engine.", gauge, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return uint64(e.OutgoingBytes) })},
	{"hub_engine_incoming_bytes", "Bytes that have come from the engine and wait for this hub.", gauge, nil,
		engineValue(func(e *fanout.EngineInfo) uint64 { return uint64(e.IncomingBytes) })},
	{"hub_cluster_hubs", "Hubs that are known, this one included: live, or lost without having taken their leave.", gauge, []string{"state"},
		func(n *snapshot, emit emit) {
			if n.cluster == nil {
				return
			}
			states := map[string]float64{"live": 0, "lost": 0}
			for _, h := range n.cluster.Hubs {
				states[h.State]++
			}
			for state, hubs := range states {
				emit(hubs, state)
			}
		}},
}

func ofEngine(values func(*fanout.EngineInfo, emit)) func(*snapshot, emit) {
	return func(n *snapshot, emit emit) {
		if n.cluster != nil {
			values(&n.cluster.Engine, emit)
		}
	}
}

func engineValue(value func(*fanout.EngineInfo) uint64) func(*snapshot, emit) {
	return ofEngine(func(e *fanout.EngineInfo, emit emit) { emit(float64(value(e))) })
}
