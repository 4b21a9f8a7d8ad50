package login

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// KindOIDC is the kind of logins at OpenID providers.
const KindOIDC = "oidc"

// Bounds of what a provider says.
const (
	maxAnswer  = 1 << 20 // octets of any answer
	maxGroups  = 200     // of one person
	maxGroupID = 256     // octets
	maxShown   = 256     // octets of a name that is shown
)

// ProviderConfig is an OpenID provider that people log in at.
type ProviderConfig struct {
	// Name is its part of the path, and what `privyseal login --provider` names.
	Name string `yaml:"name" json:"name"`
	// Issuer is the provider's issuer URL, octet by octet as its tokens have it.
	Issuer string `yaml:"issuer" json:"issuer"`
	// ClientID is what the provider calls this CA.
	ClientID string `yaml:"client_id" json:"client_id"`
	// ClientSecret refers to the secret of a confidential client: file:PATH, env:NAME
	// or credential:NAME. A public client has none; PKCE protects both.
	ClientSecret string `yaml:"client_secret,omitempty" json:"client_secret,omitempty"`
	// Scopes are asked for beside openid. Default: profile, email, offline_access.
	Scopes []string `yaml:"scopes,omitempty" json:"scopes,omitempty"`
	// Groups is the claim that lists the ids of a person's groups, with dots between
	// the names of objects, such as realm_access.roles. Default: groups.
	Groups string `yaml:"groups,omitempty" json:"groups,omitempty"`
	// Require are claims with the one value that each must have, such as the tid of a
	// tenant.
	Require map[string]string `yaml:"require,omitempty" json:"require,omitempty"`
	// CA is a PEM file of the CAs that the provider's TLS certificate may come from.
	// Default: those that the system trusts.
	CA string `yaml:"ca,omitempty" json:"ca,omitempty" path:"file"`
}

// Check reports what is wrong with the configuration by itself.
func (c *ProviderConfig) Check() error {
	u, err := url.Parse(c.Issuer)
	good := err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
	return errors.Join(
		strictyaml.WrongIf(!good, "issuer", "want an https URL without query, as the provider's tokens have it"),
		strictyaml.WrongIf(c.ClientID == "", "client_id", "required"),
		strictyaml.WrongIf(strings.Contains(c.Groups, ".."), "groups", "%q: an empty name", c.Groups),
	)
}

// Provider is one that can be asked.
type Provider struct {
	ProviderConfig
	Secret string       // what ClientSecret refers to
	Client *http.Client // makes all calls

	now    func() time.Time
	mu     sync.Mutex
	found  *oidc.Provider // nil until it answered
	failed time.Time      // when it last did not
}

// rest is how long a provider that did not answer is not asked who it is.
const rest = 5 * time.Second

// bounded cuts answers off, which the libraries read whole.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// use makes the libraries ask by the provider's own client.
func (p *Provider) use(ctx context.Context) context.Context {
	client := *p.Client
	client.Transport = bounded{cmp.Or(client.Transport, http.DefaultTransport)}
	return oidc.ClientContext(ctx, &client)
}

// away is the fault of a provider that does not answer.
func (p *Provider) away(err error) error {
	detail := fmt.Sprintf("the provider %s does not answer: try again, or another way in", p.Name)
	return fault.Wrap(fault.Unavailable, err, detail).Because("oidc_unavailable").After(10 * time.Second)
}

// discover asks the provider where everything is, once it answers never again: its
// keys are read anew by themselves.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if p.now().Sub(p.failed) < rest {
		return nil, p.away(errors.New("it did not answer a moment ago"))
	}
	found, err := oidc.NewProvider(p.use(context.WithoutCancel(ctx)), p.Issuer)
	if err != nil {
		p.failed = p.now()
		return nil, p.away(err)
	}
	p.found = found
	return found, nil
}

func (p *Provider) oauth(found *oidc.Provider, redirect string) *oauth2.Config {
	scopes := p.Scopes
	if scopes == nil {
		scopes = []string{oidc.ScopeProfile, oidc.ScopeEmail, oidc.ScopeOfflineAccess}
	}
	return &oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.Secret, Endpoint: found.Endpoint(), RedirectURL: redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, scopes...),
	}
}

// claims is what is read of an ID token.
type claims struct {
	Email     string                     `json:"email"`
	Username  string                     `json:"preferred_username"`
	FullName  string                     `json:"name"`
	LeftOut   map[string]json.RawMessage `json:"_claim_names"` // OpenID Connect Core 1.0, section 5.6.2
	HasGroups bool                       `json:"hasgroups"`    // Entra ID, in place of groups in a URL's length
}

// prove verifies the ID token that came with tok from the provider's token endpoint,
// and returns the login that it proves. nonce is empty where none was sent.
func (p *Provider) prove(ctx context.Context, found *oidc.Provider, tok *oauth2.Token, nonce string) (access.Login, error) {
	raw, _ := tok.Extra("id_token").(string)
	if raw == "" {
		return access.Login{}, refuse("id_token_missing", nil, "the provider sent no ID token: the scope openid is not allowed there")
	}
	id, err := found.Verifier(&oidc.Config{ClientID: p.ClientID, Now: p.now}).Verify(p.use(ctx), raw)
	if err != nil {
		return access.Login{}, refuse("id_token_refused", err, "the provider's ID token is not good here: log in anew")
	}
	if nonce != "" && id.Nonce != nonce {
		return access.Login{}, refuse("id_token_refused", errors.New("other nonce"), "the provider's ID token is for another login")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(tok.AccessToken); err != nil {
			return access.Login{}, refuse("id_token_refused", err, "the provider's tokens do not belong together")
		}
	}
	return p.login(id)
}

// login reads the claims of a verified token.
func (p *Provider) login(id *oidc.IDToken) (access.Login, error) {
	var c claims
	all := map[string]any{}
	if err := errors.Join(id.Claims(&c), id.Claims(&all)); err != nil {
		return access.Login{}, refuse("id_token_refused", err, "the provider's ID token has claims of other kinds than agreed")
	}
	for name, want := range p.Require {
		if have, ok := all[name].(string); !ok || have != want {
			return access.Login{}, refuse("claim_differs", nil, "the claim %s is not what this CA requires of it", name)
		}
	}
	groups, err := p.groups(c, all)
	if err != nil {
		return access.Login{}, err
	}
	shown := cmp.Or(c.Email, c.Username, c.FullName, id.Subject)
	return access.Login{
		Kind: KindOIDC, Issuer: id.Issuer, ID: id.Subject, Name: strings.ToValidUTF8(shown[:min(len(shown), maxShown)], ""),
		Groups: groups, At: p.now(),
	}, nil
}

func (p *Provider) groups(c claims, all map[string]any) ([]string, error) {
	path := strings.Split(cmp.Or(p.Groups, "groups"), ".")
	if _, elsewhere := c.LeftOut[path[0]]; elsewhere || c.HasGroups {
		return nil, refuse("groups_left_out", nil, "the provider left your groups out of the token because there are too many: "+
			"have it send only those that are assigned to this application, or use application roles")
	}
	var at any = all
	for _, name := range path {
		object, ok := at.(map[string]any)
		if !ok {
			return nil, nil
		}
		at = object[name]
	}
	list, ok := at.([]any)
	if at != nil && !ok || len(list) > maxGroups {
		return nil, refuse("groups_unreadable", nil, "the claim %s is no list of at most %d groups", p.Groups, maxGroups)
	}
	var groups []string
	for _, g := range list {
		text, ok := g.(string)
		if !ok || text == "" || len(text) > maxGroupID {
			return nil, refuse("groups_unreadable", nil, "the claim %s has a group that is no text of 1 to %d octets", p.Groups, maxGroupID)
		}
		groups = append(groups, text)
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// refuse is the fault of a login that proves nothing.
func refuse(reason string, err error, format string, args ...any) error {
	return fault.Wrap(fault.Unauthenticated, err, fmt.Sprintf(format, args...)).Because(reason)
}

// answered tells a provider that said no from one that said nothing.
func (p *Provider) answered(err error) error {
	var no *oauth2.RetrieveError
	if errors.As(err, &no) && no.Response != nil && no.Response.StatusCode < 500 {
		return refuse("oidc_refused", err, "the provider %s refuses this login: begin again", p.Name)
	}
	return p.away(err)
}
