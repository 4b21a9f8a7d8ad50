package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestIssuers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		r := store.IssuerRecord{ID: "web-1", Name: "web", Generation: 1, State: "active", ParentID: "root", Certificate: []byte{1, 2},
			Subject: "CN=Web", NotAfter: base, RevocationSeq: 0, CreatedAt: base}
		noErr(t, s.PutIssuer(ctx, r, event("issuer.installed")))
		number, err := s.NextCRLNumber(ctx, "web-1", base, 0)
		if err != nil || number != base.UnixMilli() {
			t.Fatalf("first number %d, %v", number, err)
		}
		if again, err := s.NextCRLNumber(ctx, "web-1", base.Add(-time.Hour), 0); err != nil || again != number+1 {
			t.Fatalf("number after %d is %d, %v", number, again, err)
		}
		r.State = "draining"
		wantKind(t, s.PutIssuer(ctx, r), fault.Conflict) // what happened since stands
		noErr(t, s.MoveIssuer(ctx, "web-1", "active", "draining", event("issuer.draining")))
		got, err := s.Issuer(ctx, "web-1")
		noErr(t, err)
		r.LastCRLNumber, r.NotAfter, r.CreatedAt = number+1, cut(base), cut(base)
		if diff := cmp.Diff(r, *got); diff != "" {
			t.Errorf("stored issuer (-want +got):\n%s", diff)
		}
		putIssuer(t, s, "a-1")
		if all, err := s.Issuers(ctx); err != nil || len(all) != 2 || all[0].ID != "a-1" {
			t.Errorf("issuers %v, %v", all, err)
		}
		_, err = s.Issuer(ctx, "none")
		wantNotFound(t, err)
		_, err = s.NextCRLNumber(ctx, "none", base, 0)
		wantKind(t, err, fault.NotFound)
	})
}

func cut(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func TestCertificateRoundTrip(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		c := newCertificate("order:1", "a.example.test", "B.example.test")
		noErr(t, s.Reserve(ctx, c, nil, event("certificate.intent")))
		want := c
		want.Status = "reserved"
		want.NotBefore, want.NotAfter, want.ReservedAt = cut(c.NotBefore), cut(c.NotAfter), cut(c.ReservedAt)
		got, err := s.CertificateByID(ctx, c.ID)
		noErr(t, err)
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("reserved (-want +got):\n%s", diff)
		}
		noErr(t, s.Complete(ctx, c.ID, []byte("der"), base, event("certificate.issued")))
		at := cut(base)
		want.Status, want.DER, want.TBS, want.IssuedAt = "issued", []byte("der"), nil, &at
		for name, read := range map[string]func() (*store.Certificate, error){
			"serial": func() (*store.Certificate, error) { return s.CertificateBySerial(ctx, c.IssuerID, c.Serial) },
			"origin": func() (*store.Certificate, error) { return s.CertificateByOrigin(ctx, "order:1") },
		} {
			got, err := read()
			noErr(t, err)
			if diff := cmp.Diff(want, *got); diff != "" {
				t.Errorf("by %s (-want +got):\n%s", name, diff)
			}
		}
		wantKind(t, s.Complete(ctx, c.ID, []byte("other"), base, event("x")), fault.Conflict)
		wantKind(t, s.Abandon(ctx, c.ID, false, event("x")), fault.Conflict)
		_, err = s.CertificateByID(ctx, "none")
		wantNotFound(t, err)
		_, err = s.CertificateBySerial(ctx, "other-ca", c.Serial)
		wantNotFound(t, err)
		wantNotFound(t, s.Abandon(ctx, "none", false, event("x")))
	})
}

func TestReserveRefusesATakenOriginAndSerial(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		first := newCertificate("order:1", "a.test")
		noErr(t, s.Reserve(ctx, first, nil, event("certificate.intent")))
		wantKind(t, s.Reserve(ctx, newCertificate("order:1", "a.test"), nil, event("certificate.intent")), fault.Conflict)
		same := newCertificate("order:2", "a.test")
		same.Serial = first.Serial
		wantKind(t, s.Reserve(ctx, same, nil, event("certificate.intent")), fault.Conflict)
		if _, err := s.CertificateByOrigin(ctx, "order:2"); err == nil {
			t.Error("a refused reservation left its origin behind")
		}
		same.IssuerID = "ca-2" // serials are unique for an issuer
		noErr(t, s.Reserve(ctx, same, nil, event("certificate.intent")))
		if heads, err := s.AuditHeads(ctx); err != nil || heads[0].Seq != 2 {
			t.Errorf("audit heads %v, %v: want the two intents and nothing else", heads, err)
		}
	})
}

func TestAbandonAndVoid(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		noErr(t, s.CreateEAB(ctx, store.EABKey{KID: "k", HMAC: []byte{1}, MaxUses: 1, CreatedAt: base}, event("eab.created")))
		claims := []store.Claim{{Kind: "eab", ID: "k"}}
		for i, void := range []bool{false, true, false} {
			c := newCertificate("order:1", "a.test")
			noErr(t, s.Reserve(ctx, c, claims, event("certificate.intent")))
			wantKind(t, s.Reserve(ctx, newCertificate("order:2"), claims, event("certificate.intent")), fault.Denied)
			if _, err := s.CertificateByOrigin(ctx, "order:2"); err == nil {
				t.Fatal("a reservation without its claim left an origin")
			}
			noErr(t, s.Abandon(ctx, c.ID, void, event("certificate.abandoned")))
			got, err := s.CertificateByID(ctx, c.ID)
			noErr(t, err)
			if void {
				if got.Status != "void" || got.Revocation == nil || got.Revocation.Reason != pki.CessationOfOperation || got.Revocation.Seq != 1 {
					t.Errorf("round %d: void is %s, %+v", i, got.Status, got.Revocation)
				}
			} else if got.Status != "abandoned" || got.Revocation != nil {
				t.Errorf("round %d: abandoned is %s, %+v", i, got.Status, got.Revocation)
			}
			_, err = s.CertificateByOrigin(ctx, "order:1")
			wantNotFound(t, err)
		}
		if key, err := s.EAB(ctx, "k"); err != nil || key.Uses != 0 {
			t.Errorf("uses after giving back: %+v, %v", key, err)
		}
		if err := s.Reserve(ctx, newCertificate("order:3"), []store.Claim{{Kind: "magic", ID: "x"}}, event("x")); err == nil {
			t.Error("a claim of an unknown kind was taken")
		}
	})
}

func TestReserved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		for i, node := range []string{"a", "b", "a"} {
			c := newCertificate(fmt.Sprint("order:", i))
			c.Node, c.ReservedAt = node, base.Add(time.Duration(i)*time.Minute)
			noErr(t, s.Reserve(ctx, c, nil, event("certificate.intent")))
		}
		issue(t, s, newCertificate("order:issued"))
		for _, q := range []struct {
			node  string
			after time.Duration
			want  int
		}{{"a", time.Hour, 2}, {"b", time.Hour, 1}, {"", time.Hour, 3}, {"", 90 * time.Second, 2}, {"", 0, 0}} {
			got, err := s.Reserved(ctx, q.node, base.Add(q.after))
			if err != nil || len(got) != q.want {
				t.Errorf("Reserved(%q, +%s) = %d, %v; want %d", q.node, q.after, len(got), err, q.want)
			}
		}
	})
}

func TestX14_Revoke(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		c := issue(t, s, newCertificate("order:1", "a.test"))
		reserved := newCertificate("order:2")
		noErr(t, s.Reserve(ctx, reserved, nil, event("certificate.intent")))
		r := store.Revocation{Reason: pki.Superseded, RevokedAt: base, Requester: "uid:0"}
		key := pki.KeyHash(c.KeyHash)
		noErr(t, s.Revoke(ctx, c.ID, r, false, event("certificate.revoked")))
		wantKind(t, s.Revoke(ctx, c.ID, r, false, event("x")), fault.AlreadyRevoked)
		wantKind(t, s.Revoke(ctx, reserved.ID, r, false, event("x")), fault.Conflict)
		wantNotFound(t, s.Revoke(ctx, "none", r, false, event("x")))
		if blocked, err := s.BlockedKey(ctx, key); blocked || err != nil {
			t.Errorf("key blocked: %t, %v", blocked, err)
		}
		invalid := base.Add(-time.Hour)
		up := store.Revocation{Reason: pki.KeyCompromise, RevokedAt: base.Add(time.Hour), InvalidityAt: &invalid, Requester: "account:1"}
		noErr(t, s.Revoke(ctx, c.ID, up, true, event("certificate.revoked")))
		wantKind(t, s.Revoke(ctx, c.ID, up, true, event("x")), fault.AlreadyRevoked)
		if blocked, err := s.BlockedKey(ctx, key); !blocked || err != nil {
			t.Errorf("key blocked after compromise: %t, %v", blocked, err)
		}
		got, err := s.CertificateByID(ctx, c.ID)
		noErr(t, err)
		at := cut(invalid)
		want := &store.Revocation{Reason: pki.KeyCompromise, RevokedAt: cut(base), InvalidityAt: &at, Seq: 2, Requester: "account:1"}
		if diff := cmp.Diff(want, got.Revocation); diff != "" {
			t.Errorf("revocation (-want +got):\n%s", diff)
		}
		if i, err := s.Issuer(ctx, "ca-1"); err != nil || i.RevocationSeq != 2 {
			t.Errorf("issuer's sequence %+v, %v", i, err)
		}
	})
}

func TestSearchCertificates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		for i, name := range []string{"a.example.test", "b.Example.test", "example.test", "notexample.test", "100%_sure.test"} {
			c := newCertificate(fmt.Sprint("order:", i), name)
			c.NotAfter, c.Profile, c.Subject = base.Add(time.Duration(i)*time.Hour), []string{"x", "y"}[i%2], fmt.Sprintf("CN=Person %c", 'A'+i)
			issue(t, s, c)
			if i == 3 {
				noErr(t, s.Revoke(ctx, c.ID, store.Revocation{RevokedAt: base}, false, event("x")))
			}
		}
		noErr(t, s.Reserve(ctx, newCertificate("order:r"), nil, event("x")))
		for name, q := range map[string]struct {
			search store.Search
			want   string // last characters of subjects, newest first
		}{
			"suffix":         {store.Search{Name: "*.example.test"}, "BA"},
			"substring":      {store.Search{Name: "EXAMPLE"}, "eDCBA"},
			"no wildcards":   {store.Search{Name: "0%_s"}, "E"},
			"percent":        {store.Search{Name: "%a%"}, ""},
			"subject":        {store.Search{Name: "person b"}, "B"},
			"profile":        {store.Search{Profile: "y"}, "DB"},
			"status":         {store.Search{Status: "reserved"}, "e"},
			"revoked":        {store.Search{Status: "revoked"}, "D"},
			"expires":        {store.Search{ExpiresAfter: base.Add(30 * time.Minute), ExpiresBefore: base.Add(150 * time.Minute)}, "CB"},
			"issuer":         {store.Search{Issuer: "ca-2"}, ""},
			"requester":      {store.Search{Requester: "account:1", Status: "issued"}, "ECBA"}, /* D is revoked */
			"several":        {store.Search{Name: "*.test", Profile: "x", ExpiresAfter: base.Add(time.Minute), Status: "issued"}, "EC"},
			"unknown serial": {store.Search{Serial: "ab"}, ""},
			"key":            {store.Search{Key: []byte("0123456789abcdef0123456789abcdef"), Profile: "y"}, "DB"},
			"another key":    {store.Search{Key: []byte("0")}, ""},
		} {
			var got strings.Builder
			found, _, err := s.SearchCertificates(ctx, q.search)
			for _, c := range found {
				got.WriteString(c.Subject[len(c.Subject)-1:])
			}
			if err != nil || got.String() != q.want {
				t.Errorf("%s: got %q, %v; want %q", name, got.String(), err, q.want)
			}
		}
	})
}

func TestSearchPages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		for i := range 25 {
			noErr(t, s.Reserve(ctx, newCertificate(fmt.Sprint("order:", i)), nil, event("x")))
		}
		seen := map[string]bool{}
		pages, after := 0, ""
		for {
			page, next, err := s.SearchCertificates(ctx, store.Search{Limit: 10, After: after})
			noErr(t, err)
			for _, c := range page {
				seen[c.ID] = true
			}
			// What comes in meanwhile neither repeats nor hides anything.
			noErr(t, s.Reserve(ctx, newCertificate(fmt.Sprint("late:", pages)), nil, event("x")))
			if pages++; next == "" {
				break
			}
			after = next
		}
		if pages != 3 || len(seen) != 25 {
			t.Errorf("%d pages with %d certificates, want 3 with 25", pages, len(seen))
		}
	})
}

// TestIssuerMoves: states move by compare-and-swap; an issuer's last certificate
// is found whatever became of it, unless its profile does not count.
func TestIssuerMoves(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "a-1")
		noErr(t, s.MoveIssuer(ctx, "a-1", "active", "draining", event("issuer.draining")))
		wantKind(t, s.MoveIssuer(ctx, "a-1", "active", "draining", event("issuer.draining")), fault.Conflict)
		named := store.IssuerChange{ID: "a-1", Name: "web", Generation: 2, Shards: 4, From: "draining", To: "draining"}
		fewer, gone := named, named
		fewer.Shards, gone.ID = 2, "none"
		noErr(t, s.ChangeIssuers(ctx, nil, []store.IssuerChange{named, fewer}))
		moved := named
		moved.To = "retired"
		wantKind(t, s.ChangeIssuers(ctx, nil, []store.IssuerChange{moved, gone}), fault.Conflict) // all or nothing
		if got, err := s.Issuer(ctx, "a-1"); err != nil || got.State != "draining" || got.Name != "web" ||
			got.Generation != 2 || got.CRLShards != 4 {
			t.Errorf("issuer %+v, %v", got, err)
		}
		if last, err := s.LastNotAfter(ctx, "a-1", ""); err != nil || !last.IsZero() {
			t.Errorf("an issuer without certificates: %v, %v", last, err)
		}
		first, second := newCertificate("order:1", "a.example.test"), newCertificate("order:2", "b.example.test")
		second.Profile, second.NotAfter = "ocsp-signing", first.NotAfter.Add(time.Hour)
		for _, c := range []store.Certificate{first, second} {
			noErr(t, s.Reserve(ctx, c, nil, event("certificate.intent")))
		}
		for leftOut, want := range map[string]time.Time{"ocsp-signing": first.NotAfter, "": second.NotAfter} {
			if last, err := s.LastNotAfter(ctx, first.IssuerID, leftOut); err != nil || !last.Equal(cut(want)) {
				t.Errorf("without %q: %v, %v, want %v", leftOut, last, err, want)
			}
		}
		below := store.IssuerRecord{
			ID: "below", Name: "below", Generation: 1, State: "offline", ParentID: first.IssuerID, Certificate: []byte("below"), Subject: "CN=Below",
			NotAfter: second.NotAfter.Add(time.Hour), CreatedAt: base,
		}
		noErr(t, s.PutIssuer(ctx, below))
		if last, err := s.LastNotAfter(ctx, first.IssuerID, ""); err != nil || !last.Equal(cut(below.NotAfter)) {
			t.Errorf("with a CA below: %v, %v, want %v", last, err, below.NotAfter)
		}
	})
}
