package admin

import (
	"context"
	"strings"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/web"
)

// WhoAmI is GET /v1/whoami.
func (s *Server) WhoAmI(ctx context.Context, _ api.None, _ *api.None) (*api.Identity, error) {
	c, _ := access.From(ctx)
	out := &api.Identity{
		Caller: c.String(), Person: c.Person(), Local: c.Local(), Subjects: c.Subjects(), Grants: []api.Grant{},
	}
	if t := c.Token(); t != nil {
		shown := token(t)
		out.Token = &shown
	}
	held, err := s.cfg.Access.Held(ctx, c)
	if c.Local() && err != nil {
		return out, nil //nolint:nilerr // administrators of the socket are told without the database
	}
	for _, g := range held {
		out.Grants = append(out.Grants, grant(g))
	}
	return out, err
}

// CanAccess is GET /v1/access/can.
func (s *Server) CanAccess(ctx context.Context, p api.CanParams, _ *api.None) (*api.CanAnswer, error) {
	var o access.Object
	if p.Issuer+p.Profile+p.Endpoint+p.Name != "" {
		o = s.object(p.Issuer)
		o.Profile, o.Endpoint = p.Profile, p.Endpoint
		if p.Name != "" {
			o.Names = []pki.Identifier{{Type: pki.DNS, Value: p.Name}}
		}
	}
	v, err := s.cfg.Access.Can(ctx, p.Subject, access.Permission(p.Permission), o)
	if err != nil {
		return nil, err
	}
	return &api.CanAnswer{Allowed: v.Allowed, By: v.By, Why: v.Why}, nil
}

// ListAccess is GET /v1/access.
func (s *Server) ListAccess(ctx context.Context, _ api.None, _ *api.None) (*api.AccessRecords, error) {
	r, err := s.cfg.Access.Records(ctx)
	if err != nil {
		return nil, err
	}
	out := &api.AccessRecords{
		Blocks: []api.Block{}, Grants: []api.Grant{}, People: []api.Person{}, Sessions: []api.Session{},
		Tokens: []api.Token{}, Doubt: r.Doubt,
	}
	for _, b := range r.Blocks {
		out.Blocks = append(out.Blocks, block(b))
	}
	for _, g := range r.Grants {
		out.Grants = append(out.Grants, grant(g))
	}
	for _, p := range r.People {
		out.People = append(out.People, person(&p, r.Logins))
	}
	for _, one := range r.Sessions {
		out.Sessions = append(out.Sessions, api.Session{
			ExpiresAt: one.ExpiresAt, From: one.From, ID: one.ID, Name: one.Login.Name, StartedAt: one.StartedAt,
			Subject: one.Login.Subject(),
		})
	}
	for _, t := range r.Tokens {
		out.Tokens = append(out.Tokens, token(&t))
	}
	return out, nil
}

// CreateGrant is POST /v1/access/grants.
func (s *Server) CreateGrant(ctx context.Context, _ api.None, b *api.NewGrant) (*api.Grant, error) {
	c, _ := access.From(ctx)
	g, err := s.cfg.Access.Give(ctx, c, access.Grant{
		Subject: b.Subject, Role: b.Role, Scope: scope(b.Scope), Reasons: b.Reasons, Reason: b.Reason,
		Until: b.Until.UTC(),
	}, web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	return new(grant(*g)), nil
}

// RevokeGrant is POST /v1/access/grants/{id}/revoke.
func (s *Server) RevokeGrant(ctx context.Context, p api.IDRef, _ *api.None) (*api.Grant, error) {
	c, _ := access.From(ctx)
	g, err := s.cfg.Access.Revoke(ctx, c, p.ID, web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	return new(grant(*g)), nil
}

// CreateBlock is POST /v1/access/blocks.
func (s *Server) CreateBlock(ctx context.Context, _ api.None, b *api.NewBlock) (*api.Block, error) {
	c, _ := access.From(ctx)
	made, err := s.cfg.Access.Block(ctx, c, access.Block{
		Subject: b.Subject, Reason: b.Reason, Until: b.Until.UTC(),
	}, web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	return new(block(*made)), nil
}

// RemoveBlock is POST /v1/access/blocks/remove.
func (s *Server) RemoveBlock(ctx context.Context, _ api.None, b *api.SubjectRef) (*api.None, error) {
	c, _ := access.From(ctx)
	return &api.None{}, s.cfg.Access.Unblock(ctx, c, b.Subject, web.RequestID(ctx))
}

// LinkLogin is POST /v1/access/logins.
func (s *Server) LinkLogin(ctx context.Context, _ api.None, b *api.NewLink) (*api.Person, error) {
	c, _ := access.From(ctx)
	p, err := s.cfg.Access.Link(ctx, c, b.Subject, b.Person, b.Name, web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	r, err := s.cfg.Access.Records(ctx)
	if err != nil {
		return nil, err
	}
	return new(person(p, r.Logins)), nil
}

// OffboardPerson is POST /v1/access/people/{id}/offboard.
func (s *Server) OffboardPerson(ctx context.Context, p api.IDRef, b *api.Offboarding) (*api.Offboarded, error) {
	c, _ := access.From(ctx)
	done, err := s.cfg.Access.Offboard(ctx, c, p.ID, b.Reason, b.DryRun, web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	list := func(ids []string) []string { return append([]string{}, ids...) }
	return &api.Offboarded{
		Grants: list(done.Grants), Logins: list(done.Logins), Sessions: list(done.Sessions), Tokens: list(done.Tokens),
	}, nil
}

// EndSession is POST /v1/access/sessions/{id}/end.
func (s *Server) EndSession(ctx context.Context, p api.IDRef, _ *api.None) (*api.None, error) {
	return &api.None{}, s.cfg.Access.End(ctx, p.ID)
}

// CreateToken is POST /v1/access/tokens.
func (s *Server) CreateToken(ctx context.Context, _ api.None, b *api.NewToken) (*api.TokenSecret, error) {
	c, _ := access.From(ctx)
	secret, t, err := s.cfg.Access.NewToken(ctx, c, access.Token{
		Service: b.Service, Role: b.Role, Scope: scope(b.Scope), Networks: b.Networks,
		ExpiresAt: b.ExpiresAt.UTC(),
	}, web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	return &api.TokenSecret{Secret: secret, Token: token(t)}, nil
}

// RevokeToken is POST /v1/access/tokens/{id}/revoke.
func (s *Server) RevokeToken(ctx context.Context, p api.IDRef, _ *api.None) (*api.None, error) {
	c, _ := access.From(ctx)
	return &api.None{}, s.cfg.Access.RevokeToken(ctx, c, p.ID, web.RequestID(ctx))
}

// AcceptAccess is POST /v1/access/accept.
func (s *Server) AcceptAccess(ctx context.Context, _ api.None, b *api.Acceptance) (*api.AcceptedAccess, error) {
	if strings.TrimSpace(b.Reason) == "" || len(b.Reason) > 500 {
		return nil, fault.New(fault.Malformed, "say why, in at most 500 bytes").Because("reason")
	}
	ev := s.event(ctx, "access.accepted", "success", "access")
	kept, removed, err := s.cfg.Access.Remake(ctx, b.Reason, ev)
	if err != nil {
		return nil, err
	}
	return &api.AcceptedAccess{Kept: kept, Removed: append([]string{}, removed...)}, nil
}

func scope(s api.Scope) access.Scope {
	return access.Scope{
		All: s.All, CAs: s.CAs, Endpoints: s.Endpoints, Names: s.Names, Pools: s.Pools, Profiles: s.Profiles,
	}
}

func grant(g access.Grant) api.Grant {
	return api.Grant{
		At: g.At, By: g.By, ID: g.ID, Reason: g.Reason, Reasons: g.Reasons, Role: g.Role, Scope: scopeOf(g.Scope),
		Subject: g.Subject, Until: g.Until,
	}
}

func scopeOf(s access.Scope) api.Scope {
	return api.Scope{
		All: s.All, CAs: s.CAs, Endpoints: s.Endpoints, Names: s.Names, Pools: s.Pools, Profiles: s.Profiles,
	}
}

func block(b access.Block) api.Block {
	return api.Block{At: b.At, By: b.By, Reason: b.Reason, Subject: b.Subject, Until: b.Until}
}

func person(p *access.Person, logins []access.LoginRecord) api.Person {
	out := api.Person{ID: p.ID, Name: p.Name, Logins: []string{}}
	for _, l := range logins {
		if l.Person == p.ID {
			out.Logins = append(out.Logins, l.Subject)
		}
	}
	return out
}

func token(t *access.Token) api.Token {
	return api.Token{
		ExpiresAt: t.ExpiresAt, ID: t.ID, Networks: t.Networks, Owner: t.Owner.Subject(), Role: t.Role,
		Scope: scopeOf(t.Scope), Service: t.Service,
	}
}
