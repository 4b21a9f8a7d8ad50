package admin

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

// render answers a request with the problem document of err.
func render(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.Of(err)
	p := problem(f)
	p.RequestID = web.RequestID(r.Context())
	web.Note(r.Context(), slog.String("reason", f.Reason)) // the error is there: see web.Handler
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone; nobody is left to tell
}

// problem is the document of a fault, without the request's id.
func problem(f *fault.Error) api.Problem {
	status := web.Status(f.Kind)
	p := api.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Kind: f.Kind.String(), Reason: f.Reason, Detail: f.Detail, Identifier: identifier(f.Identifier),
		Subproblems: subproblems(f), RetryAfter: int(math.Ceil(f.RetryAfter.Seconds())),
	}
	if f.Kind == fault.Internal { // whatever its detail: the log has it
		p.Detail = "the server failed; its log says why under this request's id"
		p.Identifier, p.Subproblems = api.Identifier{}, nil
	}
	return p
}

func subproblems(f *fault.Error) []api.Subproblem {
	var subs []api.Subproblem
	for _, s := range f.Sub {
		subs = append(subs, api.Subproblem{
			Kind: s.Kind.String(), Reason: s.Reason, Detail: s.Detail, Identifier: identifier(s.Identifier),
		})
	}
	return subs
}

func identifier(id fault.Identifier) api.Identifier {
	return api.Identifier{Type: id.Type, Value: id.Value}
}

// Render answers a request with the problem document of err, for what a listener serves
// beside the operations.
func Render(w http.ResponseWriter, r *http.Request, err error) { render(w, r, err) }
