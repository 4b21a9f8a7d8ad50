package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// newestCertificates is how many certificates of an account are shown with it.
const newestCertificates = 10

// acmeQuery is what a filter selects: one more than a page holds, to see whether it is
// the last.
func (s *Server) acmeQuery(f api.ACMEFilter, status string, known ...string) (q store.ACMEQuery, limit int, err error) {
	if status != "" && !slices.Contains(known, status) {
		return q, 0, fault.New(fault.Malformed, "status %q is not one of %s", status, strings.Join(known, ", ")).
			Because("status")
	}
	if limit, err = pageSize(f.Limit); err != nil {
		return q, 0, err
	}
	return store.ACMEQuery{
		Account: strings.TrimPrefix(f.Account, "account:"), Address: address(f.Address), EABKID: f.EABKey,
		Endpoint: f.Endpoint, Name: strings.TrimSuffix(address(f.Name), "."), Status: status, Now: s.cfg.Now(),
		After: f.Cursor, Limit: limit + 1,
	}, limit, nil
}

// address writes an address as the records have it; other text stays.
func address(text string) string {
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.Unmap().String()
	}
	return text
}

// page makes the answers to the rows that a query found, and the cursor of the next page.
func page[T, A any](rows []T, limit int, id func(*T) string, answer func(*T) A) (out []A, next string) {
	if len(rows) > limit {
		rows = rows[:limit]
		next = id(&rows[limit-1])
	}
	out = make([]A, 0, len(rows))
	for i := range rows {
		out = append(out, answer(&rows[i]))
	}
	return out, next
}

// unknown says of a row that is not there what it would have been.
func unknown(err error, what, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return fault.New(fault.NotFound, "there is no ACME %s %s", what, id).Because(what + "_unknown")
	}
	return err
}

// ListACMEAccounts is GET /v1/acme/accounts.
func (s *Server) ListACMEAccounts(
	ctx context.Context, p api.ListACMEAccountsParams, _ *api.None,
) (*api.ACMEAccountPage, error) {
	q, limit, err := s.acmeQuery(p.ACMEFilter, string(p.Status), "valid", "deactivated", "revoked")
	if err != nil {
		return nil, err
	}
	rows, err := s.cfg.Store.Accounts(ctx, q)
	out := &api.ACMEAccountPage{}
	out.Accounts, out.Next = page(rows, limit, func(a *store.Account) string { return a.ID }, s.acmeAccount)
	return out, err
}

// GetACMEAccount is GET /v1/acme/accounts/{id}.
func (s *Server) GetACMEAccount(ctx context.Context, p api.IDRef, _ *api.None) (*api.ACMEAccount, error) {
	a, err := s.findAccount(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	return s.wholeAccount(ctx, a)
}

func (s *Server) findAccount(ctx context.Context, id string) (*store.Account, error) {
	id = strings.TrimPrefix(id, "account:")
	a, err := s.cfg.Store.Account(ctx, id)
	return a, unknown(err, "account", id)
}

// wholeAccount is an account with what belongs to it.
func (s *Server) wholeAccount(ctx context.Context, a *store.Account) (*api.ACMEAccount, error) {
	out := s.acmeAccount(a)
	orders, authorizations, err := s.cfg.Store.CountACME(ctx, a.ID, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out.Orders, out.Authorizations = acmeCounts(orders), acmeCounts(authorizations)
	newest, _, err := s.cfg.Store.SearchCertificates(ctx,
		store.Search{Requester: "account:" + a.ID, Limit: newestCertificates})
	for i := range newest {
		out.Certificates = append(out.Certificates, inventory.Record(&newest[i]))
	}
	return &out, err
}

// DeactivateACMEAccount is POST /v1/acme/accounts/{id}/deactivate.
func (s *Server) DeactivateACMEAccount(
	ctx context.Context, p api.IDRef, b *api.DeactivateAccount,
) (*api.ACMEAccount, error) {
	a, err := s.findAccount(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	var block *pki.KeyHash
	if b.BlockKey {
		hash, err := s.cfg.AccountKey(a.JWK)
		if err != nil {
			return nil, fmt.Errorf("block key of account %s: %w", a.ID, err)
		}
		block = &hash
	}
	if a.Status == string(api.AccountValid) {
		err = s.revokeAccount(ctx, a, block)
	} else if block != nil {
		err = s.cfg.Store.BlockAccountKey(ctx, *block, s.accountEvent(ctx, "account.key_blocked", a, block))
	}
	if err != nil {
		return nil, err
	}
	return s.wholeAccount(ctx, a)
}

func (s *Server) revokeAccount(ctx context.Context, a *store.Account, block *pki.KeyHash) error {
	err := s.cfg.Store.RevokeAccount(ctx, a, block, s.accountEvent(ctx, "account.revoked", a, block))
	if err == nil {
		a.Status = string(api.AccountRevoked)
	}
	return err
}

// accountEvent is the audit event of an operator's act on an account.
func (s *Server) accountEvent(ctx context.Context, action string, a *store.Account, block *pki.KeyHash) store.Event {
	detail := map[string]string{"endpoint": a.Endpoint, "thumbprint": a.Thumbprint, "eab_kid": a.EABKID}
	if block != nil {
		detail["blocked_key_sha256"] = block.String()
	}
	ev := s.event(ctx, action, "success", a.ID)
	ev.Detail, _ = json.Marshal(detail) // a map of strings: cannot fail
	return ev
}

// revokeAccountsOf ends the accounts that an EAB key made, and counts them. The key is
// disabled already: none comes after them.
func (s *Server) revokeAccountsOf(ctx context.Context, kid string) (n int, err error) {
	for q := (store.ACMEQuery{EABKID: kid, Status: string(api.AccountValid)}); ; {
		rows, err := s.cfg.Store.Accounts(ctx, q)
		if err != nil || len(rows) == 0 {
			return n, err
		}
		for i := range rows {
			switch err := s.revokeAccount(ctx, &rows[i], nil); {
			case err == nil:
				n++
			case !fault.Is(err, fault.Conflict): // that ended by itself a moment ago
				return n, err
			}
		}
		q.After = rows[len(rows)-1].ID
	}
}

// ListACMEOrders is GET /v1/acme/orders.
func (s *Server) ListACMEOrders(
	ctx context.Context, p api.ListACMEOrdersParams, _ *api.None,
) (*api.ACMEOrderPage, error) {
	q, limit, err := s.acmeQuery(p.ACMEFilter, string(p.Status), "pending", "ready", "processing", "valid", "invalid")
	if err != nil {
		return nil, err
	}
	rows, err := s.cfg.Store.Orders(ctx, q)
	out := &api.ACMEOrderPage{}
	out.Orders, out.Next = page(rows, limit, func(o *store.ACMEOrder) string { return o.ID }, s.acmeOrder)
	return out, err
}

// GetACMEOrder is GET /v1/acme/orders/{id}.
func (s *Server) GetACMEOrder(ctx context.Context, p api.IDRef, _ *api.None) (*api.ACMEOrder, error) {
	id := strings.TrimPrefix(p.ID, "order:")
	o, authzs, err := s.cfg.Store.Order(ctx, id)
	if err != nil {
		return nil, unknown(err, "order", id)
	}
	return new(s.acmeOrder(&store.ACMEOrder{Order: *o, Authorizations: authzs})), nil
}

// ListACMEAuthorizations is GET /v1/acme/authorizations.
func (s *Server) ListACMEAuthorizations(
	ctx context.Context, p api.ListACMEAuthorizationsParams, _ *api.None,
) (*api.ACMEAuthorizationPage, error) {
	q, limit, err := s.acmeQuery(p.ACMEFilter, string(p.Status),
		"pending", "valid", "invalid", "deactivated", "expired", "revoked")
	if err != nil {
		return nil, err
	}
	rows, err := s.cfg.Store.Authorizations(ctx, q)
	out := &api.ACMEAuthorizationPage{}
	out.Authorizations, out.Next = page(rows, limit, func(a *store.Authorization) string { return a.ID },
		func(a *store.Authorization) api.ACMEAuthorization { return s.acmeAuthorization(a, "") })
	return out, err
}

// GetACMEAuthorization is GET /v1/acme/authorizations/{id}.
func (s *Server) GetACMEAuthorization(ctx context.Context, p api.IDRef, _ *api.None) (*api.ACMEAuthorization, error) {
	a, err := s.cfg.Store.Authorization(ctx, p.ID)
	if err != nil {
		return nil, unknown(err, "authorization", p.ID)
	}
	account, err := s.cfg.Store.Account(ctx, a.AccountID)
	if err != nil {
		return nil, fmt.Errorf("read account of authorization %s: %w", a.ID, err)
	}
	return new(s.acmeAuthorization(a, account.Thumbprint)), nil
}

// DeactivateACMEAuthorization is POST /v1/acme/authorizations/{id}/deactivate.
func (s *Server) DeactivateACMEAuthorization(
	ctx context.Context, p api.IDRef, _ *api.None,
) (*api.ACMEAuthorization, error) {
	a, err := s.cfg.Store.Authorization(ctx, p.ID)
	if err != nil {
		return nil, unknown(err, "authorization", p.ID)
	}
	ev := s.event(ctx, "authorization.revoked", "success", a.ID)
	ev.Detail, _ = json.Marshal(map[string]string{"identifier": a.Name(), "account": a.AccountID})
	if err := s.cfg.Store.RevokeAuthorization(ctx, a.ID, ev); err != nil && !fault.Is(err, fault.Conflict) {
		return nil, err
	}
	return s.GetACMEAuthorization(ctx, p, nil)
}
