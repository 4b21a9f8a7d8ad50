// Package admin serves the operations that package api declares, on the unix
// socket. It translates: a request to calls of issuance, inventory,
// approval, credential and the audit record, a fault to a problem document (RFC 9457). It
// holds no policy.
//
// Who asks, the kernel says at the socket by the peer's uid, and elsewhere the secret of
// a session or token: package access makes a Caller of it, and decides on each operation
// by its permission and its object before anything is done. The caller is the requester
// ("uid:1000") of all that it does, in the store and in the audit record.
//
// Start with New; mount Routes and hand ConnContext to the listener.
package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/tree"
	"github.com/privyseal/privyseal/internal/web"
)

// MaxBody is the longest body that an operation takes, and what the listener's own
// limit should be: a list's (crl.MaxImport), as base64 of PEM.
const MaxBody = api.MaxListBody

// Config is what the operator API stands on.
type Config struct {
	Access    *access.Access
	Store     *store.Store
	Pipeline  *issuance.Pipeline
	Inventory *inventory.Inventory
	EAB       *credential.EAB
	Lists     *crl.Publisher
	Tree      *tree.Tree
	Approvals *approval.Queue
	ESTUsers  *credential.ESTUsers
	Secrets   *credential.Resealer
	// SCEPChallenges are the challenge passwords that operators hand out.
	SCEPChallenges *credential.SCEPChallenges
	Audit          *audit.Keeper
	Version        api.Version
	Now            func() time.Time

	// Endpoints returns the names of a protocol's endpoints, "acme", "est" or
	// "scep", which credentials may be bound to.
	Endpoints func(protocol string) []string
	// IssuerOf returns the CA or pool of an endpoint; empty if there is none.
	IssuerOf func(protocol, endpoint string) string
	// Health says whether the server is fit to serve, and if not, why.
	Health func(context.Context) api.Health
	// Reload swaps in the configuration file, all or nothing. Its error is for the
	// operator to read.
	Reload func(context.Context) (api.ReloadResult, error)
	// AccountKey returns the hash of an ACME account's key, a JWK as the store has it.
	AccountKey func(jwk []byte) (pki.KeyHash, error)
	// LogsIn reports whether certificates of a profile log in at this API.
	LogsIn func(profile string) bool
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
		"Access": cfg.Access == nil, "Store": cfg.Store == nil, "Pipeline": cfg.Pipeline == nil, "Inventory": cfg.Inventory == nil,
		"EAB": cfg.EAB == nil, "Audit": cfg.Audit == nil, "Lists": cfg.Lists == nil,
		"Tree": cfg.Tree == nil, "Approvals": cfg.Approvals == nil,
		"ESTUsers": cfg.ESTUsers == nil, "SCEPChallenges": cfg.SCEPChallenges == nil,
		"Secrets": cfg.Secrets == nil,
		"Now":     cfg.Now == nil, "Endpoints": cfg.Endpoints == nil, "IssuerOf": cfg.IssuerOf == nil, "Health": cfg.Health == nil,
		"LogsIn": cfg.LogsIn == nil,
		"Reload": cfg.Reload == nil, "AccountKey": cfg.AccountKey == nil,
	} {
		if missing {
			return nil, fmt.Errorf("operator API: %s is not set", name)
		}
	}
	return &Server{cfg: cfg}, nil
}

// Routes returns the handler of every path of the API, for the unix socket.
func (s *Server) Routes() http.Handler { return s.routes(s.peer, s.Operations()) }

// Remote returns the handler for a listener on the network: callers show the secret of a
// session or token, and operations that are Local are not there.
func (s *Server) Remote() http.Handler {
	return s.routes(s.bearer, slices.DeleteFunc(s.Operations(), func(r Route) bool { return r.Local }))
}

func (s *Server) routes(caller func(*http.Request) (access.Caller, error), all []Route) http.Handler {
	r := chi.NewRouter()
	r.Use(func(next http.Handler) http.Handler {
		return web.Handler(func(w http.ResponseWriter, r *http.Request) error {
			c, err := caller(r)
			if err != nil {
				return err
			}
			next.ServeHTTP(w, r.WithContext(access.With(r.Context(), c)))
			return nil
		}, render)
	})
	r.NotFound(web.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return fault.New(fault.NotFound, "the operator API has no %s", r.URL.Path).Because("no_such_path")
	}, render))
	r.MethodNotAllowed(web.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return fault.New(fault.MethodNotAllowed, "%s does not answer %s", r.URL.Path, r.Method)
	}, render))
	for _, route := range all {
		r.Method(route.Method, route.Path, s.serve(s.decided(route)))
	}
	return r
}

// Operations returns every operation with its handler, in the order of
// openapi.yaml.
func (s *Server) Operations() []Route {
	return []Route{
		handle(api.IssueCertificate, s.IssueCertificate),
		handle(api.ListCertificates, s.ListCertificates),
		handle(api.ExportCertificates, s.ExportCertificates),
		handle(api.GetCertificate, s.GetCertificate),
		handle(api.GetCertificatePEM, s.GetCertificatePEM),
		handle(api.IssueBatch, s.IssueBatch),
		handle(api.RevokeCertificate, s.RevokeCertificate),
		handle(api.ReleaseCertificate, s.ReleaseCertificate),
		handle(api.RevokeCertificates, s.RevokeCertificates),
		handle(api.PreviewRevocations, s.PreviewRevocations),
		handle(api.ListCRLs, s.ListCRLs),
		handle(api.ImportCRL, s.ImportCRL),
		handle(api.GetCRLs, s.GetCRLs),
		handle(api.PublishCRLs, s.PublishCRLs),
		handle(api.RecoverRevocations, s.RecoverRevocations),
		handle(api.ListIssuers, s.ListIssuers),
		handle(api.RemoveIssuer, s.RemoveIssuer),
		handle(api.CreateIssuerCSR, s.CreateIssuerCSR),
		handle(api.InstallIssuer, s.InstallIssuer),
		handle(api.ImportRecords, s.ImportRecords),
		handle(api.AdoptIssuer, s.AdoptIssuer),
		handle(api.GetHierarchy, s.GetHierarchy),
		handle(api.PlanHierarchy, s.PlanHierarchy),
		handle(api.ExportHierarchy, s.ExportHierarchy),
		handle(api.CreateEABKey, s.CreateEABKey),
		handle(api.ListEABKeys, s.ListEABKeys),
		handle(api.DisableEABKey, s.DisableEABKey),
		handle(api.ListACMEAccounts, s.ListACMEAccounts),
		handle(api.GetACMEAccount, s.GetACMEAccount),
		handle(api.DeactivateACMEAccount, s.DeactivateACMEAccount),
		handle(api.ListACMEOrders, s.ListACMEOrders),
		handle(api.GetACMEOrder, s.GetACMEOrder),
		handle(api.ListACMEAuthorizations, s.ListACMEAuthorizations),
		handle(api.GetACMEAuthorization, s.GetACMEAuthorization),
		handle(api.DeactivateACMEAuthorization, s.DeactivateACMEAuthorization),
		handle(api.CreateESTUser, s.CreateESTUser),
		handle(api.ListESTUsers, s.ListESTUsers),
		handle(api.DisableESTUser, s.DisableESTUser),
		handle(api.CreateSCEPChallenge, s.CreateSCEPChallenge),
		handle(api.ListSCEPChallenges, s.ListSCEPChallenges),
		handle(api.DisableSCEPChallenge, s.DisableSCEPChallenge),
		handle(api.ListRequests, s.ListRequests),
		handle(api.GetRequest, s.GetRequest),
		handle(api.ApproveRequest, s.ApproveRequest),
		handle(api.RejectRequest, s.RejectRequest),
		handle(api.ListAuditEvents, s.ListAuditEvents),
		handle(api.AcceptAudit, s.AcceptAudit),
		handle(api.ReloadConfig, s.ReloadConfig),
		handle(api.ResealSecrets, s.ResealSecrets),
		handle(api.WhoAmI, s.WhoAmI),
		handle(api.CanAccess, s.CanAccess),
		handle(api.ListAccess, s.ListAccess),
		handle(api.CreateGrant, s.CreateGrant),
		handle(api.RevokeGrant, s.RevokeGrant),
		handle(api.CreateBlock, s.CreateBlock),
		handle(api.RemoveBlock, s.RemoveBlock),
		handle(api.LinkLogin, s.LinkLogin),
		handle(api.OffboardPerson, s.OffboardPerson),
		handle(api.EndSession, s.EndSession),
		handle(api.CreateToken, s.CreateToken),
		handle(api.RevokeToken, s.RevokeToken),
		handle(api.AcceptAccess, s.AcceptAccess),
		handle(api.GetHealth, s.GetHealth),
		handle(api.GetVersion, s.GetVersion),
	}
}

// event returns an audit event of this operator's act.
func (s *Server) event(ctx context.Context, action, outcome, subject string) store.Event {
	return store.Event{
		At: s.cfg.Now(), Action: action, Outcome: outcome, Actor: requester(ctx),
		Subject: subject, RequestID: web.RequestID(ctx),
	}
}
