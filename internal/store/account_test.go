package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestACME_A22_CreateAccountReturnsTheExistingOne(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		noErr(t, s.CreateEAB(ctx, store.EABKey{KID: "k", HMAC: []byte{1}, MaxUses: 1, CreatedAt: base}, event("eab.created")))
		at := cut(base)
		a := store.Account{ID: "1", Endpoint: "e", Thumbprint: "t", JWK: []byte(`{"kty": "EC"}`), Contact: []string{"mailto:x@y.test"},
			Status: "valid", TermsAgreedAt: &at, EABKID: "k", CreatedAt: at, CreatedFrom: "192.0.2.1"}
		claim := &store.Claim{Kind: "eab", ID: "k"}
		existing, err := s.CreateAccount(ctx, a, claim, event("account.created"))
		if err != nil || existing != nil {
			t.Fatal(existing, err)
		}
		again := a
		again.ID = "2"
		existing, err = s.CreateAccount(ctx, again, claim, event("account.created")) // the claim is used up, but not needed
		noErr(t, err)
		if diff := cmp.Diff(&a, existing); diff != "" {
			t.Errorf("existing (-want +got):\n%s", diff)
		}
		other := a
		other.ID, other.Thumbprint = "3", "t3"
		_, err = s.CreateAccount(ctx, other, claim, event("account.created"))
		wantKind(t, err, fault.Denied)
		_, err = s.Account(ctx, "3")
		wantNotFound(t, err)
		_, err = s.AccountByThumbprint(ctx, "other", "t")
		wantNotFound(t, err)
		if heads, err := s.AuditHeads(ctx); err != nil || heads[0].Seq != 2 {
			t.Errorf("audit heads %v, %v: want the key's and the account's creation", heads, err)
		}
	})
}

func TestUpdateAccount(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		o := newOrder(t, s, a.ID, base.Add(time.Hour), "a.test", "b.test")
		valid := store.Order{ID: "x", AuthorizationIDs: o.AuthorizationIDs[:1], Expires: o.Expires}
		validate(t, s, valid)
		contact := []string{"mailto:new@example.test"}
		noErr(t, s.UpdateAccount(ctx, a.ID, &contact, false, event("account.updated")))
		noErr(t, s.UpdateAccount(ctx, a.ID, nil, true, event("account.updated")))
		wantKind(t, s.UpdateAccount(ctx, a.ID, nil, true, event("x")), fault.Conflict)
		wantKind(t, s.UpdateAccount(ctx, a.ID, &contact, true, event("x")), fault.Conflict)
		got, err := s.Account(ctx, a.ID)
		noErr(t, err)
		if got.Status != "deactivated" || !cmp.Equal(got.Contact, contact) {
			t.Errorf("account %+v", got)
		}
		_, authz, err := s.Order(ctx, o.ID)
		noErr(t, err)
		if authz[0].Status != "valid" || authz[1].Status != "deactivated" {
			t.Errorf("authorizations are %s and %s", authz[0].Status, authz[1].Status)
		}
		wantKind(t, s.CreateOrder(ctx, store.Order{ID: "late", AccountID: a.ID, Status: "pending"}, nil, nil), fault.Denied)
		wantKind(t, s.ChangeAccountKey(ctx, a.ID, a.Thumbprint, "new", []byte(`{}`), event("x")), fault.Conflict)
	})
}

func TestACME_A30_ChangeAccountKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a, b := newAccount(t, s), newAccount(t, s)
		wantKind(t, s.ChangeAccountKey(ctx, a.ID, a.Thumbprint, b.Thumbprint, []byte(`{}`), event("x")), fault.Conflict)
		noErr(t, s.ChangeAccountKey(ctx, a.ID, a.Thumbprint, "new", []byte(`{"new":1}`), event("account.key_changed")))
		wantKind(t, s.ChangeAccountKey(ctx, a.ID, a.Thumbprint, "newer", []byte(`{}`), event("x")), fault.Conflict)
		_, err := s.AccountByThumbprint(ctx, a.Endpoint, a.Thumbprint)
		wantNotFound(t, err)
		got, err := s.AccountByThumbprint(ctx, a.Endpoint, "new")
		if err != nil || got.ID != a.ID || string(got.JWK) != `{"new":1}` {
			t.Errorf("account by its new key: %+v, %v", got, err)
		}
	})
}

func TestACME_A5_NoncesAreSpentOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		soon := base.Add(time.Hour)
		noErr(t, s.SpendNonce(ctx, []byte("n1"), soon))
		wantKind(t, s.SpendNonce(ctx, []byte("n1"), soon), fault.BadNonce)
		got, _, err := s.AccountAndNonce(ctx, a.ID, []byte("n2"), soon, pki.KeyHash{})
		if err != nil || got.ID != a.ID {
			t.Fatal(got, err)
		}
		_, _, err = s.AccountAndNonce(ctx, a.ID, []byte("n2"), soon, pki.KeyHash{})
		wantKind(t, err, fault.BadNonce)
		_, _, err = s.AccountAndNonce(ctx, "none", []byte("n3"), soon, pki.KeyHash{})
		wantNotFound(t, err)
		_, _, err = s.AccountAndNonce(ctx, "none", []byte("n3"), soon, pki.KeyHash{})
		// Spent although there was no account.
		wantKind(t, err, fault.BadNonce)
		if _, err := s.Purge(ctx, soon.Add(time.Second), 2); err != nil {
			t.Fatal(err)
		}
		noErr(t, s.SpendNonce(ctx, []byte("n1"), soon)) // its MAC has expired by then
	})
}

func TestEABKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		at := cut(base)
		k := store.EABKey{KID: "k2", HMAC: []byte("sealed"), Description: "d", Endpoint: "e", Profiles: []string{"p"},
			Binding: pki.Binding{Names: []string{"*.x"}},
			MaxUses: 2, ExpiresAt: &at, CreatedBy: "uid:0", CreatedAt: at}
		noErr(t, s.CreateEAB(ctx, k, event("eab.created")))
		wantKind(t, s.CreateEAB(ctx, k, event("eab.created")), fault.Conflict)
		got, err := s.EAB(ctx, "k2")
		noErr(t, err)
		if diff := cmp.Diff(&k, got); diff != "" {
			t.Errorf("key (-want +got):\n%s", diff)
		}
		for _, kid := range []string{"k1", "k3"} {
			noErr(t, s.CreateEAB(ctx, store.EABKey{KID: kid, HMAC: []byte{1}, CreatedAt: base}, event("eab.created")))
		}
		page, err := s.EABs(ctx, "k1", 1)
		if err != nil || len(page) != 1 || page[0].KID != "k2" {
			t.Errorf("page %+v, %v", page, err)
		}
		noErr(t, s.DisableEAB(ctx, "k1", base, event("eab.disabled")))
		wantKind(t, s.DisableEAB(ctx, "k1", base, event("eab.disabled")), fault.Conflict)
		wantKind(t, s.DisableEAB(ctx, "none", base, event("eab.disabled")), fault.Conflict)
		for _, kid := range []string{"k1" /* disabled */, "k2" /* expired */, "none"} {
			c := newCertificate("order:1")
			c.ReservedAt = base.Add(time.Second)
			wantKind(t, s.Reserve(ctx, c, []store.Claim{{Kind: "eab", ID: kid}}, event("x")), fault.Denied)
		}
		_, err = s.EAB(ctx, "none")
		wantNotFound(t, err)
	})
}
