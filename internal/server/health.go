package server

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/api"
)

// health knows whether the server can do its work, and if not, why.
type health struct {
	mu       sync.Mutex
	standing map[string]string                             // what is wrong, by what it is about
	checks   []func(ctx context.Context) []api.HealthCheck // asked at each request
}

// checkTime bounds all checks of one request.
const checkTime = 3 * time.Second

// set records that something is wrong until it is cleared.
func (h *health) set(about, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.standing == nil {
		h.standing = map[string]string{}
	}
	h.standing[about] = why
}

func (h *health) clear(about string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.standing, about)
}

// check adds a check that is asked at each request.
func (h *health) check(f func(ctx context.Context) []api.HealthCheck) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, f)
}

// report asks every check. The server is ready if nothing is wrong.
func (h *health) report(ctx context.Context) api.Health {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	h.mu.Lock()
	answer := api.Health{Ready: true, Checks: []api.HealthCheck{}}
	for about, why := range h.standing {
		answer.Checks = append(answer.Checks, api.HealthCheck{Name: about, Detail: why})
	}
	checks := slices.Clone(h.checks)
	h.mu.Unlock()
	for _, check := range checks {
		answer.Checks = append(answer.Checks, check(ctx)...)
	}
	slices.SortFunc(answer.Checks, func(a, b api.HealthCheck) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range answer.Checks {
		answer.Ready = answer.Ready && c.OK
	}
	return answer
}

// readyz answers 200 when the server can do its work, else 503; the body says
// what was looked at and what is wrong.
func (h *health) readyz(w http.ResponseWriter, r *http.Request) {
	answer := h.report(r.Context())
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
