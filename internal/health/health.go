// Package health says whether a server can do its work, and if not, why, since
// when and what to do.
//
// A Check is ok, a warning or failed. A warning is what will hurt later, or hurts
// somebody whose place others take; failed is what hurts now. Neither says that
// clients should go elsewhere: that is what Needs is for, the listeners that cannot
// serve while the check fails. Lists and OCSP answers go on from disk and memory
// without a database and without keys, so hardly anything takes the plain listener
// away.
//
// A Board asks everybody who has something to say; cas.go and lists.go turn what is
// known of CAs and lists into checks. Whatever ends is an End too, for the one
// metric of ends.
package health

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

// State is how bad it is.
type State string

// The states.
const (
	OK      State = "ok"
	Warning State = "warning"
	Failed  State = "failed"
)

func (s State) rank() int { return slices.Index([]State{OK, Warning, Failed}, s) }

// Check is one thing that was looked at.
type Check struct {
	Name   string
	State  State  // empty is ok
	Detail string // what was found, and why
	Remedy string // what an operator should do
	Since  time.Time
	Needs  []string // the listeners that cannot serve while it fails; All for every one
}

// All in Needs stands for every listener.
const All = "*"

// Operators is the listener of the operator API, by which certificates are asked of
// a CA that no endpoint names.
const Operators = "socket"

// End is when something ends.
type End struct {
	Kind, ID string // such as "ca" and the CA's id
	At       time.Time
}

// Report is all checks at one time.
type Report struct {
	State  State // the worst
	Ready  bool  // no listener lacks what it needs
	Checks []Check
}

// checkTime bounds all checks of one report.
const checkTime = 3 * time.Second

// Board knows whom to ask. It is safe for concurrent use.
type Board struct {
	Now func() time.Time

	mu       sync.Mutex
	standing map[string]Check
	sources  []func(ctx context.Context) []Check
	ends     []func() []End
	seen     map[string]seen // by name of the check
}

// seen is since when a check is in the state that it is in.
type seen struct {
	state State
	since time.Time
}

// Set records a check that stands until it is cleared.
func (b *Board) Set(c Check) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.standing == nil {
		b.standing = map[string]Check{}
	}
	b.standing[c.Name] = c
}

// Clear takes back what Set recorded.
func (b *Board) Clear(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.standing, name)
}

// Ask adds somebody who is asked for each report.
func (b *Board) Ask(f func(ctx context.Context) []Check) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sources = append(b.sources, f)
}

// AskEnds adds somebody who knows when something ends.
func (b *Board) AskEnds(f func() []End) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ends = append(b.ends, f)
}

// Ends returns all that ends.
func (b *Board) Ends() []End {
	b.mu.Lock()
	sources := slices.Clone(b.ends)
	b.mu.Unlock()
	var all []End
	for _, f := range sources {
		all = append(all, f()...)
	}
	return all
}

// Report asks everybody.
func (b *Board) Report(ctx context.Context) Report {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	b.mu.Lock()
	var all []Check
	for _, c := range b.standing {
		all = append(all, c)
	}
	sources := slices.Clone(b.sources)
	b.mu.Unlock()
	for _, f := range sources {
		all = append(all, f(ctx)...)
	}
	slices.SortStableFunc(all, func(x, y Check) int { return cmp.Compare(x.Name, y.Name) })
	r := Report{State: OK, Ready: true, Checks: b.date(all)}
	for _, c := range r.Checks {
		if c.State.rank() > r.State.rank() {
			r.State = c.State
		}
		r.Ready = r.Ready && (c.State != Failed || len(c.Needs) == 0)
	}
	return r
}

// date completes the checks with since when they are in their state.
func (b *Board) date(all []Check) []Check {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.seen
	b.seen = make(map[string]seen, len(all))
	for i := range all {
		c := &all[i]
		c.State = cmp.Or(c.State, OK)
		s, known := was[c.Name]
		if !known || s.state != c.State {
			s = seen{c.State, b.Now()}
		}
		b.seen[c.Name] = s
		if c.State != OK && c.Since.IsZero() {
			c.Since = s.since
		}
	}
	return all
}

// ReadyFor reports whether a listener can serve; the empty name asks for all.
func (r Report) ReadyFor(listener string) bool {
	if listener == "" {
		return r.Ready
	}
	return !slices.ContainsFunc(r.Checks, func(c Check) bool {
		return c.State == Failed && (slices.Contains(c.Needs, listener) || slices.Contains(c.Needs, All))
	})
}

// API returns the report as the operator API has it.
func (r Report) API() api.Health {
	out := api.Health{Ready: r.Ready, State: string(r.State), Checks: []api.HealthCheck{}}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, api.HealthCheck{
			Name: c.Name, OK: c.State != Failed, State: string(c.State), Detail: c.Detail, Remedy: c.Remedy,
			Since: c.Since.UTC(), Listeners: c.Needs,
		})
	}
	return out
}

// Readyz answers 200 when the server, or the listener that ?listener= names, can do
// its work, else 503; the body is an api.Health: what was looked at and what is
// wrong. listeners are the names that exist; another one is 404.
func (b *Board) Readyz(listeners []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		name := r.URL.Query().Get("listener")
		if name != "" && !slices.Contains(listeners, name) {
			http.Error(w, "there is no listener of this name", http.StatusNotFound)
			return
		}
		report := b.Report(r.Context())
		status := http.StatusOK
		if !report.ReadyFor(name) {
			status = http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(report.API())
	}
}
