package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestSmoke(t *testing.T) {
	storetest.Each(t, smoke)
}

func smoke(t *testing.T, s *store.Store) {
	ctx := context.Background()
	if err := s.CheckSchema(ctx); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ev := store.Event{At: now, Action: "x"}
	if old, err := s.CreateAccount(ctx, store.Account{ID: "a1", Endpoint: "e", Thumbprint: "t", JWK: []byte("{}"), Status: "valid", CreatedAt: now}, nil, ev); err != nil || old != nil {
		t.Fatal(old, err)
	}
	if old, err := s.CreateAccount(ctx, store.Account{ID: "a2", Endpoint: "e", Thumbprint: "t", JWK: []byte("{}"), Status: "valid", CreatedAt: now}, nil, ev); err != nil || old.ID != "a1" {
		t.Fatal(old, err)
	}
	id := pki.Identifier{Type: pki.DNS, Value: "a.test"}
	o := store.Order{ID: "o1", AccountID: "a1", Endpoint: "e", Status: "pending", Identifiers: []pki.Identifier{id}, AuthorizationIDs: []string{"z1"}, Expires: now.Add(time.Hour), CreatedAt: now}
	z := store.Authorization{ID: "z1", AccountID: "a1", Identifier: id, Status: "pending", Expires: now.Add(time.Hour), Token: "tok", CreatedAt: now}
	if err := s.CreateOrder(ctx, o, []store.Authorization{z}, nil); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.StartChallenge(ctx, "z1", "http-01", "t", now); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := s.FinishChallenge(ctx, "z1", "http-01", true, nil, []byte(`{"a":1}`), now, now.Add(time.Hour), &ev); err != nil {
		t.Fatal(err)
	}
	if err := s.StartFinalize(ctx, "o1", []byte{1}, "n", now); err != nil {
		t.Fatal(err)
	}
	c := store.Certificate{ID: "c1", IssuerID: "i", Serial: pki.NewSerial(), Node: "n", Origin: "order:o1", Names: []pki.Identifier{id}, NotAfter: now.Add(time.Hour), ReservedAt: now, TBS: []byte{1}}
	if err := s.Reserve(ctx, c, nil, ev); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(ctx, "c1", []byte{2}, now, ev); err != nil {
		t.Fatal(err)
	}
	got, zs, err := s.Order(ctx, "o1")
	t.Logf("%+v %+v %v", got, zs, err)
	cs, next, err := s.SearchCertificates(ctx, store.Search{Name: "*.test"})
	t.Logf("%+v %v %v", cs, next, err)
	if err := s.Revoke(ctx, "c1", store.Revocation{Reason: 1, RevokedAt: now}, false, ev); err != nil {
		t.Fatal(err)
	}
	evs, _, err := s.AuditTail(ctx, 10, "")
	t.Logf("%d %v %+v", len(evs), err, s.Stats())
}
