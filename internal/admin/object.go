package admin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// endpointObject is what an endpoint and its CA are to a scope.
func (s *Server) endpointObject(protocol, endpoint string) access.Object {
	o := access.Object{Scoped: true}
	if issuer := s.cfg.IssuerOf(protocol, endpoint); issuer != "" {
		o = s.object(issuer)
	}
	o.Endpoint = endpoint
	return o
}

// credentialObject is what a credential is to a scope: its bounds have to lie within, the
// subject too, as what it spells out is certified. One that is for no endpoint reaches
// every CA.
func (s *Server) credentialObject(protocol, endpoint string, profiles []string, b pki.Binding) access.Object {
	o := s.endpointObject(protocol, endpoint)
	bounds := access.Scope{Profiles: profiles, Names: slices.Concat(b.Names, oneOrNone(b.Subject))}
	if b.AnyName {
		bounds.Names = nil
	}
	if endpoint != "" {
		bounds.Endpoints = []string{endpoint}
	}
	o.Bounds = &bounds
	return o
}

func oneOrNone(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

// binding is of a credential that is asked for, its subject in the form in which it is kept.
func binding(subject string, names []string, anyName bool) pki.Binding {
	b := pki.Binding{Subject: subject, Names: slices.Clone(names), AnyName: anyName}
	_, _ = b.Check() // what is wrong is said where it is made
	return b
}

// newCredential is the object of making a credential.
func (s *Server) newCredential(body any) (o access.Object, ok bool) {
	switch b := body.(type) {
	case *api.NewEABKey:
		return s.credentialObject("acme", b.Endpoint, b.Profiles, binding(b.Subject, b.Names, b.AnyName)), true
	case *api.NewESTUser:
		return s.credentialObject("est", b.Endpoint, oneOrNone(b.Profile), binding(b.Subject, b.Names, b.AnyName)), true
	case *api.NewSCEPChallenge:
		return s.credentialObject("scep", b.Endpoint, oneOrNone(b.Profile), binding(b.Subject, b.Names, b.AnyName)), true
	}
	return o, false
}

// absent returns the refusal of what is not there, or err.
func absent(err error, what, id, reason string) (unknown, other error) {
	unknown = fault.New(fault.NotFound, "there is no %s %s", what, id).Because(reason)
	if errors.Is(err, store.ErrNotFound) {
		err = unknown
	}
	return unknown, err
}

func (s *Server) eabObject(ctx context.Context, kid string) (o access.Object, unknown, err error) {
	k, err := s.cfg.Store.EAB(ctx, kid)
	if unknown, err = absent(err, "EAB key", kid, "eab_unknown"); err != nil {
		return o, nil, err
	}
	return s.credentialObject("acme", k.Endpoint, k.Profiles, k.Binding), unknown, nil
}

func (s *Server) estObject(ctx context.Context, name string) (o access.Object, unknown, err error) {
	u, err := s.cfg.Store.ESTUser(ctx, name)
	if unknown, err = absent(err, "EST user", name, "est_user_unknown"); err != nil {
		return o, nil, err
	}
	return s.credentialObject("est", u.Endpoint, oneOrNone(u.Profile), u.Binding), unknown, nil
}

// idObject is the object of what is named by an id alone, by the path that it is in.
func (s *Server) idObject(ctx context.Context, path, id string) (o access.Object, unknown, err error) {
	part := strings.Split(path, "/")
	switch part[2] {
	case "requests":
		return s.requestObject(ctx, id)
	case "scep":
		c, err := s.cfg.Store.SCEPChallenge(ctx, id)
		if unknown, err = absent(err, "SCEP challenge", id, "scep_challenge_unknown"); err != nil {
			return o, nil, err
		}
		return s.credentialObject("scep", c.Endpoint, oneOrNone(c.Profile), c.Binding), unknown, nil
	case "acme":
		return s.acmeObject(ctx, part[3], id)
	}
	return access.Object{}, nil, nil
}

func (s *Server) acmeObject(ctx context.Context, kind, id string) (o access.Object, unknown, err error) {
	var endpoint, profile, account string
	var names []pki.Identifier
	what := strings.TrimSuffix(kind, "s")
	switch id = strings.TrimPrefix(id, what+":"); kind {
	case "accounts":
		account = id
	case "orders":
		var order *store.Order
		if order, _, err = s.cfg.Store.Order(ctx, id); err == nil {
			endpoint, profile, names = order.Endpoint, order.Profile, order.Identifiers
		}
	case "authorizations":
		var z *store.Authorization
		if z, err = s.cfg.Store.Authorization(ctx, id); err == nil {
			account, names = z.AccountID, []pki.Identifier{{Type: z.Identifier.Type, Value: z.Name()}}
		}
	}
	if err == nil && account != "" {
		var a *store.Account
		if a, err = s.cfg.Store.Account(ctx, account); err == nil {
			endpoint = a.Endpoint
		}
	}
	if err != nil {
		return o, nil, missing(err, what, id)
	}
	o = s.endpointObject("acme", endpoint)
	o.Profile, o.Names = profile, names
	return o, missing(store.ErrNotFound, what, id), nil
}

// missing is unknown, for where a result has that name.
func missing(err error, what, id string) error { return unknown(err, what, id) }

// batchObject is all of a page of a batch: one grant has to cover it.
func (s *Server) batchObject(ctx context.Context, b *api.BatchPage) (access.Object, error) {
	common, err := s.common(b)
	if err != nil {
		return access.Object{}, err
	}
	o := s.object(common.Issuer)
	o.Profile = common.Profile
	for _, item := range b.Requests[:min(len(b.Requests), batchPage)] {
		one, err := s.issueObject(ctx, &api.IssueRequest{Profile: common.Profile, Issuer: common.Issuer, CSR: item.CSR})
		if err != nil || len(one.Names) == 0 { // it may be signed later: no pattern holds this
			one.Names = []pki.Identifier{{}}
		}
		o.Names = append(o.Names, one.Names...)
	}
	return o, nil
}
