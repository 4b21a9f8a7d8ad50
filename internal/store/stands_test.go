package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// processing stores an order that is being finalized.
func processing(t *testing.T, s *store.Store, names ...string) (store.Account, store.Order) {
	t.Helper()
	a := newAccount(t, s)
	o := newOrder(t, s, a.ID, base.Add(time.Hour), names...)
	validate(t, s, o)
	noErr(t, s.StartFinalize(context.Background(), o.ID, []byte("csr"), "node-1", base))
	return a, o
}

func TestFS8_ReservationNeedsAnOrderThatStands(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		for name, c := range map[string]struct {
			change func(a store.Account, o store.Order) error
			stands bool
		}{
			"nothing changed": {func(store.Account, store.Order) error { return nil }, true},
			"account": {func(a store.Account, _ store.Order) error {
				return s.UpdateAccount(ctx, a.ID, nil, true, event("account.deactivated"))
			}, false},
			"first authorization": {func(_ store.Account, o store.Order) error {
				return s.DeactivateAuthorization(ctx, o.AuthorizationIDs[0], event("x"))
			}, false},
			"last authorization": {func(_ store.Account, o store.Order) error {
				return s.DeactivateAuthorization(ctx, o.AuthorizationIDs[1], event("x"))
			}, false},
			"order": {func(_ store.Account, o store.Order) error { return s.FailOrder(ctx, o.ID, nil, nil) }, false},
		} {
			a, o := processing(t, s, "a.test", "b.test")
			noErr(t, c.change(a, o))
			cert := newCertificate("order:"+o.ID, "a.test", "b.test")
			err := s.ReserveFor(ctx, cert, store.Reservation{While: &store.OrderStands{ID: o.ID, Bound: true}},
				event("certificate.intent"))
			if c.stands && err != nil || !c.stands && !store.HasCeased(err) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := s.CertificateByOrigin(ctx, cert.Origin); (err == nil) != c.stands {
				t.Errorf("%s: reserved %t", name, err == nil)
			}
		}
		_, o := processing(t, s, "late.test")
		cert := newCertificate("order:"+o.ID, "late.test")
		cert.ReservedAt = base.Add(time.Hour) // when its authorization ends
		err := s.ReserveFor(ctx, cert, store.Reservation{While: &store.OrderStands{ID: o.ID}}, event("certificate.intent"))
		if !store.HasCeased(err) {
			t.Errorf("expired: %v", err)
		}
	})
}

// A deactivation that another node has begun is waited for: what it says holds
// for the reservation.
func TestFS8_ReservationWaitsForAnotherNode(t *testing.T) {
	for name, sql := range map[string]string{
		"account":       `UPDATE accounts SET status = 'deactivated' WHERE status = 'valid'`,
		"authorization": `UPDATE authorizations SET status = 'deactivated' WHERE status = 'valid'`,
	} {
		t.Run(name, func(t *testing.T) {
			url := storetest.PostgresURL(t)
			s := storetest.Open(t, url, "node-1")
			ctx := context.Background()
			putIssuer(t, s, "ca-1")
			_, o := processing(t, s, "a.test")
			// That it has begun can be told by its advisory lock.
			other := make(chan struct{})
			go func() {
				defer close(other)
				storetest.Exec(t, url, `BEGIN; `+sql+`; SELECT pg_advisory_lock(8); SELECT pg_sleep(0.5); COMMIT`)
			}()
			for storetest.Count(t, url, `SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8 AND granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 0 {
				time.Sleep(5 * time.Millisecond) // polling a condition
			}
			err := s.ReserveFor(ctx, newCertificate("order:"+o.ID, "a.test"),
				store.Reservation{While: &store.OrderStands{ID: o.ID}}, event("certificate.intent"))
			if !store.HasCeased(err) {
				t.Errorf("while another node deactivates: %v", err)
			}
			<-other
		})
	}
}

// TestFS7_ReservationNeedsItsHolder: a revocation that was committed before the
// reservation holds for it.
func TestFS7_ReservationNeedsItsHolder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		held := newCertificate("request:held", "a.test")
		noErr(t, s.Reserve(ctx, held, nil, event("certificate.intent")))
		noErr(t, s.Complete(ctx, held.ID, []byte("der"), base, event("certificate.issued")))
		reserve := func(origin string, holders ...string) error {
			cert := newCertificate(origin, "a.test")
			return s.ReserveFor(ctx, cert, store.Reservation{Holders: holders}, event("certificate.intent"))
		}
		noErr(t, reserve("request:1", held.ID))
		if err := reserve("request:2", "nobody"); !fault.Is(err, fault.Denied) {
			t.Errorf("not on record: %v", err)
		}
		hold := store.Revocation{Reason: pki.CertificateHold, RevokedAt: base}
		noErr(t, s.Revoke(ctx, held.ID, hold, false, event("x")))
		err := reserve("request:3", held.ID)
		if !fault.Is(err, fault.Denied) || fault.Of(err).Reason != "certificate_revoked" {
			t.Errorf("on hold: %v", err)
		}
		noErr(t, s.Release(ctx, held.ID, base, event("x")))
		noErr(t, reserve("request:4", held.ID))
	})
}

// TestFS7_CheckClaim says what Reserve would refuse, before anything is reserved.
func TestFS7_CheckClaim(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, later := context.Background(), base.Add(time.Hour)
		putIssuer(t, s, "ca-1")
		for _, u := range []store.ESTUser{
			{Name: "good", MaxUses: 1}, {Name: "forever"}, {Name: "used", MaxUses: 1, Uses: 1},
			{Name: "late", ExpiresAt: &later}, {Name: "gone"},
		} {
			u.CreatedAt, u.Digest = base, []byte(u.Name)
			noErr(t, s.CreateESTUser(ctx, u, event("x")))
		}
		noErr(t, s.DisableESTUser(ctx, "gone", base, event("x")))
		for name, want := range map[string]string{
			"good": "", "forever": "", "used": "est_user_used_up", "late": "est_user_expired",
			"gone": "est_user_disabled", "nobody": "est_user_unknown",
		} {
			claim := store.Claim{Kind: "est_user", ID: name}
			err := s.CheckClaim(ctx, claim, later)
			if got := fault.Of(err); want == "" && err != nil || want != "" && (err == nil || got.Reason != want) {
				t.Errorf("%s: %v, want the reason %q", name, err, want)
			}
			cert := newCertificate("request:"+name, "a.test")
			cert.ReservedAt = later
			if err := s.Reserve(ctx, cert, []store.Claim{claim}, event("x")); (err == nil) != (want == "") {
				t.Errorf("%s: reserved: %v", name, err)
			}
		}
	})
}
