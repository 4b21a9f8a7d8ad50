package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
)

// Event is one answered request, for metrics.
type Event struct {
	Listener string
	Method   string // one of the registered methods, or "other"
	Route    string // the pattern that matched, never the path; "" if none did
	Status   int
	Took     time.Duration
}

// wrap puts everything that all listeners share around h.
func wrap(h http.Handler, cfg Config) http.Handler {
	r := chi.NewRouter()
	r.Use(func(next http.Handler) http.Handler { return observed(next, cfg) })
	r.Use(recovered)
	r.Use(func(next http.Handler) http.Handler { return limited(next, cfg.Limits.Body) })
	r.Mount("/", h)
	if cfg.Direct == nil {
		return cfg.Proxies.resolved(r)
	}
	return cfg.Proxies.resolved(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !cfg.Direct(w, req) {
			r.ServeHTTP(w, req)
		}
	}))
}

// observed gives the request its id, and writes its log line and its event when
// it is answered. The query is not logged: SCEP puts whole messages there.
func observed(next http.Handler, cfg Config) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := cfg.Now()
		rec := &record{id: newID()}
		w.Header().Set("X-Request-Id", rec.id)
		sw := &statusWriter{ResponseWriter: w}
		r = r.WithContext(context.WithValue(r.Context(), contextKey{}, rec))

		next.ServeHTTP(sw, r)

		took := cfg.Now().Sub(begun)
		route := chi.RouteContext(r.Context()).RoutePattern()
		cfg.Observe(Event{Listener: cfg.Name, Method: method(r.Method), Route: route, Status: sw.code(), Took: took})
		attrs := append([]slog.Attr{
			slog.String("request", rec.id), slog.String("listener", cfg.Name), slog.String("remote", remote(r)),
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", sw.code()),
			slog.Int64("bytes", sw.bytes), slog.Duration("took", took),
		}, rec.noted()...)
		level := slog.LevelInfo
		switch {
		case cfg.Quiet:
			level = slog.LevelDebug
		case sw.code() >= 500:
			level = slog.LevelError
		}
		cfg.Log.LogAttrs(r.Context(), level, "request", attrs...)
	})
}

// recovered answers 500 when a handler panics; the stack goes to the log.
func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares the same way
				panic(p)
			}
			Note(r.Context(), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			http.Error(w, "internal error", http.StatusInternalServerError)
		}()
		next.ServeHTTP(w, r)
	})
}

// limited cuts a body off at n bytes: reading on gives *http.MaxBytesError.
func limited(next http.Handler, n int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, n)
		next.ServeHTTP(w, r)
	})
}

// method bounds the values of the metric label.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions:
		return m
	}
	return "other"
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK // net/http says so when a handler writes nothing
	}
	return w.status
}
