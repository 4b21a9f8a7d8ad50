package login

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-chi/chi/v5"
	"golang.org/x/oauth2"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/web"
)

const (
	flowLife = 10 * time.Minute // from the beginning of a login to its end
	pollTime = 20 * time.Second // that one request waits for somebody to enter a user code
	flowName = "login flow"     // what flows are sealed for
)

// flow is what has to be known when a login ends. The client carries it, sealed.
type flow struct {
	Provider string    `json:"p"`
	Until    time.Time `json:"u"`
	State    string    `json:"s,omitempty"`
	Nonce    string    `json:"n,omitempty"`
	Verifier string    `json:"v,omitempty"`
	Redirect string    `json:"r,omitempty"`
	Device   string    `json:"d,omitempty"`
	Interval int64     `json:"i,omitempty"`
}

func (s *Server) sealed(f flow) (string, error) {
	f.Until = s.cfg.Now().Add(flowLife)
	text, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(s.cfg.Sealer.Seal(flowName, text)), nil
}

// unsealed reads a flow that a client brings back.
func (s *Server) unsealed(text, provider string) (f flow, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		raw, err = s.cfg.Sealer.Open(flowName, raw)
	}
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil || f.Provider != provider {
		return f, refuse("login_unknown", err, "this login was not begun here: begin again")
	}
	if !s.cfg.Now().Before(f.Until) {
		return f, refuse("login_late", nil, "this login was begun more than %s ago: begin again", flowLife)
	}
	return f, nil
}

func (w *ways) sorted() []*Provider {
	var all []*Provider
	for _, p := range w.providers {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Provider) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// asked returns the provider of a request's path, which answered once.
func (s *Server) asked(r *http.Request) (*Provider, *oidc.Provider, error) {
	name := chi.URLParam(r, "provider")
	p := s.ways.Load().providers[name]
	if p == nil {
		return nil, nil, fault.New(fault.NotFound, "there is no provider of this name; GET /v1/login lists them").
			Because("provider_unknown")
	}
	found, err := p.discover(r.Context())
	return p, found, err
}

// start begins a login by authorization code with PKCE (RFC 7636, RFC 8252).
func (s *Server) start(w http.ResponseWriter, r *http.Request) error {
	var b api.LoginStart
	if err := body(w, r, &b); err != nil {
		return err
	}
	if !loopback(b.RedirectURI) {
		return fault.New(fault.Malformed, "redirect_uri: want http://127.0.0.1:PORT/PATH or http://[::1]:PORT/PATH").
			Because("redirect_uri")
	}
	p, found, err := s.asked(r)
	if err != nil {
		return err
	}
	f := flow{
		Provider: p.Name, State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(),
		Verifier: oauth2.GenerateVerifier(), Redirect: b.RedirectURI,
	}
	text, err := s.sealed(f)
	if err != nil {
		return err
	}
	return reply(w, api.LoginStarted{
		Flow: text, State: f.State, AuthorizeURL: p.oauth(found, f.Redirect).AuthCodeURL(f.State, oidc.Nonce(f.Nonce),
			oauth2.S256ChallengeOption(f.Verifier)),
	})
}

// loopback reports whether a redirect leads to a program on the person's own machine
// (RFC 8252, section 7.3).
func loopback(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(text) > 200 {
		return false
	}
	at, err := netip.ParseAddrPort(u.Host)
	return err == nil && at.Addr().IsLoopback() && at.Port() != 0
}

// device begins a login by device code (RFC 8628).
func (s *Server) device(w http.ResponseWriter, r *http.Request) error {
	var b struct{}
	if err := body(w, r, &b); err != nil {
		return err
	}
	p, found, err := s.asked(r)
	if err != nil {
		return err
	}
	if found.Endpoint().DeviceAuthURL == "" {
		return fault.New(fault.NotFound, "the provider %s has no device codes: log in by browser", p.Name).
			Because("device_code_off")
	}
	code, err := p.oauth(found, "").DeviceAuth(p.use(r.Context()))
	if err != nil {
		return p.answered(err)
	}
	text, err := s.sealed(flow{Provider: p.Name, Device: code.DeviceCode, Interval: code.Interval})
	if err != nil {
		return err
	}
	return reply(w, api.DeviceStarted{
		Flow: text, UserCode: code.UserCode, VerificationURI: code.VerificationURI,
		VerificationURIComplete: code.VerificationURIComplete,
	})
}

// finish ends a login of either kind.
func (s *Server) finish(w http.ResponseWriter, r *http.Request) error {
	var b api.LoginFinish
	if err := body(w, r, &b); err != nil {
		return err
	}
	p, found, err := s.asked(r)
	if err != nil {
		return err
	}
	var tok *oauth2.Token
	guess := limit.Guess{Source: web.Source(web.Client(r)), Endpoint: "login", Identity: p.Name + b.Flow, Unknown: true}
	l, err := s.guarded(r.Context(), guess, func() (access.Login, error) {
		f, err := s.unsealed(b.Flow, p.Name)
		if err != nil {
			return access.Login{}, err
		}
		if tok, err = p.exchange(r.Context(), found, f, b); err != nil {
			return access.Login{}, err
		}
		return p.prove(r.Context(), found, tok, f.Nonce)
	})
	if err != nil {
		return s.refused(r, "provider:"+p.Name, err)
	}
	session, err := s.open(w, r, l)
	if err == nil && tok.RefreshToken != "" {
		s.keep(session.ID, kept{provider: p, refresh: tok.RefreshToken, login: l, until: session.ExpiresAt})
	}
	return err
}

// exchange has the provider give its tokens for what a login ended with.
func (p *Provider) exchange(ctx context.Context, found *oidc.Provider, f flow, b api.LoginFinish) (*oauth2.Token, error) {
	ctx = p.use(ctx)
	if f.Device == "" {
		if b.State != f.State || b.Code == "" {
			return nil, refuse("state_differs", nil, "the answer of the provider is for another login: begin again")
		}
		tok, err := p.oauth(found, f.Redirect).Exchange(ctx, b.Code, oauth2.VerifierOption(f.Verifier))
		if err != nil {
			return nil, p.answered(err)
		}
		return tok, nil
	}
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	code := &oauth2.DeviceAuthResponse{DeviceCode: f.Device, Interval: f.Interval}
	tok, err := p.oauth(found, "").DeviceAccessToken(ctx, code)
	switch {
	case err == nil:
		return tok, nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return nil, fault.Wrap(fault.Pending, err, "nobody has entered the user code yet").Because("login_pending").
			After(time.Second)
	}
	return nil, p.answered(err)
}
