package admin

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/fanout"
	"github.com/alkdev/hub/internal/synced"
)

func TestTokenIsNeededForAllButHealth(t *testing.T) {
	f := start(t, fanout.Config{}, Config{Token: "secret", Pprof: true})
	for _, path := range []string{"/v1/events", "/v1/spokes", "/v1/spokes/x", "/metrics", "/debug/pprof/", "/none", "/livez/../metrics"} {
		for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Basic secret", "secret", "Bearer secret x"} {
			r := f.get(t, path, "Authorization", auth)
			require.Equal(t, http.StatusUnauthorized, r.status, "%s %q", path, auth)
			require.Equal(t, `Bearer realm="hub"`, r.header.Get("WWW-Authenticate"))
			require.Equal(t, "unauthorized", r.wrong(t).Error.Code)
			want := "the admin token is needed, as in Authorization: Bearer TOKEN"
			if strings.HasPrefix(auth, "Bearer s") {
				want = "this is not the admin token"
			}
			require.Equal(t, want, r.wrong(t).Error.Message, "%q", auth)
		}
	}
	r := f.do(t, http.MethodPost, "/v1/events", `{"type":"a"}`)
	require.Equal(t, http.StatusUnauthorized, r.status)
	require.Zero(t, f.hub.Stats().Dispatched)
	for _, auth := range []string{"Bearer secret", "bearer  secret"} {
		require.Equal(t, http.StatusOK, f.get(t, "/v1/spokes", "Authorization", auth).status)
	}
	require.Equal(t, http.StatusNotFound, f.get(t, "/none", "Authorization", "Bearer secret").status)
	require.Equal(t, http.StatusOK, f.get(t, "/livez").status)
	require.Equal(t, http.StatusOK, f.get(t, "/readyz").status)
}

func TestForeignPagesMayNotPublish(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	for _, header := range [][]string{{"Origin", "https://example.com"}, {"Sec-Fetch-Site", "cross-site"}} {
		r := f.do(t, http.MethodPost, "/v1/events", `{"type":"a"}`, header...)
		require.Equal(t, http.StatusForbidden, r.status)
		require.Equal(t, "cross_origin", r.wrong(t).Error.Code)
	}
	require.Zero(t, f.hub.Stats().Dispatched)
	r := f.do(t, http.MethodPost, "/v1/events", `{"type":"a"}`, "Origin", f.url)
	require.Equal(t, http.StatusOK, r.status)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	f := start(t, fanout.Config{}, Config{})
	for _, path := range []string{"/other", "/v1", "/v1/spokes/", "/v1/spokes/x/y", "/v1/events/x", "/debug/pprof/", "/debug/pprof/heap", "/favicon.ico"} {
		r := f.get(t, path)
		require.Equal(t, http.StatusNotFound, r.status, path)
		require.Equal(t, "not_found", r.wrong(t).Error.Code)
	}
	for path, allow := range map[string]string{
		"/v1/events": "GET, HEAD, POST", "/v1/spokes": "GET, HEAD", "/v1/spokes/x": "DELETE, GET, HEAD",
		"/v1/spokes/x/events": "POST", "/metrics": "GET, HEAD", "/livez": "GET, HEAD", "/readyz": "GET, HEAD",
	} {
		for _, method := range []string{"PUT", "OPTIONS", "BREW"} {
			r := f.do(t, method, path, "")
			require.Equal(t, http.StatusMethodNotAllowed, r.status)
			require.Equal(t, allow, r.header.Get("Allow"), path)
			require.Equal(t, "method_not_allowed", r.wrong(t).Error.Code)
		}
	}
	r := f.do(t, http.MethodHead, "/v1/spokes", "")
	require.Equal(t, http.StatusOK, r.status)
	require.Empty(t, r.body)
}

func TestPprofOnDemand(t *testing.T) {
	f := start(t, fanout.Config{}, Config{Pprof: true})
	require.Contains(t, f.get(t, "/debug/pprof/").body, "goroutine")
	require.Contains(t, f.get(t, "/debug/pprof/goroutine?debug=1").body, "fanout")
	require.Equal(t, http.StatusOK, f.get(t, "/debug/pprof/cmdline").status)
	require.Equal(t, http.StatusOK, f.get(t, "/debug/pprof/trace?seconds=0.01").status)
}

func TestPanicsAreContained(t *testing.T) {
	var out synced.Buffer
	f := start(t, fanout.Config{}, Config{
		Loop:   Loop{Ready: func() bool { panic("no idea") }},
		Logger: slog.New(slog.NewTextHandler(&out, nil)),
	})
	r := f.get(t, "/readyz")
	require.Equal(t, http.StatusInternalServerError, r.status)
	require.Equal(t, "internal", r.wrong(t).Error.Code)
	require.NotContains(t, r.body, "no idea")
	require.Contains(t, out.String(), "no idea")
	require.Contains(t, out.String(), "guard_test.go", "the stack")
	require.Equal(t, http.StatusOK, f.get(t, "/livez").status)
	require.NotContains(t, out.String(), "admin: request", "requests are logged at level debug only")

	late := httptest.NewServer(f.server.guarded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half an answer")
		_ = http.NewResponseController(w).Flush()
		panic("too late")
	})))
	defer late.Close()
	resp, err := f.client.Get(late.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "half an answer must not look whole")
}

func TestRequestsAreLoggedAtLevelDebug(t *testing.T) {
	var out synced.Buffer
	f := start(t, fanout.Config{}, Config{Token: "secret", Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	f.get(t, "/livez", "Authorization", "Bearer secret")
	f.eventually(t, func() bool { return out.String() != "" })
	require.Contains(t, out.String(), "method=GET path=/livez")
	require.Contains(t, out.String(), "status=200")
	require.NotContains(t, out.String(), "secret")
}
