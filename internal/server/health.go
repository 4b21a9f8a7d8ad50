package server

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// health knows whether the server can do its work, and if not, why.
type health struct {
	mu     sync.Mutex
	states map[string]string                    // standing reasons by what they are about
	checks []func(ctx context.Context) []string // asked at each request
	notes  func(ctx context.Context) []string   // worth knowing, no reason to send clients away
}

// checkTime bounds all checks of one request.
const checkTime = 3 * time.Second

// set records why about is not ready; an empty why clears it.
func (h *health) set(about, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.states == nil {
		h.states = map[string]string{}
	}
	if why == "" {
		delete(h.states, about)
		return
	}
	h.states[about] = why
}

// reasons returns why the server is not ready, in a stable order.
func (h *health) reasons(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	h.mu.Lock()
	found := make([]string, 0, len(h.states))
	for about, why := range h.states {
		found = append(found, about+": "+why)
	}
	checks := h.checks
	h.mu.Unlock()
	for _, check := range checks {
		found = append(found, check(ctx)...)
	}
	slices.Sort(found)
	return found
}

// check adds a check that is asked at each request.
func (h *health) check(f func(ctx context.Context) []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, f)
}

// readiness is what /readyz answers.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`         // why not
	Notes   []string `json:"notes,omitempty"` // worth knowing
}

func (h *health) readyz(w http.ResponseWriter, r *http.Request) {
	answer := readiness{Reasons: h.reasons(r.Context())}
	answer.Ready = len(answer.Reasons) == 0
	if h.notes != nil {
		answer.Notes = h.notes(r.Context())
	}
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// healthz says that the process answers; whether it can work is /readyz.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}
