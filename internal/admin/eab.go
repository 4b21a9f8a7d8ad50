package admin

import (
	"context"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// CreateEABKey is POST /v1/eab/keys.
func (s *Server) CreateEABKey(ctx context.Context, _ api.None, b *api.NewEABKey) (*api.EABKeySecret, error) {
	n := credential.NewKey{
		Description: b.Description, Endpoint: b.Endpoint, Profiles: b.Profiles,
		Binding: pki.Binding{Subject: b.Subject, Names: b.Names, AnyName: b.AnyName},
		MaxUses: 1, ExpiresAt: b.ExpiresAt, CreatedBy: requester(ctx), RequestID: web.RequestID(ctx),
	}
	if b.MaxUses != nil {
		n.MaxUses = *b.MaxUses
	}
	if err := s.scope("acme", n.Endpoint, ""); err != nil {
		return nil, err
	}
	for _, p := range n.Profiles {
		if _, ok := s.cfg.Pipeline.Rules().Profiles[p]; !ok {
			return nil, fault.New(fault.InvalidProfile, "there is no profile %q", p).Because("profile_unknown")
		}
	}
	key, hmac, err := s.cfg.EAB.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	return &api.EABKeySecret{KID: key.KID, HMAC: hmac, Key: s.eabKey(key)}, nil
}

// ListEABKeys is GET /v1/eab/keys.
func (s *Server) ListEABKeys(ctx context.Context, p api.PageParams, _ *api.None) (*api.EABKeyPage, error) {
	limit, err := pageSize(p.Limit)
	if err != nil {
		return nil, err
	}
	keys, err := s.cfg.EAB.List(ctx, p.Cursor, limit+1)
	if err != nil {
		return nil, err
	}
	page := &api.EABKeyPage{Keys: []api.EABKey{}}
	if len(keys) > limit {
		keys = keys[:limit]
		page.Next = keys[limit-1].KID
	}
	for i := range keys {
		page.Keys = append(page.Keys, s.eabKey(&keys[i]))
	}
	return page, nil
}

// DisableEABKey is POST /v1/eab/keys/{kid}/disable.
func (s *Server) DisableEABKey(ctx context.Context, p api.EABKeyRef, _ *api.None) (*api.EABKey, error) {
	switch p.Accounts {
	case "", api.KeepAccounts, api.RevokeAccounts:
	default:
		return nil, badParameter("parameter %q: want %s or %s", "accounts", api.KeepAccounts, api.RevokeAccounts)
	}
	if p.Accounts == api.RevokeAccounts {
		if err := s.mayEndAccounts(ctx, p.KID); err != nil {
			return nil, err
		}
	}
	key, err := s.cfg.EAB.Disable(ctx, p.KID, requester(ctx), web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	out := s.eabKey(key)
	if p.Accounts == api.RevokeAccounts {
		out.AccountsRevoked, err = s.revokeAccountsOf(ctx, p.KID)
	}
	return &out, err
}

// mayEndAccounts decides on the accounts of a key, which end with it.
func (s *Server) mayEndAccounts(ctx context.Context, kid string) error {
	o, _, err := s.eabObject(ctx, kid)
	if err != nil {
		return err
	}
	c, _ := access.From(ctx)
	return s.cfg.Access.Decide(ctx, c, api.ACMEEnd, o)
}

func (s *Server) eabKey(k *store.EABKey) api.EABKey {
	out := api.EABKey{
		KID: k.KID, Status: string(s.cfg.EAB.Standing(k)), Description: k.Description, Endpoint: k.Endpoint,
		Profiles: append([]string{}, k.Profiles...), Names: append([]string{}, k.Binding.Names...),
		Subject: k.Binding.Subject, AnyName: k.Binding.AnyName, Unbound: k.Binding.Old,
		MaxUses: k.MaxUses, Uses: k.Uses, CreatedBy: k.CreatedBy, CreatedAt: k.CreatedAt.UTC(),
	}
	if k.ExpiresAt != nil {
		out.ExpiresAt = k.ExpiresAt.UTC()
	}
	if k.DisabledAt != nil {
		out.DisabledAt = k.DisabledAt.UTC()
	}
	return out
}

// pageSize applies the default and the bounds of a page.
func pageSize(limit int) (int, error) {
	if limit == 0 {
		return inventory.DefaultPage, nil
	}
	if limit < 1 || limit > inventory.MaxPage {
		return 0, fault.New(fault.Malformed, "limit %d: want 1 to %d", limit, inventory.MaxPage).Because("limit")
	}
	return limit, nil
}
