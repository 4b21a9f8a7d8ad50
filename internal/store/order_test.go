package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestOrderRoundTrip(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		at, until := cut(base), cut(base.Add(time.Hour))
		z := store.Authorization{ID: "z", AccountID: a.ID, Identifier: dns("x.test"), Wildcard: true, Status: "pending", Expires: until, Token: "tok", CreatedAt: at}
		want := store.Order{ID: "o", AccountID: a.ID, Endpoint: "e", Profile: "p", Replaces: "cert", Identifiers: []pki.Identifier{dns("*.x.test")},
			AuthorizationIDs: []string{"z"}, NotBefore: &at, NotAfter: &until, Status: "pending", Expires: until, CreatedAt: at}
		ev := event("order.created")
		noErr(t, s.CreateOrder(ctx, want, []store.Authorization{z}, &ev))
		got, authz, err := s.Order(ctx, "o")
		noErr(t, err)
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]store.Authorization{z}, authz); diff != "" {
			t.Errorf("authorizations (-want +got):\n%s", diff)
		}
		_, _, err = s.Order(ctx, "none")
		wantNotFound(t, err)
		wantKind(t, s.CreateOrder(ctx, want, nil, nil), fault.Conflict) // the id is taken
		want.ID, want.AccountID = "o2", "nobody"
		wantKind(t, s.CreateOrder(ctx, want, nil, nil), fault.Denied)
	})
}

// One order replaces a certificate, however many ask at once and on whichever
// node; another takes its place only by naming it (RFC 9773, section 5).
func TestACME_A64_OneOrderReplaces(t *testing.T) {
	nodes(t, func(t *testing.T, one, two *store.Store) {
		ctx, a := t.Context(), newAccount(t, one)
		expires := time.Now().Add(time.Hour)
		try := func(s *store.Store, id, inPlaceOf string) error {
			return s.CreateOrder(ctx, store.Order{
				ID: id, AccountID: a.ID, Endpoint: "default", Profile: "tls-server", Status: "pending", Replaces: "aki.serial", InPlaceOf: inPlaceOf,
				Identifiers: []pki.Identifier{dns("a.test")}, Expires: expires, CreatedAt: time.Now(),
			}, nil, nil)
		}
		for _, former := range []string{"", "taken"} { // the second time the first order has come to nothing
			if former != "" {
				var err error
				former, err = one.Replacement(ctx, "aki.serial")
				noErr(t, err)
			}
			won, lost := race(8, func(i int) error { return try([]*store.Store{one, two}[i%2], store.NewID(), former) })
			if won != 1 {
				t.Fatalf("%d orders replace the certificate: %v", won, lost)
			}
			for _, err := range lost {
				wantKind(t, err, fault.AlreadyReplaced)
			}
		}
		current, err := two.Replacement(ctx, "aki.serial")
		noErr(t, err)
		_, err = one.PurgeStep(ctx, expires.Add(time.Minute), 100)
		noErr(t, err)
		_, err = one.Replacement(ctx, "aki.serial")
		wantNotFound(t, err) // it went with its order
		noErr(t, try(one, store.NewID(), current))
	})
}

func TestOrderOfManyNames(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		var names []string
		for i := range 101 {
			names = append(names, fmt.Sprintf("n%03d.test", i))
		}
		o := newOrder(t, s, a.ID, base.Add(time.Hour), names...)
		got, authz, err := s.Order(ctx, o.ID)
		noErr(t, err)
		if !cmp.Equal(got.AuthorizationIDs, o.AuthorizationIDs) || len(authz) != 101 {
			t.Fatalf("%d authorizations, or in another order", len(authz))
		}
		for i, z := range authz {
			if z.Identifier.Value != names[i] {
				t.Fatalf("authorization %d is for %s", i, z.Identifier.Value)
			}
		}
	})
}

func TestACME_A40_FinalizeNeedsEveryAuthorization(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		until := base.Add(time.Hour)
		finalize := func(o store.Order, at time.Time) error {
			return s.StartFinalize(ctx, o.ID, []byte("csr"), "node-1", at)
		}
		ready := newOrder(t, s, a.ID, until, "a.test", "b.test")
		wantKind(t, finalize(ready, base), fault.NotReady)
		validate(t, s, store.Order{AuthorizationIDs: ready.AuthorizationIDs[:1], Expires: until})
		wantKind(t, finalize(ready, base), fault.NotReady)
		validate(t, s, store.Order{AuthorizationIDs: ready.AuthorizationIDs[1:], Expires: until})
		wantKind(t, finalize(ready, until), fault.NotReady) // expired
		noErr(t, finalize(ready, base))
		wantKind(t, finalize(ready, base), fault.NotReady) // processing

		late := newOrder(t, s, a.ID, until, "late.test")
		for _, id := range late.AuthorizationIDs {
			if _, err := s.StartChallenge(ctx, id, "http-01", "t", base); err != nil {
				t.Fatal(err)
			}
			noErr(t, s.FinishChallenge(ctx, id, "http-01", true, nil, nil, base, base.Add(time.Minute), nil))
		}
		wantKind(t, finalize(late, base.Add(time.Minute)), fault.NotReady) // its authorization has expired

		taken := newOrder(t, s, a.ID, until, "taken.test")
		validate(t, s, taken)
		noErr(t, s.DeactivateAuthorization(ctx, taken.AuthorizationIDs[0], event("authorization.deactivated")))
		wantKind(t, finalize(taken, base), fault.NotReady)
		wantKind(t, s.DeactivateAuthorization(ctx, taken.AuthorizationIDs[0], event("x")), fault.Conflict)

		none := newOrder(t, s, a.ID, until)
		wantKind(t, finalize(none, base), fault.NotReady)
		lost := store.Order{ID: "lost", AccountID: a.ID, Status: "pending", AuthorizationIDs: []string{"no such"}, Expires: until, CreatedAt: base}
		noErr(t, s.CreateOrder(ctx, lost, nil, nil))
		wantKind(t, finalize(lost, base), fault.NotReady)
		wantKind(t, finalize(store.Order{ID: "none"}, base), fault.NotReady)
	})
}

func TestOrderIsValidByItsCertificate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		o := newOrder(t, s, a.ID, base.Add(time.Hour), "a.test")
		validate(t, s, o)
		noErr(t, s.StartFinalize(ctx, o.ID, []byte("csr"), "node-1", base))
		certificate := func() string {
			got, _, err := s.Order(ctx, o.ID)
			noErr(t, err)
			if string(got.CSR) != "csr" || got.Node != "node-1" || !got.ProcessingAt.Equal(cut(base)) {
				t.Errorf("order %+v", got)
			}
			return got.CertificateID
		}
		c := newCertificate("order:"+o.ID, "a.test")
		noErr(t, s.Reserve(ctx, c, nil, event("certificate.intent")))
		if id := certificate(); id != "" {
			t.Errorf("a reservation made the order valid with %s", id)
		}
		noErr(t, s.Complete(ctx, c.ID, []byte("der"), base, event("certificate.issued")))
		if id := certificate(); id != c.ID {
			t.Errorf("certificate %q, want %q", id, c.ID)
		}
		wantKind(t, s.FailOrder(ctx, o.ID, []byte(`{}`), nil), fault.Conflict)
		if left, err := s.ProcessingOrders(ctx, "", base.Add(time.Hour)); err != nil || len(left) != 0 {
			t.Errorf("still processing: %v, %v", left, err)
		}
	})
}

func TestProcessingOrders(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		var orders []store.Order
		for i, node := range []string{"node-1", "node-2", "node-1"} {
			o := newOrder(t, s, a.ID, base.Add(time.Hour), "a.test")
			validate(t, s, o)
			noErr(t, s.StartFinalize(ctx, o.ID, []byte("csr"), node, base.Add(time.Duration(i)*time.Minute)))
			orders = append(orders, o)
		}
		mine, err := s.ProcessingOrders(ctx, "node-1", base.Add(time.Hour))
		if err != nil || len(mine) != 2 || mine[0].ID != orders[0].ID {
			t.Fatalf("%v, %v", mine, err)
		}
		all, err := s.ProcessingOrders(ctx, "", base.Add(90*time.Second))
		if err != nil || len(all) != 2 {
			t.Fatalf("%v, %v", all, err)
		}
		noErr(t, s.TakeOrder(ctx, all[1], "node-1", base.Add(2*time.Hour)))
		wantKind(t, s.TakeOrder(ctx, all[1], "node-3", base.Add(2*time.Hour)), fault.Conflict)
		ev := event("order.failed")
		noErr(t, s.FailOrder(ctx, orders[0].ID, []byte(`{"type":"x"}`), &ev))
		wantKind(t, s.FailOrder(ctx, orders[0].ID, nil, nil), fault.Conflict)
		wantKind(t, s.TakeOrder(ctx, mine[0], "node-3", base), fault.Conflict)
		failed, _, err := s.Order(ctx, orders[0].ID)
		if err != nil || failed.Status != "invalid" || string(failed.Error) != `{"type":"x"}` {
			t.Errorf("failed order %+v, %v", failed, err)
		}
	})
}

func TestACME_A29_OrdersOfAnAccount(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a, other := newAccount(t, s), newAccount(t, s)
		var want []string
		for range 5 {
			want = append(want, newOrder(t, s, a.ID, base.Add(time.Hour), "a.test").ID)
			newOrder(t, s, other.ID, base.Add(time.Hour), "a.test")
		}
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page, err := s.OrdersByAccount(ctx, a.ID, after, base, 2)
			noErr(t, err)
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
		}
		if len(got) != 5 {
			t.Errorf("orders %v, want %v", got, want)
		}
	})
}

func TestCountPendingAndReuse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a, other := newAccount(t, s), newAccount(t, s)
		until := time.Now().Add(time.Hour)
		o := newOrder(t, s, a.ID, until, "a.test", "b.test", "c.test")
		newOrder(t, s, a.ID, time.Now().Add(-time.Second), "expired.test")
		stranger := newOrder(t, s, other.ID, until, "b.test")
		validate(t, s, stranger)
		validate(t, s, store.Order{AuthorizationIDs: o.AuthorizationIDs[:1], Expires: until})
		p, err := s.CountPending(ctx, a.ID, time.Now())
		if err != nil || p.Orders != 1 || p.Authorizations != 2 {
			t.Errorf("pending %+v, %v; want 1 order and 2 authorizations", p, err)
		}
		names := []store.AuthorizationName{{Identifier: dns("a.test")}, {Identifier: dns("b.test")}, {Identifier: dns("a.test"), Wildcard: true}}
		reusable, err := s.ReusableAuthorizations(ctx, a.ID, names, until.Add(-time.Minute))
		if err != nil || len(reusable) != 1 || reusable[0].ID != o.AuthorizationIDs[0] {
			t.Errorf("reusable %+v, %v", reusable, err)
		}
		if late, err := s.ReusableAuthorizations(ctx, a.ID, names, until); err != nil || len(late) != 0 {
			t.Errorf("reusable beyond their end: %+v, %v", late, err)
		}
		if none, err := s.ReusableAuthorizations(ctx, a.ID, nil, until); err != nil || len(none) != 0 {
			t.Errorf("reusable for no names: %+v, %v", none, err)
		}
	})
}

func TestACME_A39_Challenges(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		o := newOrder(t, s, a.ID, base.Add(time.Hour), "a.test", "b.test")
		id := o.AuthorizationIDs[0]
		start := func(typ string, at time.Time) bool {
			started, err := s.StartChallenge(ctx, id, typ, "thumb", at)
			noErr(t, err)
			return started
		}
		if start("http-01", base.Add(time.Hour)) {
			t.Error("an expired authorization was started")
		}
		wantKind(t, s.RetryChallenge(ctx, id, 1, base, nil, nil), fault.Conflict) // nothing was attempted
		if !start("http-01", base) || start("http-01", base) || start("dns-01", base) {
			t.Error("want one start, the first")
		}
		due := func(at time.Time) int {
			found, err := s.PendingChallenges(ctx, at, 10)
			noErr(t, err)
			return len(found)
		}
		if due(base.Add(-time.Second)) != 0 || due(base) != 1 {
			t.Error("the attempt is not due when it should be")
		}
		claim := func(now time.Time) bool {
			claimed, err := s.ClaimChallenge(ctx, id, now, now.Add(30*time.Second))
			noErr(t, err)
			return claimed
		}
		if !claim(base) || claim(base.Add(time.Second)) {
			t.Error("want one claim, the first")
		}
		noErr(t, s.RetryChallenge(ctx, id, 1, base.Add(2*time.Second), []byte(`{"n":1}`), []byte(`{"at":1}`)))
		if !claim(base.Add(2 * time.Second)) {
			t.Error("a retry cannot be claimed when it is due")
		}
		ev := event("authorization.valid")
		wantKind(t, s.FinishChallenge(ctx, id, "dns-01", true, nil, nil, base, base, nil), fault.Conflict)
		noErr(t, s.FinishChallenge(ctx, id, "http-01", true, nil, []byte(`{"ip":"127.0.0.1"}`), base, base.Add(24*time.Hour), &ev))
		wantKind(t, s.FinishChallenge(ctx, id, "http-01", false, nil, nil, base, base, nil), fault.Conflict)
		wantKind(t, s.RetryChallenge(ctx, id, 2, base, nil, nil), fault.Conflict)
		got, err := s.Authorization(ctx, id)
		noErr(t, err)
		at := cut(base)
		want := &store.Authorization{ID: id, AccountID: a.ID, Identifier: dns("a.test"), Status: "valid", Expires: cut(base.Add(24 * time.Hour)), Token: "token",
			Attempted: "http-01", Attempts: 1, Thumbprint: "thumb", ValidatedAt: &at, Record: []byte(`{"ip":"127.0.0.1"}`), CreatedAt: at}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("authorization (-want +got):\n%s", diff)
		}
		id = o.AuthorizationIDs[1]
		if !start("dns-01", base) {
			t.Fatal("not started")
		}
		noErr(t, s.FinishChallenge(ctx, id, "dns-01", false, []byte(`{"type":"dns"}`), nil, base, base.Add(time.Hour), nil))
		if got, err := s.Authorization(ctx, id); err != nil || got.Status != "invalid" || got.ValidatedAt != nil || string(got.Error) != `{"type":"dns"}` {
			t.Errorf("failed authorization %+v, %v", got, err)
		}
		_, err = s.Authorization(ctx, "none")
		wantNotFound(t, err)
	})
}
