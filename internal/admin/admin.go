// Package admin serves the operator API that api/openapi.yaml describes, on the
// unix socket. It translates: a request to calls of issuance, inventory,
// approval, credential and the audit record, a fault to a problem document (RFC 9457). It
// holds no policy.
//
// Who may open the socket is an operator; which one, the kernel says: the
// peer's uid is the requester ("uid:1000") of everything that it does, in the
// store and in the audit record. A connection without a uid is refused.
//
// Start with New; mount Routes and hand ConnContext to the listener.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/tree"
	"github.com/privyseal/privyseal/internal/web"
)

// MaxBody bounds a request's body: a page of a batch, most of whose CSRs are of
// the usual kilobyte or two. The listener's own limit should be MaxImportBody.
const MaxBody = 4 << 20

// Config is what the operator API stands on.
type Config struct {
	Store     *store.Store
	Pipeline  *issuance.Pipeline
	Inventory *inventory.Inventory
	EAB       *credential.EAB
	Lists     *crl.Publisher
	Tree      *tree.Tree
	Approvals *approval.Queue
	ESTUsers  *credential.ESTUsers
	// SCEPChallenges are the challenge passwords that operators hand out.
	SCEPChallenges *credential.SCEPChallenges
	Version        api.Version
	Now            func() time.Time

	// Endpoints returns the names of a protocol's endpoints, "acme", "est" or
	// "scep", which credentials may be bound to.
	Endpoints func(protocol string) []string
	// Health says whether the server is fit to serve, and if not, why.
	Health func(context.Context) api.Health
	// Reload swaps in the configuration file, all or nothing. Its error is for the
	// operator to read.
	Reload func(context.Context) (api.ReloadResult, error)
	// ListImported is told of a new list of a CA above our issuers: those that it
	// revokes sign nothing from then on. It may be nil, where nothing signs.
	ListImported func(context.Context)
}

// Server answers the operator API.
type Server struct {
	cfg Config
}

// New returns a Server. Every field of cfg but ListImported is required.
func New(cfg Config) (*Server, error) {
	for name, missing := range map[string]bool{
		"Store": cfg.Store == nil, "Pipeline": cfg.Pipeline == nil, "Inventory": cfg.Inventory == nil, "EAB": cfg.EAB == nil, "Lists": cfg.Lists == nil,
		"Tree": cfg.Tree == nil, "Approvals": cfg.Approvals == nil,
		"ESTUsers": cfg.ESTUsers == nil, "SCEPChallenges": cfg.SCEPChallenges == nil,
		"Now": cfg.Now == nil, "Endpoints": cfg.Endpoints == nil, "Health": cfg.Health == nil, "Reload": cfg.Reload == nil,
	} {
		if missing {
			return nil, fmt.Errorf("operator API: %s is not set", name)
		}
	}
	return &Server{cfg: cfg}, nil
}

// Routes returns the handler of every path of the API.
func (s *Server) Routes() http.Handler {
	r := chi.NewRouter()
	r.Use(limitBody, onlyOperators)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		render(w, r, fault.New(fault.NotFound, "the operator API has no %s", r.URL.Path).Because("no_such_path"))
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		render(w, r, fault.New(fault.MethodNotAllowed, "%s does not answer %s", r.URL.Path, r.Method))
	})
	strict := api.NewStrictHandlerWithOptions(s, []api.StrictMiddlewareFunc{refuseUnknown}, api.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  func(w http.ResponseWriter, r *http.Request, err error) { render(w, r, badBody(err)) },
		ResponseErrorHandlerFunc: render,
	})
	return api.HandlerWithOptions(strict, api.ChiServerOptions{
		BaseRouter: r,
		ErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, err error) {
			render(w, r, fault.New(fault.Malformed, "%w", err).Because("parameter"))
		},
	})
}

// onlyOperators refuses a connection whose peer the kernel did not name.
func onlyOperators(next http.Handler) http.Handler {
	return web.Handler(func(w http.ResponseWriter, r *http.Request) error {
		if requester(r.Context()) == "" {
			return fault.New(fault.Unauthenticated, "the operator API is for peers of the unix socket").Because("no_peer")
		}
		next.ServeHTTP(w, r)
		return nil
	}, render)
}

func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := int64(MaxBody)
		if takesList(r.URL.Path) {
			limit = MaxImportBody
		}
		r.Body = &keptBody{source: http.MaxBytesReader(w, r.Body, limit)}
		next.ServeHTTP(w, r)
	})
}

// badBody is the fault of a body that could not be read as what it should be.
func badBody(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return fault.New(fault.TooLarge, "the body is longer than %d bytes", large.Limit)
	}
	return fault.Wrap(fault.Malformed, err, "the body is not the JSON that is wanted: "+errors.Unwrap(err).Error()).Because("body")
}

// event returns an audit event of this operator's act.
func (s *Server) event(ctx context.Context, action, outcome, subject string) store.Event {
	return store.Event{
		At: s.cfg.Now(), Action: action, Outcome: outcome, Actor: requester(ctx),
		Subject: subject, RequestID: web.RequestID(ctx),
	}
}
