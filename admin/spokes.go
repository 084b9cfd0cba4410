package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// The bounds on how many spokes are listed.
const (
	defaultListed = 100
	maxListed     = 10_000
)

// spokeOrders are what spokes can be sorted by, the largest first: what an operator looks for is in
// trouble.
var spokeOrders = map[string]func(fanout.SpokeInfo) int64{
	"queued":  func(i fanout.SpokeInfo) int64 { return i.Queued },
	"age":     func(i fanout.SpokeInfo) int64 { return int64(i.Age) },
	"dropped": func(i fanout.SpokeInfo) int64 { return int64(i.Dropped) },
}

// listed answers GET /v1/spokes.
type listed struct {
	Total  int                `json:"total"`
	Spokes []fanout.SpokeInfo `json:"spokes"`
}

func (s *Server) listSpokes(w http.ResponseWriter, r *http.Request) *problem {
	values, p := query(r)
	if p != nil {
		return p
	}
	by, ok := spokeOrders[cmp.Or(values.Get("sort"), "queued")]
	if !ok {
		return badQuery("sort=%.100s, it is one of queued, age, dropped", values.Get("sort"))
	}
	limit, err := strconv.Atoi(cmp.Or(values.Get("limit"), strconv.Itoa(defaultListed)))
	if err != nil || limit < 1 || limit > maxListed {
		return badQuery("limit=%.100s, it is a number from 1 to %d", values.Get("limit"), maxListed)
	}
	spokes := []fanout.SpokeInfo{}
	if !s.inspect(r, func() {
		s.config.Hub.Inspect(func(i fanout.SpokeInfo) { spokes = append(spokes, i) })
	}) {
		return stuck()
	}
	slices.SortFunc(spokes, func(a, b fanout.SpokeInfo) int {
		return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.ID, b.ID))
	})
	answer(w, http.StatusOK, listed{len(spokes), spokes[:min(limit, len(spokes))]})
	return nil
}

// showSpoke shows a spoke of this hub. Of one that another hub has it says so: what the kernel knows is known there.
func (s *Server) showSpoke(w http.ResponseWriter, r *http.Request) *problem {
	if s.config.Hub.Elsewhere(r.PathValue("id")) {
		if p := s.carry(r, fanout.Order{}); p != nil { // which only asks whether the spoke is there
			return p
		}
		return newProblem(http.StatusMisdirectedRequest, "elsewhere", "the spoke %.100q is at the hub %q: ask that one",
			r.PathValue("id"), s.nodeOf(r.PathValue("id")))
	}
	spoke, p := s.spoke(r)
	if p != nil {
		return p
	}
	var info fanout.SpokeInfo
	if !s.inspect(r, func() { info = spoke.Info() }) {
		return stuck()
	}
	if info.ID == "" { // the hub was closed meanwhile
		return noSpoke(r)
	}
	answer(w, http.StatusOK, info)
	return nil
}

// closing answers DELETE /v1/spokes/{id}.
type closing struct {
	Spoke  string          `json:"spoke"`
	Code   codec.CloseCode `json:"code"`
	Reason string          `json:"reason"`
}

// closeSpoke ends a spoke's connection in order. The code is 1000 unless the query says another: the
// spoke has done nothing wrong (1008) and the hub stays (1001), and so the metrics count it. Whether
// it comes back is up to the client; codes from 4000 on can tell it what was agreed upon.
func (s *Server) closeSpoke(w http.ResponseWriter, r *http.Request) *problem {
	values, p := query(r)
	if p != nil {
		return p
	}
	code, err := strconv.ParseUint(cmp.Or(values.Get("code"), "1000"), 10, 16)
	if err != nil || !codec.CloseCode(code).Sendable() {
		return badQuery("code=%.100s is not a close code that may be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999", values.Get("code"))
	}
	reason := cmp.Or(values.Get("reason"), "closed by the operator")
	if len(reason) > maxReasonBytes || !utf8.ValidString(reason) {
		return badQuery("reason is not UTF-8 of at most %d bytes", maxReasonBytes)
	}
	id := r.PathValue("id")
	if spoke := s.config.Hub.Spoke(id); spoke != nil {
		id = spoke.ID()
	}
	if p := s.carry(r, fanout.Order{Close: &fanout.CloseOrder{Code: codec.CloseCode(code), Reason: reason}}); p != nil {
		return p
	}
	answer(w, http.StatusAccepted, closing{id, codec.CloseCode(code), reason})
	return nil
}

// maxReasonBytes is what a close frame has room for (RFC 6455 section 5.5).
const maxReasonBytes = 123

// mayExist says that there is no spoke of the id that the path names, if this hub knows that.
func (s *Server) mayExist(r *http.Request) *problem {
	if s.config.Hub.Elsewhere(r.PathValue("id")) {
		return nil
	}
	_, p := s.spoke(r)
	return p
}

// nodeOf returns the name of the hub that a spoke's id is from, or what the id calls it.
func (s *Server) nodeOf(spoke string) string {
	hub := spoke[strings.LastIndexByte(spoke, '-')+1:]
	for _, h := range s.config.Hub.ClusterInfo().Hubs {
		if h.ID == hub && h.Node != "" {
			return h.Node
		}
	}
	return hub
}

// spoke returns the spoke of this hub that the path names.
func (s *Server) spoke(r *http.Request) (*fanout.Spoke, *problem) {
	if spoke := s.config.Hub.Spoke(r.PathValue("id")); spoke != nil {
		return spoke, nil
	}
	return nil, noSpoke(r)
}

func noSpoke(r *http.Request) *problem {
	return newProblem(http.StatusNotFound, "no_spoke", "there is no spoke %.100q", r.PathValue("id"))
}
