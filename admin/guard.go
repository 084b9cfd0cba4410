package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// guarded wraps next in what holds for every request: it ends with the server, it is logged, a panic
// is contained, and it is allowed.
func (s *Server) guarded(next http.Handler) http.Handler {
	next = s.authorised(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.ending, cancel)()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			s.config.Logger.LogAttrs(ctx, slog.LevelDebug, "admin: request",
				slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("remote", r.RemoteAddr),
				slog.Int("status", rec.status), slog.Duration("took", time.Since(began)))
		}()
		defer s.contain(rec, r)
		next.ServeHTTP(rec, r.WithContext(ctx))
	})
}

// contain answers a request whose handler panics. Where the answer has begun all that is left is to
// cut it off, so that nobody takes it for whole.
func (s *Server) contain(w *recorder, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler {
		s.config.Logger.Error("admin: panic", slog.String("method", r.Method), slog.String("path", r.URL.Path),
			slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		if w.status == 0 {
			refuse(w, newProblem(http.StatusInternalServerError, "internal", "an internal error, the hub's log says more"))
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int // 0 while there is none
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// authorised lets requests through that carry the token, and those for health and for the page. It refuses what a
// browser sends on behalf of a foreign page: without a token anything that runs in the operator's
// browser could otherwise publish to a hub at the loopback address.
func (s *Server) authorised(next http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	want := sha256.Sum256([]byte(s.config.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.config.Token != "" && !isOpen(r.URL.Path) {
			// Of equal length by their hashes, so that the time says nothing about the token's.
			token := bearer(r)
			got := sha256.Sum256([]byte(token))
			if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				why := newProblem(http.StatusUnauthorized, "unauthorized", "the admin token is needed, as in Authorization: Bearer TOKEN")
				if token != "" {
					why = newProblem(http.StatusUnauthorized, "unauthorized", "this is not the admin token")
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="hub"`)
				refuse(w, why)
				return
			}
		}
		if err := foreign.Check(r); err != nil {
			refuse(w, newProblem(http.StatusForbidden, "cross_origin", "a page from another origin may not do this"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bearer returns the token of a request, "" if it has none (RFC 6750 section 2.1).
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
