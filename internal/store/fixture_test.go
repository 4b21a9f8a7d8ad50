package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// base is a time with more digits than the stores keep, in another zone.
var base = time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.FixedZone("there", 5*3600))

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("got %v, want %s", err, kind)
	}
}

func wantNotFound(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func event(action string) store.Event {
	return store.Event{At: base, Action: action, Outcome: "ok", Actor: "test", Subject: "thing", RequestID: "r", Detail: []byte(`{"n": 1}`)}
}

func dns(name string) pki.Identifier { return pki.Identifier{Type: pki.DNS, Value: name} }

func newAccount(t testing.TB, s *store.Store) store.Account {
	t.Helper()
	id := store.NewID()
	a := store.Account{ID: id, Endpoint: "default", Thumbprint: "thumb-" + id, JWK: []byte(`{"kty":"EC"}`),
		Contact: []string{"mailto:a@example.test"}, Status: "valid", CreatedAt: base, CreatedFrom: "192.0.2.1"}
	existing, err := s.CreateAccount(context.Background(), a, nil, event("account.created"))
	if err != nil || existing != nil {
		t.Fatal(existing, err)
	}
	return a
}

// newOrder stores an order with one pending authorization for each name.
func newOrder(t testing.TB, s *store.Store, accountID string, expires time.Time, names ...string) store.Order {
	t.Helper()
	o := store.Order{ID: store.NewID(), AccountID: accountID, Endpoint: "default", Profile: "tls-server", Status: "pending", Expires: expires, CreatedAt: base}
	var authz []store.Authorization
	for _, name := range names {
		z := store.Authorization{ID: store.NewID(), AccountID: accountID, Identifier: dns(name), Status: "pending",
			Expires: expires, Token: "token", CreatedAt: base}
		o.Identifiers = append(o.Identifiers, z.Identifier)
		o.AuthorizationIDs = append(o.AuthorizationIDs, z.ID)
		authz = append(authz, z)
	}
	noErr(t, s.CreateOrder(context.Background(), o, authz, nil))
	return o
}

func validate(t testing.TB, s *store.Store, o store.Order) {
	t.Helper()
	ctx := context.Background()
	for _, id := range o.AuthorizationIDs {
		started, err := s.StartChallenge(ctx, id, "http-01", "thumb", base)
		if err != nil || !started {
			t.Fatal(started, err)
		}
		noErr(t, s.FinishChallenge(ctx, id, "http-01", true, nil, []byte(`{}`), base, o.Expires, nil))
	}
}

func newCertificate(origin string, names ...string) store.Certificate {
	c := store.Certificate{ID: store.NewID(), IssuerID: "ca-1", Serial: pki.NewSerial(), Node: "node-1", Profile: "tls-server", ProfileVersion: "v1",
		Protocol: "acme", Endpoint: "default", Requester: "account:1", RequestID: "r1", KeyHash: []byte("0123456789abcdef0123456789abcdef"),
		Subject: "CN=Example", NotBefore: base, NotAfter: base.Add(90 * 24 * time.Hour), TBS: []byte("tbs"), Shard: 3, Lineage: "l", Origin: origin, ReservedAt: base}
	for _, n := range names {
		c.Names = append(c.Names, dns(n))
	}
	return c
}

func issue(t testing.TB, s *store.Store, c store.Certificate) store.Certificate {
	t.Helper()
	noErr(t, s.Reserve(context.Background(), c, nil, event("certificate.intent")))
	noErr(t, s.Complete(context.Background(), c.ID, []byte("der"), base, event("certificate.issued")))
	return c
}

func putIssuer(t testing.TB, s *store.Store, id string) {
	t.Helper()
	noErr(t, s.PutIssuer(context.Background(), store.IssuerRecord{ID: id, Name: "ca", Generation: 1, State: "active", ParentID: "root",
		Certificate: []byte("der"), Subject: "CN=CA", NotAfter: base, CreatedAt: base}))
}

// nodes opens two stores on one database: what they do meets only in its rows.
func nodes(t *testing.T, run func(t *testing.T, one, two *store.Store)) {
	t.Helper()
	for name, url := range map[string]func(testing.TB) string{"sqlite": storetest.SQLiteURL, "postgres": storetest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			dsn := url(t)
			one, two := storetest.Open(t, dsn, "node-1"), storetest.Open(t, dsn, "node-2")
			noErr(t, one.Migrate(context.Background()))
			run(t, one, two)
		})
	}
}

// race calls act many times at once and returns how often it returned nil, and
// the other errors.
func race(times int, act func(i int) error) (won int, lost []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range times {
		all.Go(func() {
			<-start
			err := act(i)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else {
				lost = append(lost, err)
			}
		})
	}
	close(start)
	all.Wait()
	return won, lost
}
