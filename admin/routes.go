package admin

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"net/url"
	"slices"
	"strings"
)

// endpoint answers a request, or returns the problem with it before anything was written.
type endpoint func(http.ResponseWriter, *http.Request) *problem

// methods is one path: its endpoints by HTTP method. Who has GET has HEAD.
type methods map[string]endpoint

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/{$}", methods{"GET": s.page})
	mux.Handle("/assets/", methods{"GET": s.page})
	mux.Handle("/v1/events", methods{"GET": s.events, "POST": s.publish})
	mux.Handle("/v1/stats", methods{"GET": s.stats})
	mux.Handle("/v1/cluster", methods{"GET": s.cluster})
	mux.Handle("/v1/spokes", methods{"GET": s.listSpokes})
	mux.Handle("/v1/spokes/{id}", methods{"GET": s.showSpoke, "DELETE": s.closeSpoke})
	mux.Handle("/v1/spokes/{id}/events", methods{"POST": s.publishToSpoke})
	mux.Handle("/metrics", methods{"GET": s.metrics()})
	mux.Handle("/livez", methods{"GET": s.livez})
	mux.Handle("/readyz", methods{"GET": s.readyz})
	if s.config.Pprof { // it extends its time to write by itself
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, nothingAt(r))
	})
	return mux
}

func nothingAt(r *http.Request) *problem {
	return newProblem(http.StatusNotFound, "not_found", "there is nothing at %.200q", r.URL.Path)
}

// ServeHTTP implements http.Handler.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	handle, ok := m[method]
	if !ok {
		allowed := m.allowed()
		w.Header().Set("Allow", allowed)
		refuse(w, newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "%.20q is not possible here, only %s", r.Method, allowed))
		return
	}
	if p := handle(w, r); p != nil {
		refuse(w, p)
	}
}

func (m methods) allowed() string {
	names := slices.Collect(maps.Keys(m))
	if _, ok := m[http.MethodGet]; ok {
		names = append(names, http.MethodHead)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// query returns the parameters of a request.
func query(r *http.Request) (url.Values, *problem) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badQuery("the query: %v", err)
	}
	return values, nil
}

func badQuery(format string, args ...any) *problem {
	return newProblem(http.StatusBadRequest, "bad_query", "%s", fmt.Sprintf(format, args...))
}
