package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func revocation(reason pki.Reason, after time.Duration) store.Revocation {
	return store.Revocation{Reason: reason, RevokedAt: base.Add(after), Requester: "uid:0"}
}

// allReasons are those that a revocation may carry.
var allReasons = []pki.Reason{
	pki.Unspecified, pki.KeyCompromise, pki.CACompromise, pki.AffiliationChanged, pki.Superseded,
	pki.CessationOfOperation, pki.CertificateHold, pki.PrivilegeWithdrawn,
}

// TestC8_ReasonsThatFollowOneAnother tries every pair, one by one and in bulk.
func TestC8_ReasonsThatFollowOneAnother(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		for _, first := range allReasons {
			for _, second := range allReasons {
				for _, bulk := range []bool{false, true} {
					name := fmt.Sprintf("%s then %s, bulk %t", first, second, bulk)
					c := issue(t, s, newCertificate("order:"+name, "a.test"))
					noErr(t, s.Revoke(ctx, c.ID, revocation(first, 0), false, event("certificate.revoked")))
					var err error
					refusal := fault.AlreadyRevoked
					if bulk {
						err, refusal = s.RevokeAll(ctx, []store.Revocable{{ID: c.ID, IssuerID: c.IssuerID}},
							revocation(second, time.Hour), false, []store.Event{event("x")}), fault.Conflict
					} else {
						err = s.Revoke(ctx, c.ID, revocation(second, time.Hour), false, event("x"))
					}
					allowed := (first == pki.CertificateHold && second != first) || (second == pki.KeyCompromise && first != second)
					want := first
					if allowed {
						noErr(t, err)
						want = second
					} else {
						wantKind(t, err, refusal)
					}
					got, err := s.CertificateByID(ctx, c.ID)
					noErr(t, err)
					if r := got.Revocation; r == nil || r.Reason != want || !r.RevokedAt.Equal(cut(base)) {
						t.Errorf("%s: %+v, want %s since %s", name, r, want, base)
					}
				}
			}
		}
	})
}

func TestC8_HoldAndRelease(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		c := issue(t, s, newCertificate("order:1", "a.test"))
		state := func(want *store.Revocation, seq int64) {
			t.Helper()
			got, err := s.CertificateByID(ctx, c.ID)
			noErr(t, err)
			if diff := cmp.Diff(want, got.Revocation); diff != "" {
				t.Errorf("revocation (-want +got):\n%s", diff)
			}
			if i, err := s.Issuer(ctx, "ca-1"); err != nil || i.RevocationSeq != seq {
				t.Errorf("sequence %d, %v; want %d", i.RevocationSeq, err, seq)
			}
		}
		wantKind(t, s.Release(ctx, c.ID, base, event("x")), fault.Conflict)
		wantNotFound(t, s.Release(ctx, "none", base, event("x")))
		noErr(t, s.Revoke(ctx, c.ID, revocation(pki.CertificateHold, 0), false, event("certificate.revoked")))
		wantKind(t, s.Revoke(ctx, c.ID, revocation(pki.CertificateHold, 1), false, event("x")), fault.AlreadyRevoked)
		state(&store.Revocation{Reason: pki.CertificateHold, RevokedAt: cut(base), Seq: 1, Requester: "uid:0"}, 1)

		noErr(t, s.Release(ctx, c.ID, base.Add(time.Minute), event("certificate.hold_released")))
		wantKind(t, s.Release(ctx, c.ID, base, event("x")), fault.Conflict)
		state(nil, 2)
		if found, _, err := s.SearchCertificates(ctx, store.Search{Status: "issued"}); err != nil || len(found) != 1 {
			t.Errorf("a released certificate is not issued: %v %v", found, err)
		}

		// What was released is like new: it has a new date.
		noErr(t, s.Revoke(ctx, c.ID, revocation(pki.Superseded, time.Hour), false, event("certificate.revoked")))
		state(&store.Revocation{Reason: pki.Superseded, RevokedAt: cut(base.Add(time.Hour)), Seq: 3, Requester: "uid:0"}, 3)
		err := s.Release(ctx, c.ID, base, event("x"))
		wantKind(t, err, fault.Conflict)
		if !strings.Contains(fmt.Sprint(err), "superseded") {
			t.Errorf("the refusal does not say why: %v", err)
		}
	})
}

func TestC7_ReleasedHoldsAreKeptUntilABaseListWasMade(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		for i := range 3 {
			c := issue(t, s, newCertificate(fmt.Sprint("order:", i), "a.test"))
			noErr(t, s.Revoke(ctx, c.ID, revocation(pki.CertificateHold, 0), false, event("certificate.revoked")))
			if i < 2 {
				noErr(t, s.Release(ctx, c.ID, base, event("certificate.hold_released")))
			}
		}
		rows := func(want int) {
			t.Helper()
			if n := storetest.Count(t, url, `SELECT COUNT(*) FROM revocations`); n != want {
				t.Errorf("%d rows, want %d", n, want)
			}
		}
		rows(3)
		noErr(t, s.ForgetReleased(ctx, "ca-2", 100))
		noErr(t, s.ForgetReleased(ctx, "ca-1", 1))
		rows(3)
		noErr(t, s.ForgetReleased(ctx, "ca-1", 2)) // the first release
		rows(2)
		noErr(t, s.ForgetReleased(ctx, "ca-1", 100))
		rows(1)
	})
}

func TestRevokeAll(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		putIssuer(t, s, "ca-2")
		var certs []store.Revocable
		var events []store.Event
		for i := range 100 {
			c := newCertificate(fmt.Sprint("order:", i), "a.test")
			c.IssuerID, c.KeyHash = fmt.Sprint("ca-", 1+i%2), []byte(fmt.Sprintf("%032d", i/10))
			issue(t, s, c)
			certs, events = append(certs, store.Revocable{ID: c.ID, IssuerID: c.IssuerID, Serial: c.Serial}), append(events, event("certificate.revoked"))
		}
		early := base.Add(-24 * time.Hour)
		r := revocation(pki.KeyCompromise, 0)
		r.InvalidityAt = &early
		noErr(t, s.RevokeAll(ctx, nil, r, true, nil))
		noErr(t, s.RevokeAll(ctx, certs[:90], r, true, events[:90]))
		for _, id := range []string{"ca-1", "ca-2"} {
			if i, err := s.Issuer(ctx, id); err != nil || i.RevocationSeq != 1 {
				t.Errorf("%s: %+v, %v; want sequence 1", id, i, err)
			}
		}
		got, err := s.CertificateByID(ctx, certs[7].ID)
		noErr(t, err)
		notBefore := cut(base)
		if diff := cmp.Diff(&store.Revocation{Reason: pki.KeyCompromise, RevokedAt: cut(base), InvalidityAt: &notBefore, Seq: 1, Requester: "uid:0"}, got.Revocation); diff != "" {
			t.Errorf("revocation (-want +got):\n%s", diff)
		}
		if n := storetest.Count(t, url, `SELECT COUNT(*) FROM blocked_keys`); n != 9 {
			t.Errorf("%d keys are blocked, want 9", n)
		}

		// One that is revoked already: nothing happens, not even to the sequence.
		before, err := s.AuditHeads(ctx)
		noErr(t, err)
		wantKind(t, s.RevokeAll(ctx, certs[80:], r, true, events[80:]), fault.Conflict)
		wantKind(t, s.RevokeAll(ctx, []store.Revocable{{ID: "none", IssuerID: "ca-1"}}, r, true, events[:1]), fault.Conflict)
		after, err := s.AuditHeads(ctx)
		noErr(t, err)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("audit heads moved:\n%s", diff)
		}
		if n := storetest.Count(t, url, `SELECT COUNT(*) FROM revocations`); n != 90 {
			t.Errorf("%d revocations, want 90", n)
		}
		if i, err := s.Issuer(ctx, "ca-1"); err != nil || i.RevocationSeq != 1 {
			t.Errorf("sequence %+v, %v; want 1", i, err)
		}
	})
}

// TestRevocationsAtOnce lets two nodes revoke the same certificates, one by one
// and in bulk: each is revoked once, and no two states share a sequence wrongly.
func TestRevocationsAtOnce(t *testing.T) {
	nodes(t, func(t *testing.T, one, two *store.Store) {
		ctx := context.Background()
		putIssuer(t, one, "ca-1")
		var certs []store.Revocable
		for i := range 40 {
			c := issue(t, one, newCertificate(fmt.Sprint("order:", i), "a.test"))
			certs = append(certs, store.Revocable{ID: c.ID, IssuerID: c.IssuerID})
		}
		var won atomic.Int64
		var all sync.WaitGroup
		for _, s := range []*store.Store{one, two} {
			for _, c := range certs {
				all.Go(func() {
					switch err := s.Revoke(ctx, c.ID, revocation(pki.Superseded, 0), false, event("certificate.revoked")); {
					case err == nil:
						won.Add(1)
					case !fault.Is(err, fault.AlreadyRevoked):
						t.Error(err)
					}
				})
			}
			for part := range slices.Chunk(certs, 10) {
				all.Go(func() {
					switch err := s.RevokeAll(ctx, part, revocation(pki.Superseded, 0), false, make([]store.Event, len(part))); {
					case err == nil:
						won.Add(int64(len(part)))
					case !fault.Is(err, fault.Conflict):
						t.Error(err)
					}
				})
			}
		}
		all.Wait()
		if won.Load() != 40 {
			t.Errorf("%d revocations were accepted of 40 certificates", won.Load())
		}
		heads, err := one.AuditHeads(ctx)
		noErr(t, err)
		total := int64(0)
		for _, h := range heads {
			total += h.Seq
		}
		if total != 40*2+40 { // intent and result of each, and one revocation
			t.Errorf("%d audit events", total)
		}
	})
}

func TestMatches(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		noErr(t, s.PutIssuer(ctx, store.IssuerRecord{ID: "web-2", Name: "web", State: "active", Certificate: []byte{1}, NotAfter: base, CreatedAt: base}))
		names := [][]string{{"a.old.test"}, {"b.Old.test", "keep.test"}, {"old.test"}, {"c.old.test"}, {"100%_sure.test"}, {"d.old.test"}, {"e.old.test"}, {"f.old.test"}}
		ids := map[string]string{} // id to letter
		for i, n := range names {
			c := newCertificate(fmt.Sprint("order:", i), n...)
			letter := string(rune('a' + i))
			ids[c.ID] = letter
			c.Profile, c.Requester = []string{"x", "y"}[i%2], fmt.Sprint("account:", i%3)
			c.NotAfter, c.KeyHash = base.Add(time.Duration(i)*time.Hour), []byte(strings.Repeat(letter, 32))
			if i == 2 {
				c.IssuerID = "web-2"
			}
			issue(t, s, c)
			switch letter {
			case "f":
				noErr(t, s.Revoke(ctx, c.ID, revocation(pki.Superseded, 0), false, event("x")))
			case "g":
				noErr(t, s.Revoke(ctx, c.ID, revocation(pki.CertificateHold, 0), false, event("x")))
			case "h":
				noErr(t, s.Revoke(ctx, c.ID, revocation(pki.CertificateHold, 0), false, event("x")))
				noErr(t, s.Release(ctx, c.ID, base, event("x")))
			}
		}
		noErr(t, s.Reserve(ctx, newCertificate("order:reserved", "z.old.test"), nil, event("x")))
		now := base.Add(time.Minute) // a has expired
		for name, c := range map[string]struct {
			m    store.Match
			want string
		}{
			"all":              {store.Match{}, "bcdegh"},
			"hold":             {store.Match{Reason: pki.CertificateHold}, "bcdeh"},
			"compromise":       {store.Match{Reason: pki.KeyCompromise}, "bcdefgh"},
			"suffix":           {store.Match{NamePattern: "*.old.test"}, "bdgh"},
			"any case":         {store.Match{NamePattern: "*.OLD.test"}, "bdgh"},
			"whole name":       {store.Match{NamePattern: "old.test"}, "c"},
			"exact":            {store.Match{Name: "Old.Test"}, "c"},
			"both ends":        {store.Match{NamePattern: "?.old.*"}, ""},
			"middle":           {store.Match{NamePattern: "*ol*.test"}, "bcdgh"},
			"wildcards of SQL": {store.Match{NamePattern: "1__%"}, ""},
			"their characters": {store.Match{NamePattern: "*0%_s*"}, "e"},
			"issuer":           {store.Match{Issuer: "ca-1"}, "bdegh"},
			"issuer's name":    {store.Match{Issuer: "web"}, "c"},
			"profile":          {store.Match{Profile: "y"}, "bdh"},
			"protocol":         {store.Match{Protocol: "est"}, ""},
			"endpoint":         {store.Match{Endpoint: "default", Profile: "y"}, "bdh"},
			"requester":        {store.Match{Requester: "account:1"}, "beh"},
			"key":              {store.Match{Key: []byte(strings.Repeat("d", 32))}, "d"},
			"not after":        {store.Match{NotAfterFrom: base.Add(3 * time.Hour), NotAfterBefore: base.Add(6 * time.Hour)}, "de"},
			"issued":           {store.Match{IssuedBefore: base}, ""},
			"issued since":     {store.Match{IssuedFrom: base, Profile: "x"}, "ceg"},
			"name and pattern": {store.Match{Name: "keep.test", NamePattern: "*.test"}, "b"},
			"different names":  {store.Match{Name: "keep.test", NamePattern: "*.old.test"}, ""},
			"several":          {store.Match{NamePattern: "*.test", Profile: "y", NotAfterBefore: base.Add(4 * time.Hour)}, "bd"},
		} {
			c.m.Now = now
			if c.m.Reason == pki.Unspecified {
				c.m.Reason = pki.CessationOfOperation
			}
			var got strings.Builder
			for after := ""; ; { // pages of two
				page, next, err := s.Matches(ctx, c.m, after, 2)
				noErr(t, err)
				for _, r := range page {
					got.WriteString(ids[r.ID])
				}
				if next == "" {
					break
				}
				after = next
			}
			if got.String() != c.want {
				t.Errorf("%s: got %q, want %q", name, got.String(), c.want)
			}
			if n, err := s.CountMatches(ctx, c.m); err != nil || int(n) != len(c.want) {
				t.Errorf("%s: count %d, %v; want %d", name, n, err, len(c.want))
			}
			first, err := s.FirstMatches(ctx, c.m, 2)
			if err != nil || len(first) != min(2, len(c.want)) || (len(first) > 0 && ids[first[0].ID] != c.want[:1]) {
				t.Errorf("%s: first %v, %v", name, first, err)
			}
		}
	})
}

// TestMatchesWalksTheTable selects certificates that lie far apart among others,
// so that the walk takes several queries, of which some find nothing.
func TestMatchesWalksTheTable(t *testing.T) {
	url := storetest.SQLiteURL(t)
	s := storetest.Open(t, url, "node-1")
	ctx := context.Background()
	noErr(t, s.Migrate(ctx))
	const all, each = 70_000, 10_000
	storetest.Exec(t, url, fmt.Sprintf(`INSERT INTO certificates (id, issuer_id, serial, status, node, profile, profile_version, protocol, endpoint, requester,
		request_id, key_hash, subject, subject_lower, names, not_before, not_after, shard, lineage, origin, claims, reserved_at, issued_at)
		SELECT printf('%%08d', n), 'ca-1', printf('%%08x', n), 'issued', 'n', CASE WHEN n %% %d = 5 AND n NOT BETWEEN 20000 AND 59999 THEN 'rare' ELSE 'x' END, 'v', 'acme', '', '', '',
		x'00', '', '', '[]', 0, %d, 0, '', n, '[]', 0, 0
		FROM (WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < %d) SELECT n FROM s)`, each, base.Add(time.Hour).UnixMicro(), all-1),
		`INSERT INTO certificate_names (certificate_id, position, type, value, reversed) SELECT id, 0, 'dns', 'a.test', 'tset.a' FROM certificates`)
	for name, m := range map[string]store.Match{"no index": {Profile: "rare"}, "an index": {NamePattern: "*.test", Profile: "rare"}} {
		m.Reason, m.Now = pki.Superseded, base
		var got []string
		pages, empty := 0, 0
		for after := ""; ; pages++ {
			found, next, err := s.Matches(ctx, m, after, 2)
			noErr(t, err)
			for _, c := range found {
				got = append(got, c.ID)
			}
			if len(found) == 0 {
				empty++
			}
			if next == "" {
				break
			}
			after = next
		}
		if want := "00000005 00010005 00060005"; strings.Join(got, " ") != want || pages < 4 || empty == 0 {
			t.Errorf("%s: %v in %d pages, %d of them empty; want %s", name, got, pages, empty, want)
		}
		if n, err := s.CountMatches(ctx, m); err != nil || n != 3 {
			t.Errorf("%s: count %d, %v", name, n, err)
		}
		if first, err := s.FirstMatches(ctx, m, 3); err != nil || len(first) != 3 || first[2].ID != "00060005" {
			t.Errorf("%s: first %d, %v", name, len(first), err)
		}
	}
}
