// Package web is what every HTTP front-end stands on: listeners and their TLS,
// deadlines and size limits, request ids, the access log, and an adapter for
// handlers that return an error.
//
// It knows no protocol and no path. A front-end writes func(w, r) error and
// brings its own renderer; Start takes a finished handler and a Config and
// serves it until Shutdown. What a request's context carries from here is its
// id and the attributes of its log line, nothing else.
package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"sync"
)

// HandlerFunc answers one request or returns an error, in which case it has
// written nothing.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// Handler turns h into an http.Handler: an error goes to render, which answers
// in the words of its protocol, and into the request's log line.
func Handler(h HandlerFunc, render func(http.ResponseWriter, *http.Request, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			Note(r.Context(), slog.String("error", err.Error()))
			render(w, r, err)
		}
	}
}

type contextKey struct{}

// record is what a request's context carries: its id and its log attributes.
type record struct {
	id    string
	mu    sync.Mutex
	attrs []slog.Attr
}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if rec, ok := ctx.Value(contextKey{}).(*record); ok {
		return rec.id
	}
	return ""
}

// Note adds attributes to the log line of the request that ctx belongs to.
// Never note a secret.
func Note(ctx context.Context, attrs ...slog.Attr) {
	rec, ok := ctx.Value(contextKey{}).(*record)
	if !ok {
		return
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.attrs = append(rec.attrs, attrs...)
}

func (rec *record) noted() []slog.Attr {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.attrs
}

// newID returns 96 random bits in hex. A client's own header is not believed:
// the id is what ties a log line to an audit event.
func newID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
