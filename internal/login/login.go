// Package login is the way in at the listener https-admin: it proves who somebody is, by
// an OpenID provider or a client certificate, and has a session opened for the proof. It
// decides nothing of what they may do.
//
// A login at a provider begins here and ends here: the provider's code or device code is
// exchanged by the server, so that no token of a provider is ever taken from a client.
// What the server has to remember meanwhile goes to the client, sealed, and comes back;
// any node can end what another began.
//
// Start with New; Routes serves /v1/login, Tend reads groups anew.
package login

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// maxBody is the longest body of a login.
const maxBody = 32 << 10

// Config is what a Server stands on.
type Config struct {
	Access *access.Access
	Store  *store.Store // takes the audit events of refusals
	Sealer *seal.Sealer
	Limits *limit.Limiter
	// Enrolment finds and judges certificates of our own.
	Enrolment *enrolment.Enrolment
	Now       func() time.Time
	Log       *slog.Logger
	Render    func(http.ResponseWriter, *http.Request, error) // answers with a problem document
}

// Server proves logins. It is safe for concurrent use.
type Server struct {
	cfg  Config
	ways atomic.Pointer[ways]

	mu   sync.Mutex
	kept map[string]kept // by session
}

// ways is what is in force.
type ways struct {
	providers map[string]*Provider
	anchors   []*Anchor
	asksAt    string // server name under which client certificates are asked for
}

// New returns a Server that lets nobody in until Swap.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, kept: map[string]kept{}}
	s.ways.Store(&ways{})
	return s
}

// Swap puts providers and anchors in force, and the server name under which client
// certificates are asked for. Sessions of providers that are gone are read anew no more.
func (s *Server) Swap(providers []*Provider, anchors []*Anchor, asksAt string) {
	w := &ways{providers: map[string]*Provider{}, anchors: anchors, asksAt: asksAt}
	for _, a := range anchors {
		a.remember(s.ways.Load().anchors)
	}
	for _, p := range providers {
		p.now = s.cfg.Now
		w.providers[p.Name] = p
	}
	s.ways.Store(w)
}

// Routes returns the handler of /v1/login and all below it.
func (s *Server) Routes() http.Handler {
	r := chi.NewRouter()
	handle := func(method, path string, h web.HandlerFunc) { r.Method(method, path, web.Handler(h, s.cfg.Render)) }
	handle(http.MethodGet, "/v1/login", s.list)
	handle(http.MethodPost, "/v1/login/end", s.end)
	handle(http.MethodPost, "/v1/login/certificate", s.certificate)
	handle(http.MethodPost, "/v1/login/oidc/{provider}/start", s.start)
	handle(http.MethodPost, "/v1/login/oidc/{provider}/device", s.device)
	handle(http.MethodPost, "/v1/login/oidc/{provider}/finish", s.finish)
	r.NotFound(web.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return fault.New(fault.NotFound, "there is no %s; GET /v1/login lists the ways in", r.URL.Path).
			Because("no_such_path")
	}, s.cfg.Render))
	r.MethodNotAllowed(web.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return fault.New(fault.MethodNotAllowed, "%s does not answer %s", r.URL.Path, r.Method)
	}, s.cfg.Render))
	return r
}

// list says which ways in there are.
func (s *Server) list(w http.ResponseWriter, _ *http.Request) error {
	var answer api.Ways
	for _, p := range s.ways.Load().sorted() {
		answer.OIDC = append(answer.OIDC, api.OIDCWay{Name: p.Name, Issuer: p.Issuer})
	}
	if in := s.ways.Load(); len(in.anchors) > 0 {
		answer.Certificate = &api.CertificateWay{ServerName: in.asksAt}
	}
	return reply(w, answer)
}

// TLS returns the settings of a listener that asks for a client certificate under the
// server name of Swap alone: browsers show a choice of certificates where they are asked.
func (s *Server) TLS(base *tls.Config) *tls.Config {
	asking := base.Clone()
	asking.ClientAuth = tls.RequestClientCert // what it is worth the login says
	c := base.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if name := s.ways.Load().asksAt; name != "" && strings.EqualFold(hello.ServerName, name) {
			return asking, nil
		}
		return nil, nil //nolint:nilnil // the listener's own
	}
	return c
}

// end ends the session by which it is asked.
func (s *Server) end(w http.ResponseWriter, r *http.Request) error {
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c, err := s.cfg.Access.Bearer(r.Context(), secret, web.Client(r))
	if err != nil {
		return err
	}
	if c.Session() == "" {
		return fault.New(fault.Malformed, "a token is no session: revoke it").Because("no_session")
	}
	s.forget(c.Session())
	if err := s.cfg.Access.End(access.With(r.Context(), c), c.Session()); err != nil {
		return err
	}
	return reply(w, struct{}{})
}

func reply(w http.ResponseWriter, answer any) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text) // the client is gone; nobody is left to tell
	return nil
}

// body reads the JSON object of a request.
func body(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
	}
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		return fault.New(fault.TooLarge, "the body is larger than %d octets", long.Limit)
	}
	return fault.Wrap(fault.Malformed, err, "the body is not the JSON object that openapi.yaml says").Because("body")
}

// open begins the session of a proved login and answers with its secret.
func (s *Server) open(w http.ResponseWriter, r *http.Request, l access.Login) (access.Session, error) {
	secret, session, err := s.cfg.Access.Open(r.Context(), l, web.Client(r))
	if err != nil {
		return session, s.refused(r, l.Subject(), err)
	}
	return session, reply(w, api.LoggedIn{
		Token: secret, ExpiresAt: session.ExpiresAt, Caller: l.Subject(), Name: l.Name,
	})
}

// refused puts a refusal into the audit record, and returns it. That somebody could not
// be asked is none.
func (s *Server) refused(r *http.Request, who string, err error) error {
	f := fault.Of(err)
	if f.Kind != fault.Unauthenticated && f.Kind != fault.Denied {
		return err
	}
	detail, encodeErr := json.Marshal(map[string]string{"from": web.Client(r).String(), "reason": f.Reason})
	return errors.Join(err, encodeErr, s.cfg.Store.AppendAudit(r.Context(), store.Event{
		At: s.cfg.Now(), Action: "login.refused", Outcome: "failure", Actor: who, Subject: r.URL.Path,
		RequestID: web.RequestID(r.Context()), Detail: detail,
	}))
}

// guarded counts wrong proofs by address and identity, and lets none be tried beyond
// what the limits allow.
func (s *Server) guarded(ctx context.Context, g limit.Guess, prove func() (access.Login, error)) (access.Login, error) {
	if err := s.cfg.Limits.MayGuess(ctx, g); err != nil {
		return access.Login{}, err
	}
	l, err := prove()
	if fault.Is(err, fault.Unauthenticated) {
		if full := s.cfg.Limits.WrongSecret(ctx, g); full != nil {
			return l, full
		}
	}
	return l, err
}
