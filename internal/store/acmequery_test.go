package store_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// TestFS18_AccountsAreFoundAndEnded: an operator finds what a stolen account has by any of
// its marks, and ends it.
func TestFS18_AccountsAreFoundAndEnded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		var accounts [3]store.Account
		for i := range accounts {
			id := store.NewID()
			accounts[i] = store.Account{
				ID: id, Endpoint: []string{"web", "web", "vpn"}[i], Thumbprint: id, JWK: []byte(`{}`), Status: "valid",
				CreatedAt:   base,
				EABKID:      []string{"", "team", "team"}[i],
				CreatedFrom: []string{"192.0.2.1", "192.0.2.2", "192.0.2.2"}[i],
			}
			_, err := s.CreateAccount(ctx, accounts[i], nil, event("account.created"))
			noErr(t, err)
		}
		pending := newOrder(t, s, accounts[1].ID, base.Add(time.Hour), "a.test")
		done := newOrder(t, s, accounts[1].ID, base.Add(time.Hour), "b.test")
		validate(t, s, done)
		late := newOrder(t, s, accounts[2].ID, base.Add(time.Minute), "c.test")
		type ids = []string
		for name, c := range map[string]struct {
			q                        store.ACMEQuery
			accounts, orders, authzs ids
		}{
			"all": {store.ACMEQuery{}, ids{accounts[0].ID, accounts[1].ID, accounts[2].ID},
				ids{pending.ID, done.ID, late.ID},
				slices.Concat(pending.AuthorizationIDs, done.AuthorizationIDs, late.AuthorizationIDs)},
			"key": {store.ACMEQuery{EABKID: "team", Endpoint: "web"}, ids{accounts[1].ID}, ids{pending.ID, done.ID},
				slices.Concat(pending.AuthorizationIDs, done.AuthorizationIDs)},
			"address": {store.ACMEQuery{Address: "192.0.2.1"}, ids{accounts[0].ID}, nil, nil},
			"after":   {store.ACMEQuery{After: "zz"}, nil, nil, nil},
			"name": {store.ACMEQuery{Name: "A.test"}, ids{accounts[1].ID}, ids{pending.ID},
				pending.AuthorizationIDs},
			"account": {store.ACMEQuery{Account: accounts[2].ID}, ids{accounts[2].ID}, ids{late.ID},
				late.AuthorizationIDs},
			"page":     {store.ACMEQuery{Limit: 1}, ids{accounts[0].ID}, ids{pending.ID}, pending.AuthorizationIDs},
			"wildcard": {store.ACMEQuery{Name: "*.a.test"}, nil, nil, nil},
			"pending": {store.ACMEQuery{Status: "pending", Now: base.Add(10 * time.Minute)}, nil, ids{pending.ID},
				pending.AuthorizationIDs},
			"ready": {store.ACMEQuery{Status: "ready", Now: base.Add(10 * time.Minute)}, nil, ids{done.ID}, nil},
			"expired": {store.ACMEQuery{Status: "expired", Now: base.Add(10 * time.Minute)}, nil, nil,
				late.AuthorizationIDs},
			"invalid": {store.ACMEQuery{Status: "invalid", Now: base.Add(10 * time.Minute)}, nil, ids{late.ID}, nil},
		} {
			got, err := s.Accounts(ctx, c.q)
			noErr(t, err)
			same(t, name+": accounts", got, func(a store.Account) string { return a.ID }, c.accounts)
			orders, err := s.Orders(ctx, c.q)
			noErr(t, err)
			same(t, name+": orders", orders, func(o store.ACMEOrder) string { return o.ID }, c.orders)
			authzs, err := s.Authorizations(ctx, c.q)
			noErr(t, err)
			same(t, name+": authorizations", authzs, func(a store.Authorization) string { return a.ID }, c.authzs)
		}
		noErr(t, s.RevokeAccount(ctx, &accounts[1], nil, event("account.revoked")))
		wantKind(t, s.RevokeAccount(ctx, &accounts[1], nil, event("account.revoked")), fault.Conflict)
		wantKind(t, s.UpdateAccount(ctx, accounts[1].ID, nil, true, event("account.deactivated")), fault.Conflict)
		left, err := s.Authorizations(ctx, store.ACMEQuery{Account: accounts[1].ID})
		noErr(t, err)
		for _, a := range left {
			if a.Status != "revoked" {
				t.Errorf("authorization %+v", a)
			}
		}
		orders, err := s.Orders(ctx, store.ACMEQuery{Account: accounts[1].ID, Status: "invalid", Now: base})
		noErr(t, err)
		same(t, "orders that ended", orders, func(o store.ACMEOrder) string { return o.ID }, ids{pending.ID, done.ID})
		if o, _, err := s.Order(ctx, late.ID); err != nil || o.Status != "pending" {
			t.Errorf("another account's order is %+v, %v", o, err)
		}
	})
}

func same[T any](t *testing.T, what string, got []T, id func(T) string, want []string) {
	t.Helper()
	var ids []string
	for _, g := range got {
		ids = append(ids, id(g))
	}
	slices.Sort(ids)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(ids, want) {
		t.Errorf("%s: %q, want %q", what, ids, want)
	}
}
