package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestPurgeTakesWhatIsOverAndNothingElse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		old, live := newOrder(t, s, a.ID, base, "a.test", "b.test"), newOrder(t, s, a.ID, base.Add(2*time.Hour), "c.test")
		validate(t, s, store.Order{AuthorizationIDs: live.AuthorizationIDs, Expires: base}) // expires before its order
		done := newOrder(t, s, a.ID, base.Add(2*time.Hour), "d.test")
		expired := newCertificate("order:"+done.ID, "d.test")
		expired.NotAfter = base
		issue(t, s, expired)
		gone := newCertificate("request:1")
		gone.NotAfter = base
		issue(t, s, gone)
		still := issue(t, s, newCertificate("request:2"))
		if _, _, err := s.UpdateLimit(ctx, "old", base, time.Second, 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.UpdateLimit(ctx, "busy", base, 2*time.Hour, 0); err != nil {
			t.Fatal(err)
		}
		got, err := s.Purge(ctx, base.Add(time.Hour), 500)
		want := store.Purged{Orders: 1, Authorizations: 2, Limits: 1, Origins: 1}
		if err != nil || got != want {
			t.Errorf("purged %+v, %v; want %+v", got, err, want)
		}
		_, _, err = s.Order(ctx, old.ID)
		wantNotFound(t, err)
		_, err = s.CertificateByOrigin(ctx, "request:1")
		wantNotFound(t, err)
		// The order outlives its certificate here, and is valid to its end.
		if o, authz, err := s.Order(ctx, done.ID); err != nil || o.CertificateID != expired.ID || len(authz) != 1 {
			t.Errorf("order %+v, %v", o, err)
		}
		if _, authz, err := s.Order(ctx, live.ID); err != nil || len(authz) != 1 {
			t.Errorf("a live order lost its authorization: %v", err)
		}
		if _, err := s.CertificateByID(ctx, gone.ID); err != nil {
			t.Errorf("the certificate itself stays: %v", err)
		}
		if _, err := s.CertificateByOrigin(ctx, still.Origin); err != nil {
			t.Error(err)
		}
		got, err = s.Purge(ctx, base.Add(3*time.Hour), 500)
		want = store.Purged{Orders: 2, Authorizations: 2, Limits: 1, Origins: 1}
		if err != nil || got != want {
			t.Errorf("later purged %+v, %v; want %+v", got, err, want)
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Purge(cancelled, base, 0); err == nil {
			t.Error("a cancelled purge says that it is done")
		}
	})
}

// TestPurgeGoesOnPastAKindThatFails: the first kind cannot be deleted, and the ones
// behind it are, of more than a batch.
func TestPurgeGoesOnPastAKindThatFails(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		newOrder(t, s, a.ID, base, "a.test")
		refuse := []string{`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN RAISE EXCEPTION ''no order may go''; END'`,
			`CREATE TRIGGER keep BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION refuse()`}
		if strings.HasPrefix(url, "sqlite:") {
			refuse = []string{`CREATE TRIGGER keep BEFORE DELETE ON orders BEGIN
				SELECT RAISE(ABORT, 'no order may go'); END`}
		}
		storetest.Exec(t, url, refuse...)
		for i := range 5 {
			if _, _, err := s.UpdateLimit(ctx, fmt.Sprint("old ", i), base, time.Second, 0); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Purge(ctx, base.Add(time.Hour), 2)
		if err == nil || got != (store.Purged{Limits: 5}) {
			t.Errorf("purged %+v, %v; want 5 limits and an error", got, err)
		}
	})
}

// TestPurgeOfManyOrders purges 50,000 expired orders while callers write.
func TestPurgeOfManyOrders(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		const orders = 50_000
		ctx := context.Background()
		a := newAccount(t, s)
		seedOrders(t, url, a.ID, orders)
		writing, stop := context.WithCancel(ctx)
		var waits []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; writing.Err() == nil; i++ {
				began := time.Now()
				o := newOrder(t, s, a.ID, time.Now().Add(time.Hour), "live.test")
				validate(t, s, o)
				issue(t, s, newCertificate("order:"+o.ID, "live.test"))
				waits = append(waits, time.Since(began))
			}
		}()
		var steps []time.Duration
		var total int64
		began := time.Now()
		for {
			step := time.Now()
			p, err := s.PurgeStep(ctx, time.Now(), 500)
			noErr(t, err)
			steps = append(steps, time.Since(step))
			total += p.Orders
			if p.Orders+p.Authorizations == 0 {
				break
			}
		}
		took := time.Since(began)
		stop()
		<-done
		slices.Sort(steps)
		slices.Sort(waits)
		t.Logf("%d orders in %s: a step of 500 takes %s in the middle, %s at most; %d issuances meanwhile (7 commits each), %s in the middle, %s at most",
			total, took.Round(time.Millisecond), steps[len(steps)/2].Round(time.Microsecond), steps[len(steps)-1].Round(time.Microsecond),
			len(waits), waits[len(waits)/2].Round(time.Microsecond), waits[len(waits)-1].Round(time.Microsecond))
		if total != orders {
			t.Errorf("purged %d orders, want %d", total, orders)
		}
		if left, err := s.OrdersByAccount(ctx, a.ID, "", time.Unix(0, 0), orders); err != nil || len(left) != len(waits) {
			t.Errorf("%d orders are left, %v; want %d", len(left), err, len(waits))
		}
	})
}

// seedOrders fills a database with expired orders of one authorization each.
func seedOrders(t *testing.T, url, account string, n int) {
	t.Helper()
	series, at := `generate_series(1, `+fmt.Sprint(n)+`) AS g(i)`, `timestamptz '2020-01-01'`
	if url[:7] == "sqlite:" {
		series, at = `(WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM g WHERE i < `+fmt.Sprint(n)+`) SELECT i FROM g)`, `1577836800000000`
	}
	storetest.Exec(t, url,
		`INSERT INTO orders (id, account_id, endpoint, profile, replaces, identifiers, status, node, expires, created_at)
			SELECT 'old-' || i, '`+account+`', 'e', 'p', '', '[]', 'pending', '', `+at+`, `+at+` FROM `+series,
		`INSERT INTO authorizations (id, account_id, identifier_type, identifier_value, wildcard, status, expires, token, attempted, attempts, thumbprint, created_at)
			SELECT 'old-' || i, '`+account+`', 'dns', 'a.test', `+map[bool]string{true: "0", false: "false"}[url[:7] == "sqlite:"]+`, 'pending', `+at+`, '', '', 0, '', `+at+` FROM `+series,
		`INSERT INTO order_authorizations (order_id, position, authorization_id) SELECT 'old-' || i, 0, 'old-' || i FROM `+series)
}
